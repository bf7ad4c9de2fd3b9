"""Labels of steps from rollouts: what is sampled, how it is counted, the ledger stage, and a real engine."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from debate_helpers import RUN, commit_debates, make_home, make_problem, make_turn, verify
from pydantic import ValidationError
from scripted import Scripted
from test_distil import Cli, imported

from agentark_core import extraction, process, question_filter, step_rollouts
from agentark_core.config import EngineConfig, ExamplesConfig, RolloutsConfig, SamplingConfig
from agentark_core.engines.base import Request
from agentark_core.errors import ConfigError, CorruptData, DataError
from agentark_core.extraction import ExtractJob
from agentark_core.ledger import Store
from agentark_core.rollouts import Begun, RolloutsSetup, go_on, setup, verified
from agentark_core.step_labels import exact_labels, rollout_labels
from agentark_core.step_rollouts import RolloutJob
from agentark_core.stored import parents
from agentark_core.types import Debate, Generation, Reached, Verdict, VerdictLabel
from agentark_core.verify import Verifier

SAMPLING = SamplingConfig(temperature=0.7, max_tokens=64)
BEGUN = Begun(question="Twice 3 + 4?", wording="general", gold="14", task="number", text="3 + 4 = 7\n")
SETUP = RolloutsSetup(
    config=RolloutsConfig.model_validate({"model": {"path": "m"}}), engine=EngineConfig(), revision="r"
)
CONFIG = ExamplesConfig(step_labels="rollouts", rollouts=SETUP.config)


class Ends(Scripted):
    """Sample n of a beginning ends as the n-th of these, whatever the beginning is."""

    def __init__(self, *ends: tuple[str, str], context: int = 100_000) -> None:
        super().__init__(lambda *_: "", context=context)
        self.ends, self.requests = ends, list[Request]()

    async def generate(self, request: Request) -> Generation:
        self.requests.append(request)
        text, finish = self.ends[request.agent - 1]
        return Generation(text=text, prompt_tokens=1, cached_tokens=0, completion_tokens=1, finish_reason=finish)


def solutions(engine: Ends, *begun: Begun, samples: int) -> list[tuple[str | None, ...]]:
    return asyncio.run(go_on(begun, engine=engine, samples=samples, sampling=SAMPLING))


def test_a_sample_is_the_whole_solution_or_says_how_it_ended() -> None:
    ends = [("7 * 2 = 14", "stop"), ("7 * 2 = ", "length"), ("and on", "repetition"), ("", "engine_poison")]
    engine = Ends(*ends)
    assert solutions(engine, BEGUN, samples=4) == [("3 + 4 = 7\n7 * 2 = 14", "", "", None)]
    last = engine.requests[0].prompt.messages[-1]
    assert last == {"role": "assistant", "content": "3 + 4 = 7\n"}
    assert len({request.seed for request in engine.requests}) == len({r.request_id for r in engine.requests}) == 4
    assert solutions(Ends(*ends, context=64), BEGUN, samples=1) == [(None,)], "over the context: nothing is asked"


def test_equal_beginnings_are_sampled_once_and_others_from_their_own_seeds() -> None:
    engine = Ends(("a", "stop"), ("b", "stop"))
    other = dataclasses.replace(BEGUN, gold="15")
    first, second, third = solutions(engine, BEGUN, BEGUN, other, samples=2)
    assert first == second == third and len(engine.requests) == 4
    assert len({request.seed for request in engine.requests}) == 4


def test_samples_are_verified_against_their_own_gold_and_lost_ones_do_not_count() -> None:
    right, wrong = "so it is \\boxed{14}", "so it is \\boxed{15}"
    other = dataclasses.replace(BEGUN, gold="15")
    with Verifier(workers=1) as verifier:
        found = verified(
            [BEGUN, other, BEGUN], [(right, right, wrong, "", None), (right, wrong), (None, None)], verifier=verifier
        )
    assert found == [Reached(right=2, decided=4), Reached(right=1, decided=2), Reached(right=0, decided=0)]


def test_a_step_is_not_wrong_because_the_rules_cannot_read_what_came_of_it() -> None:
    prose = dataclasses.replace(BEGUN, task="free_text", gold="It rained all day.")
    with Verifier(workers=1) as verifier:
        found = verified([prose, prose], [("It rained. \\boxed{Rain}", ""), ("", "")], verifier=verifier)
    assert found == [Reached(right=0, decided=0), Reached(right=0, decided=2)]


def test_a_chat_server_is_refused_before_any_work() -> None:
    endpoint = {"base_url": "http://127.0.0.1:9/v1", "max_model_len": 4096, "api": "chat"}
    engine = {"kind": "openai", "endpoint": endpoint}
    config = RolloutsConfig.model_validate({"model": {"path": "some/model"}, "engine": engine})
    with pytest.raises(ConfigError, match="cannot go on from the middle of one; set engine.endpoint.api: completions"):
        setup(config)


TEXT = "3 + 4 = 7\n7 * 2 = 14\n14 - 0 = 14\n\\boxed{14}"


@pytest.mark.parametrize("correct", [True, False])
def test_a_step_is_right_if_any_sample_comes_to_the_answer_and_the_last_has_the_verdict(correct: bool) -> None:
    reached = [Reached(right=3, decided=4), Reached(right=0, decided=8), Reached(right=0, decided=0)]
    labels = rollout_labels(TEXT, reached, correct=correct)
    assert [(step.label, step.soft, step.reason) for step in labels] == [
        (True, 0.75, "reached"),
        (False, 0.0, "unreached"),
        (None, None, "no_rollout"),
        (correct, float(correct), "reached" if correct else "unreached"),
    ]
    assert "".join(TEXT[step.start : step.end] for step in labels) == TEXT
    with pytest.raises(ValueError, match="shorter|longer"):
        rollout_labels(TEXT, reached[1:], correct=correct)


PROBLEM = make_problem(1, gold=14)
WRONG = "3 + 4 = 8\n8 * 2 = 16\n\\boxed{16}"
DEBATE = Debate(
    work_id=f"w-{PROBLEM.problem_id}",
    problem=PROBLEM,
    turns=tuple(
        make_turn(PROBLEM, round=round, agent=agent, answer=1 if text else None, text=text)
        for round, agent, text in [(1, 1, WRONG), (1, 2, TEXT), (2, 1, TEXT), (2, 2, "")]
    ),
    stop_reason="rounds",
)


@pytest.mark.parametrize(("how", "label"), [("rollouts", 1.0), ("soft_rollouts", 0.25)])
def test_process_rows_have_these_labels_and_their_negatives(how: Any, label: float) -> None:
    turns = dataclasses.replace(DEBATE, turns=DEBATE.turns[:2])
    marks: list[VerdictLabel] = ["incorrect", "correct"]
    verdicts = {
        turn.key: Verdict(label=mark, method="number", extracted="1")
        for turn, mark in zip(turns.turns, marks, strict=True)
    }
    few = Reached(right=1, decided=4)
    rollouts = {
        turns.turns[0].key: [Reached(right=0, decided=4)] * 2,
        turns.turns[1].key: [few, Reached(right=4, decided=4), Reached(right=0, decided=0)],
    }
    config = CONFIG.model_copy(update={"step_labels": how})
    table, counts = process.build(
        [turns], verdicts, config=config, wording="general", source_fingerprint="f", rollouts=rollouts
    )
    wrong, right = table.to_pylist()
    assert (right["labels"], right["weights"]) == ([label, 1.0, 0.0, 1.0], [1, 1, 0, 1])
    assert (wrong["labels"], wrong["weights"]) == ([0.0, 0.0, 0.0], [1, 1, 1])
    # A step that one sample of four comes on from is positive as a hard label, and no positive of Eq. 7 as a soft one.
    assert [len(found) for found in right["negatives"]] == [int(how == "rollouts"), 1, 0, 1]
    assert (counts["positive"], counts["silent"]) == (3 if how == "rollouts" else 2, 1)


def home_of(folder: Path) -> Path:
    store = make_home(folder, [PROBLEM])
    commit_debates(store, "00000", [DEBATE])
    verify(folder, "00000", [DEBATE])
    return folder


def rollout_job(home: Path, config: ExamplesConfig = CONFIG) -> RolloutJob:
    return RolloutJob(home=home, debates=RUN, judge=None, config=config, rollouts=SETUP.key)


def extract_job(home: Path, config: ExamplesConfig = CONFIG) -> ExtractJob:
    dropped = question_filter.dropped_questions(home, runs=[RUN], tests=[])
    key = SETUP.key if config.rollouts else None
    return ExtractJob(
        home=home, debates=RUN, dropped=dropped.fingerprint, config=config, wording="general", rollouts=key
    )


def parents_of(job: RolloutJob) -> dict[str, str]:
    return parents(job.home, debates=job.debates, verdicts=job.verdicts, shard="00000")


def counted(asked: list[str]) -> Callable[[Sequence[Begun]], list[Reached]]:
    def reach(begun: Sequence[Begun]) -> list[Reached]:
        asked.extend(one.text for one in begun)
        return [Reached(right=int("7" in one.text), decided=2) for one in begun]

    return reach


def test_every_beginning_of_a_trace_with_a_verdict_is_reached_once_and_kept(tmp_path: Path) -> None:
    job, asked = rollout_job(home_of(tmp_path)), list[str]()
    counts = step_rollouts.roll_out(job, "00000", reach=counted(asked), parents=parents_of(job))
    lines = TEXT.splitlines(keepends=True)
    assert asked == [
        "3 + 4 = 8\n", "3 + 4 = 8\n8 * 2 = 16\n", *("".join(lines[:n]) for n in (1, 2, 3)),
    ]  # fmt: skip
    assert counts == {"traces": 3, "beginnings": 5, "samples_decided": 10, "samples_right": 3}
    found = step_rollouts.read(job.store, "00000")
    right, wrong = Reached(right=1, decided=2), Reached(right=0, decided=2)
    assert {key[1:]: reached for key, reached in found.items()} == {
        (1, 1): [wrong] * 2, (1, 2): [right] * 3, (2, 1): [right] * 3,
    }  # fmt: skip
    extracted = extract_job(tmp_path)
    extraction.extract_shard(extracted, "00000")
    rows = extracted.store("process").read().to_pylist()
    assert [row["labels"] for row in rows] == [[0.0, 0.0, 0.0], [1.0] * 4]
    extraction.check_totals(extracted)


def test_only_process_rows_depend_on_rollouts(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    by_evidence, by_rollouts = extract_job(home, ExamplesConfig()), extract_job(home)
    other = dataclasses.replace(by_rollouts, rollouts={**SETUP.key, "model": "s"})
    for kind in extraction.KINDS:
        names = {job.store(kind).fingerprint for job in (by_evidence, by_rollouts, other)}
        assert len(names) == (3 if kind == "process" else 1), kind
    last_round = CONFIG.model_copy(update={"negatives": "nearest"})
    soft = CONFIG.model_copy(update={"step_labels": "soft_rollouts"})
    assert rollout_job(home, soft).store.fingerprint == rollout_job(home).store.fingerprint, "sampled once for both"
    assert rollout_job(home, last_round).store.fingerprint != rollout_job(home).store.fingerprint


def test_what_an_interrupted_stage_has_journaled_is_not_sampled_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(step_rollouts, "CHUNK", 2)
    job, asked = rollout_job(home_of(tmp_path)), list[str]()

    def dies(begun: Sequence[Begun]) -> list[Reached]:
        if asked:
            raise KeyboardInterrupt
        return counted(asked)(begun)

    with pytest.raises(KeyboardInterrupt):
        step_rollouts.roll_out(job, "00000", reach=dies, parents=parents_of(job))
    with pytest.raises(DataError, match="rollouts-.*00000 is not committed"):
        extraction.extract_shard(extract_job(tmp_path), "00000")
    assert len(asked) == 2 and not job.store.entries()
    step_rollouts.roll_out(job, "00000", reach=counted(asked), parents=parents_of(job))
    assert len(asked) == len(set(asked)) == 5 and job.store.entries()["00000"].rows == 3
    step_rollouts.roll_out(job, "00000", reach=dies, parents=parents_of(job))


def test_a_long_step_is_gone_on_with_behind_its_last_word(tmp_path: Path) -> None:
    sentence = "Then we add three and four, which is seven, and go on with it. "
    text = sentence * 20 + "\\boxed{14}"
    home, turn = tmp_path, make_turn(PROBLEM, round=1, agent=1, answer=14, text=text)
    store = make_home(home, [PROBLEM])
    debate = dataclasses.replace(DEBATE, turns=(turn,))
    commit_debates(store, "00000", [debate])
    verify(home, "00000", [debate])
    ((_, begun),) = step_rollouts.beginnings(rollout_job(home), "00000")
    assert begun and all(one.text.endswith("with it.") and text.startswith(one.text) for one in begun)


def test_rollouts_of_other_debates_are_refused(tmp_path: Path) -> None:
    job = rollout_job(home_of(tmp_path))
    step_rollouts.roll_out(job, "00000", reach=counted([]), parents=parents_of(job))
    store = Store(tmp_path, stage="debates", fingerprint=RUN)
    (store.root / "manifest" / "00000.json").unlink()
    commit_debates(store, "00000", [dataclasses.replace(DEBATE, stop_reason="quorum")])
    with pytest.raises(CorruptData, match="rollouts-.* came from other debates"):
        extraction.extract_shard(extract_job(tmp_path), "00000")


@pytest.mark.parametrize(
    ("examples", "error"),
    [
        ({"step_labels": "rollouts"}, "needs the model that goes on"),
        ({"rollouts": {"model": {"path": "m"}}}, "uses no rollouts"),
        (
            {"step_labels": "rollouts", "rollouts": {"model": {"path": "m"}, "sampling": {"temperature": 0}}},
            "all samples are alike",
        ),
        (
            {
                "step_labels": "rollouts",
                "rollouts": {"model": {"path": "m"}, "engine": {"kind": "replay", "replay": "0" * 16}},
            },
            "recorded generations cannot go on",
        ),
    ],
)
def test_settings_that_cannot_work_say_what_to_change(examples: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        ExamplesConfig.model_validate(examples)


@pytest.mark.slow
def test_a_real_engine_goes_on_from_every_step_and_knows_right_from_wrong(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = {
        "run": {"name": "test", "home": str(home)},
        "traces": [imported(home, tmp_path / "debates.jsonl")],
        "prompts": "arkling",
        "examples": {
            "step_labels": "soft_rollouts",
            "rollouts": {
                "model": {"path": "arkling:teacher", "prompts": "arkling"},
                "engine": {"kv_cache_gib": 0.25, "max_num_seqs": 64, "num_cpus": 1},
                "samples": 4,
                "sampling": {"max_tokens": 128},
            },
        },
    }
    agentark("run", "extract", config)
    (stage,) = (home / "ledger").glob("rollouts-*")
    store = Store(home, stage="rollouts", fingerprint=stage.name.removeprefix("rollouts-"))
    totals = [entry.meta["counts"] for entry in store.entries().values()]
    assert sum(counts["traces"] for counts in totals) == 48
    decided = sum(counts["samples_decided"] for counts in totals)
    assert decided == 4 * sum(counts["beginnings"] for counts in totals)
    (folder,) = (home / "ledger").glob("process-*")
    rows = Store(home, stage="process", fingerprint=folder.name.removeprefix("process-")).read().to_pylist()
    shares: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        question, text = row["prompt"][0]["content"], "".join(row["completions"])
        exact = exact_labels(text, question=question)
        wrong_before = False
        for step, label in list(zip(exact, row["labels"], strict=True))[:-1]:
            wrong_before |= not step.label
            shares[not wrong_before].append(label)
    right, wrong = (sum(found) / len(found) for found in (shares[True], shares[False]))
    assert right > wrong + 0.3, (right, wrong, {key: len(found) for key, found in shares.items()})
