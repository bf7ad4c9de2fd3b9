"""The selector in flows: its ledger stage, when its engines start, what extraction takes from it, and a real engine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from debate_helpers import RUN, Submitted, commit_debates, make_debate, make_home, verify

from agentark_core import extraction, question_filter
from agentark_core.cluster import ray_pool
from agentark_core.config import EngineConfig, ExamplesConfig, SelectorConfig
from agentark_core.errors import CorruptData, DataError
from agentark_core.extraction import ExtractJob
from agentark_core.judging import SelectJob
from agentark_core.ledger import Store
from agentark_core.selections import SelectionJob
from agentark_core.selector import Picked, SelectorSetup
from agentark_core.types import Debate
from flows import debate_stage, extraction_stage
from tasks import extract_tasks

SELECTOR = SelectorSetup(
    config=SelectorConfig.model_validate({"model": {"path": "m"}}), engine=EngineConfig(), revision="r"
)
CONFIG = ExamplesConfig(selector=SELECTOR.config)
PATHS = ("3 + 4 = 7, 7 * 2 = 14", "3 * 2 = 6, 4 * 2 = 8, 6 + 8 = 14", "so 3 + 4 = 7 and 7 * 2 = 14")


def solved(number: int, *texts: str) -> Debate:
    """A debate in which the agents of the one round wrote these texts, all with the right answer 14."""
    debate = make_debate(number, [[14] * len(texts)], gold=14)
    turns = tuple(
        dataclasses.replace(turn, text=f"{text}. So it is \\boxed{{14}}.")
        for turn, text in zip(debate.turns, texts, strict=True)
    )
    question = " ".join(f"{word}{number}" for word in ("apples", "boxes", "crates", "drums", "eggs"))  # no repeat
    return dataclasses.replace(debate, turns=turns, problem=dataclasses.replace(debate.problem, question=question))


ALIKE = solved(0, PATHS[0], PATHS[0])
ALONE = make_debate(1, [[14, 3]], gold=14)
SPLIT, OTHER = solved(2, *PATHS), solved(3, *PATHS[1:])


class Pool:
    """Engines that choose the last two traces, or fail; keeps the jobs."""

    def __init__(self, *, by: str = "llm", fails: bool = False) -> None:
        self.by, self.fails = by, fails
        self.jobs: list[SelectJob] = []

    def __call__(self, **_: Any) -> Pool:
        return self

    __enter__ = start = stop = lambda self, *_: self  # type: ignore[assignment]

    def __exit__(self, *_: Any) -> None:
        pass

    def select(self, job: SelectJob) -> list[Picked]:
        if self.fails and self.jobs:
            raise KeyboardInterrupt
        self.jobs.append(job)
        sizes = [len(choice.traces) for choice in job.choices]
        return [Picked(places=(size - 2, size - 1), by=self.by, reason="") for size in sizes]  # type: ignore[arg-type]


def home_of(folder: Path, *shards: Sequence[Debate]) -> Path:
    store = make_home(folder, *([debate.problem for debate in shard] for shard in shards))
    for number, shard in enumerate(shards):
        commit_debates(store, f"{number:05d}", shard)
        verify(folder, f"{number:05d}", shard)
    return folder


def selection_job(home: Path) -> SelectionJob:
    return SelectionJob(home=home, debates=RUN, judge=None, limit=3, selector=SELECTOR.key)


def run_stage(monkeypatch: pytest.MonkeyPatch, home: Path, pool: Pool) -> None:
    monkeypatch.setattr(ray_pool, "engine_pool", pool)
    monkeypatch.setattr(extraction_stage, "select_shard", Submitted(extract_tasks.select_shard.fn))
    monkeypatch.setattr(debate_stage, "as_completed", iter)
    extraction_stage._select_all([selection_job(home)], selector=SELECTOR)


def extract_job(home: Path, config: ExamplesConfig = CONFIG) -> ExtractJob:
    dropped = question_filter.dropped_questions(home, runs=[RUN], tests=[])
    selector = SELECTOR.key if config.selector else None
    return ExtractJob(
        home=home, debates=RUN, dropped=dropped.fingerprint, config=config, wording="general", selector=selector
    )


def test_only_augmentation_gets_another_fingerprint(tmp_path: Path) -> None:
    home = home_of(tmp_path, [SPLIT])
    by_rules, by_llm = extract_job(home, ExamplesConfig()), extract_job(home)
    other = dataclasses.replace(by_llm, selector={**SELECTOR.key, "model": "s"})
    for kind in extraction.KINDS:
        names = {job.store(kind).fingerprint for job in (by_rules, by_llm, other)}
        assert len(names) == (3 if kind == "augmentation" else 1), kind
    assert set(by_llm.store("augmentation").config) - set(by_rules.store("augmentation").config) == {"selections"}
    assert "selector" not in by_llm.store("augmentation").config["options"]


def test_no_engine_starts_where_nothing_is_to_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = home_of(tmp_path, [ALIKE, ALONE])

    def refuse(**_: Any) -> None:
        raise AssertionError("an engine started")

    run_stage(monkeypatch, home, refuse)  # type: ignore[arg-type]
    assert selection_job(home).store.entries()["00000"].rows == 0
    assert extraction.extract_shard(extract_job(home), "00000")["augmentation"] == 1
    counts = extraction.totals(extract_job(home), "augmentation")["counts"]
    assert not any(name.startswith("selector") for name in counts) and counts["k1"] == 1


@pytest.mark.parametrize(("by", "figure"), [("llm", "llm"), ("retried", "retried"), ("rules", "fallback")])
def test_the_chosen_turns_become_examples_and_every_candidate_has_a_fate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str, figure: str
) -> None:
    home, pool = home_of(tmp_path, [ALIKE, ALONE, SPLIT, OTHER]), Pool(by=by)
    run_stage(monkeypatch, home, pool)
    (asked,) = pool.jobs
    assert [choice.traces for choice in asked.choices] == [
        tuple(turn.text for turn in debate.turns) for debate in (SPLIT, OTHER)
    ]
    job = extract_job(home)
    extraction.extract_shard(job, "00000")
    rows = job.store("augmentation").read().to_pylist()
    assert [(row["problem_id"], row["agent"], row["weight"]) for row in rows] == [
        (ALIKE.problem.problem_id, 1, 1.0),
        (SPLIT.problem.problem_id, 2, 0.5),
        (SPLIT.problem.problem_id, 3, 0.5),
        (OTHER.problem.problem_id, 1, 0.5),
        (OTHER.problem.problem_id, 2, 0.5),
    ]
    assert extraction.totals(job, "augmentation")["counts"] == {
        "candidates": 9, "kept": 5, "duplicate": 1, "near_duplicate": 0, "few_correct": 1, "incorrect": 1,
        "same_structure": 1, "corrective": 0, "k1": 1, "k2": 2, f"selector_{figure}": 2,
    }  # fmt: skip


def test_a_killed_stage_goes_on_with_the_shards_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = home_of(tmp_path, [SPLIT], [OTHER])
    with pytest.raises(KeyboardInterrupt):
        run_stage(monkeypatch, home, Pool(fails=True))
    store = selection_job(home).store
    first = store.entry("00000")
    assert first is not None and store.entry("00001") is None
    with pytest.raises(DataError, match="selections-.*00001 is not committed"):
        extraction.extract_shard(extract_job(home), "00001")
    again = Pool()
    run_stage(monkeypatch, home, again)
    assert len(again.jobs) == 1 and store.entry("00000") == first and store.entry("00001") is not None
    finished = Pool()
    run_stage(monkeypatch, home, finished)
    assert not finished.jobs


def test_selections_of_other_debates_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = home_of(tmp_path, [SPLIT, OTHER])
    run_stage(monkeypatch, home, Pool())
    store = Store(home, stage="debates", fingerprint=RUN)
    (store.root / "manifest" / "00000.json").unlink()
    commit_debates(store, "00000", [SPLIT])
    with pytest.raises(CorruptData, match="selections-.* came from other debates"):
        extraction.extract_shard(extract_job(home), "00000")


@pytest.mark.slow
def test_a_real_engine_selects_once_and_extraction_uses_it(tmp_path: Path, flow_environment: dict[str, str]) -> None:
    from tiny_models import make

    make("qwen3", tmp_path / "model")
    debates = [
        solved(number, *(f"{number} + {n} = {number + n}, {PATHS[n % 3]}" for n in range(4))) for number in range(40)
    ]
    home = home_of(tmp_path / "home", debates[:20], debates[20:])
    script = Path(__file__).with_name("selection_stage_run.py")
    done = subprocess.run(
        [sys.executable, str(script), str(home), str(tmp_path / "model")],
        env={**flow_environment, "PYTHONPATH": f"{script.parent.parent}:{script.parent}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    rows, counts = result["selections"], result["counts"]
    assert result["starts"] == 1 and len(rows) == 40
    assert all(1 <= len({turn["agent"] for turn in row["turns"]}) == len(row["turns"]) <= 3 for row in rows)
    made = {by: sum(row["by"] == by for row in rows) for by in ("llm", "retried", "rules")}
    assert made["llm"] > 0, [row["reason"] for row in rows]
    assert {"a number twice", ""} >= {part for row in rows for part in row["reason"].split("; ")}, "replies are JSON"
    names = {"llm": "selector_llm", "retried": "selector_retried", "rules": "selector_fallback"}
    assert {by: counts.get(name, 0) for by, name in names.items()} == made
    assert counts["kept"] == sum(len(row["turns"]) for row in rows) == result["rows"]
