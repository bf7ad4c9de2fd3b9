"""Estimates: the arithmetic on synthetic debates, the comparison on a committed ledger, and one real run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from subprocess import CompletedProcess
from typing import Any

import pytest

from agentark_core import estimate, estimate_compare, estimate_view, prompts, records
from agentark_core.cli import app
from agentark_core.config import BuildTracesConfig
from agentark_core.engine_time import Speed, sample_speed, wall_seconds
from agentark_core.errors import ConfigError, DataError
from agentark_core.ledger import Store
from agentark_core.types import Debate, Generation, Problem, Turn
from agentark_core.usage import Usage, usage_folder

SPEED = Speed(tokens_per_s=1000, full_batch=True, seconds=10)
LOWER = Speed(tokens_per_s=1000, full_batch=False, seconds=10)


def config(**debate: Any) -> BuildTracesConfig:
    return BuildTracesConfig.model_validate(
        {
            "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
            "debate": {"num_agents": 3, "num_rounds": 2, "summariser": "when_split", **debate},
            "engine": {"num_engines": 2},
        }
    )


def facts(*, questions: int, how: BuildTracesConfig | None = None, shards: int = 4) -> estimate.RunFacts:
    return estimate.RunFacts(
        run="run", sample="sample", dataset="words", questions=questions, shards=shards, config=how or config()
    )


def debate(number: int, *, rng: random.Random, agree: bool, num_agents: int = 3) -> Debate:
    """A board debate whose token counts are its prompts' characters."""
    problem = Problem(
        problem_id=f"words-{number}", dataset="words", task="number", question=f"What is {number} + 1?", gold="1"
    )
    turns: list[Turn] = []

    def speak(round: int, agent: int, answer: str, *, prompt: str, role: Any = "agent") -> Turn:
        text = "step\n" * rng.randint(5, 20) + f"The answer is {answer}."
        turn = Turn(
            work_id=f"{number:032d}",
            problem_id=problem.problem_id,
            round=round,
            agent=agent,
            seed=0,
            text=text,
            answer=answer,
            prompt_tokens=len(prompt),
            cached_tokens=len(prompt) // 2,
            completion_tokens=len(text),
            finish_reason="stop",
            status="ok",
            role=role,
        )
        turns.append(turn)
        return turn

    agents = range(1, num_agents + 1)
    first = prompts.first_answer(problem.question, wording="arkling")[0]["content"]
    last = [speak(1, agent, "1" if agree else str(agent), prompt=first) for agent in agents]
    if not agree:
        shown, answers = {t.agent: t.text for t in last}, {t.agent: t.answer for t in last}
        for agent in agents:
            (message,) = prompts.debate_turn(
                problem.question, [shown], answers=[answers], agent=agent, layout="board", wording="arkling"
            )
            speak(2, agent, str(agent), prompt=message["content"])
        speak(3, 0, "1", prompt=message["content"], role="summariser")
    return Debate(
        work_id=f"{number:032d}",
        problem=problem,
        turns=tuple(turns),
        stop_reason="consensus" if agree else "rounds",
        answer="1",
    )


def debates(count: int, *, seed: int = 0) -> list[Debate]:
    rng = random.Random(seed)
    return [debate(number, rng=rng, agree=rng.random() < 0.4) for number in range(count)]


# ---- arithmetic


def test_t_quantiles_are_those_of_the_table() -> None:
    for freedom, quantile in {4: 2.776, 9: 2.262, 19: 2.093, 100: 1.984, 10_000: 1.960}.items():
        assert estimate.t_quantile(freedom) == pytest.approx(quantile, abs=0.01)


def test_a_total_by_hand() -> None:
    # mean 4, s = 2, n = 3 of N = 12: 48 +- t(2) * 12 * 2 * sqrt((1 - 1/4) / 3)
    figure = estimate.total([2, 4, 6], questions=12)
    assert figure.value == 48
    assert figure.high - 48 == pytest.approx(estimate.t_quantile(2) * 12)
    assert figure.low == 12  # what the sample alone came to
    assert estimate.total([2, 4, 6], questions=3) == estimate.Figure(value=12, low=12, high=12)


def test_intervals_of_random_samples_hold_the_truth_nineteen_times_in_twenty() -> None:
    rng = random.Random(0)
    population = [rng.lognormvariate(5, 0.5) for _ in range(1000)]
    figures = [estimate.total(rng.sample(population, 20), questions=1000) for _ in range(1000)]
    assert 0.92 <= fmean(f.low <= sum(population) <= f.high for f in figures) <= 0.97


def test_counts_put_each_turn_in_its_round_and_in_all() -> None:
    both = estimate.counts(debate(1, rng=random.Random(0), agree=False))
    assert {group: row["turns"] for group, row in both.items()} == {
        "round 1": 3,
        "round 2": 3,
        "summariser": 1,
        "all": 7,
    }
    parts = [both[group]["prompt_tokens"] for group in ("round 1", "round 2", "summariser")]
    assert both["all"]["prompt_tokens"] == sum(parts)


def test_a_sample_of_everything_predicts_exactly() -> None:
    sample = debates(40)
    made = estimate.predict(sample, facts=facts(questions=40), speed=SPEED)
    tokens = sum(turn.completion_tokens for each in sample for turn in each.turns)
    assert made["rounds"]["all"]["completion_tokens"] == {"value": tokens, "low": tokens, "high": tokens}
    assert made["figures"]["engine_hours"]["value"] == pytest.approx(tokens / 1000 / 3600)
    assert made["figures"]["wall_hours"]["value"] == pytest.approx(tokens / 1000 / 3600 / 2)


def test_a_batch_that_was_not_full_gives_upper_bounds_only() -> None:
    figure = estimate.predict(debates(20), facts=facts(questions=2000), speed=LOWER)["figures"]["engine_hours"]
    assert figure["low"] == 0 < figure["value"] < figure["high"]


def test_one_shard_keeps_one_engine_busy() -> None:
    figures = estimate.predict(debates(20), facts=facts(questions=200, shards=1), speed=SPEED)["figures"]
    assert figures["wall_hours"] == figures["engine_hours"]


def test_prices_of_an_endpoint_become_a_cost() -> None:
    how = config().model_dump()
    prices = {"price_prompt": 2.0, "price_cached": 1.0, "price_completion": 4.0}
    how["engine"] |= {"kind": "openai", "endpoint": {"base_url": "http://127.0.0.1:1/v1", **prices}}
    sample = debates(10)
    made = estimate.predict(sample, facts=facts(questions=10, how=BuildTracesConfig.model_validate(how)), speed=SPEED)
    row = {name: figure["value"] for name, figure in made["rounds"]["all"].items()}
    cost = 2 * row["prompt_tokens"] - row["cached_tokens"] + 4 * row["completion_tokens"]
    assert made["figures"]["cost"]["value"] == pytest.approx(cost / 1e6)


def test_measured_sizes_are_those_of_the_prompts() -> None:
    made = estimate.predict(debates(40), facts=facts(questions=400), speed=SPEED)
    # Each solution stands under "Solution 1:\n", on a line of its own, and its answer is listed once more: +15.
    assert made["sizes"]["shown"] == pytest.approx(made["sizes"]["trace"] + 15, rel=0.1)
    own = [row for row in made["paper"] if (row["num_agents"], row["num_rounds"], row["layout"]) == (3, 2, "board")]
    tokens = made["rounds"]["all"]
    assert own[0]["prompt"] * 400 == pytest.approx(tokens["prompt_tokens"]["value"], rel=0.02)
    assert own[0]["decode"] * 400 == pytest.approx(tokens["completion_tokens"]["value"], rel=0.02)
    assert own[0]["turns"] * 400 == pytest.approx(tokens["turns"]["value"])


def test_strategies_that_hold_no_debate_have_no_paper() -> None:
    sample = [debate(number, rng=random.Random(number), agree=True) for number in range(5)]
    for how in ({"strategy": "self_consistency"}, {"num_agents": 1}):
        made = estimate.predict(sample, facts=facts(questions=50, how=config(**how)), speed=SPEED)
        assert "paper" not in made
        assert "On paper" not in estimate_view.render(made)


def test_a_larger_draw_contains_a_smaller_one_and_another_seed_draws_others() -> None:
    ids = [f"p-{number}" for number in range(500)]
    small, large = estimate.draw(ids, questions=20, seed=0), estimate.draw(reversed(ids), questions=60, seed=0)
    assert small == large[:20]
    assert len(set(small) & set(estimate.draw(ids, questions=20, seed=1))) < 10


def test_tables_fit_one_hundred_columns() -> None:
    text = estimate_view.render(estimate.predict(debates(20), facts=facts(questions=342_000), speed=LOWER))
    assert max(map(len, text.splitlines())) <= 100
    assert "at most" in text and "--fill" in text


# ---- a ledger


def commit(home: Path, sample: list[Debate], *, fingerprint: str, shard_size: int, replayed: int = 0) -> Store:
    problems = Store(home, stage="problems", fingerprint=f"{fingerprint}-p", config={})
    store = Store(home, stage="debates", fingerprint=fingerprint, config={"problems": f"{fingerprint}-p"})
    for start in range(0, len(sample), shard_size):
        part, shard = sample[start : start + shard_size], f"{start // shard_size:05d}"
        with problems.lease(shard, timeout_s=60) as lease:
            table = records.problems_to_table([each.problem for each in part])
            problems.commit(shard, table, lease=lease, config_hash="")
        with store.lease(shard, timeout_s=60) as lease, store.journal(shard) as journal:
            journal.append(asdict(turn) for each in part for turn in each.turns)
            journal.sync()
            tokens = sum(turn.completion_tokens for each in part for turn in each.turns)
            meta = {
                "questions": len(part),
                "replayed_turns": replayed,
                "seconds": 2.0,
                "completion_tokens": tokens,
            }
            store.commit(shard, records.debates_to_table(part), lease=lease, config_hash="", meta=meta)
    return store


def use(store: Store, *, seconds: float, started: str, ended: str, full: tuple[float, float] = (0, 0)) -> None:
    """A usage file; full is (seconds, tokens) with a full batch."""
    usage = Usage(store.root)
    usage_folder(store.root).mkdir(exist_ok=True)
    usage.engine_seconds, usage.slots = seconds, 8
    usage.slot_seconds, usage.full_tokens = 8 * full[0], full[1]
    usage.add_generation(
        Generation(text="", prompt_tokens=0, cached_tokens=0, completion_tokens=600, finish_reason="stop"), round=1
    )
    usage.save(
        usage.snapshot() | {"started_at": f"2026-01-01T{started}+00:00", "updated_at": f"2026-01-01T{ended}+00:00"}
    )


def test_journal_bytes_are_those_on_disk(tmp_path: Path) -> None:
    sample = debates(30)
    store = commit(tmp_path, sample, fingerprint="run", shard_size=10)
    actual = sum(path.stat().st_size for path in (store.root / "journals").glob("*.journal"))
    assert sum(map(estimate.journal_bytes, sample)) == actual


def test_parquet_of_many_shards_is_predicted_from_a_few_questions(tmp_path: Path) -> None:
    population = debates(600)
    store = commit(tmp_path, population, fingerprint="run", shard_size=150)
    actual = sum((store.root / entry.file).stat().st_size for entry in store.entries().values())
    made = estimate.predict(population[:40], facts=facts(questions=600, shards=4), speed=SPEED)
    assert made["figures"]["parquet_bytes"]["value"] == pytest.approx(actual, rel=0.25)


def test_speed_is_that_of_the_full_batch_if_there_was_one(tmp_path: Path) -> None:
    sample = debates(10)
    store = commit(tmp_path, sample, fingerprint="sample", shard_size=10)
    tokens = sum(turn.completion_tokens for each in sample for turn in each.turns)
    assert sample_speed(store) == Speed(tokens_per_s=tokens / 2, full_batch=False, seconds=2.0)
    use(store, seconds=5, started="10:00:00", ended="10:00:05", full=(2, 900))
    assert not sample_speed(store).full_batch  # two seconds say too little
    use(store, seconds=5, started="10:00:00", ended="10:00:05", full=(4, 2100))
    assert sample_speed(store) == Speed(tokens_per_s=500, full_batch=True, seconds=6)


def test_a_sample_that_was_interrupted_is_timed_over_all_its_starts(tmp_path: Path) -> None:
    store = commit(tmp_path, debates(10), fingerprint="sample", shard_size=10, replayed=7)
    for _ in range(2):
        use(store, seconds=5, started="10:00:00", ended="10:00:05")
    assert sample_speed(store).seconds == 10


def test_wall_time_counts_what_engines_share_once(tmp_path: Path) -> None:
    store = commit(tmp_path, debates(2), fingerprint="run", shard_size=2)
    use(store, seconds=9, started="10:00:00", ended="10:00:10")
    use(store, seconds=9, started="10:00:05", ended="10:00:12")
    use(store, seconds=9, started="11:00:00", ended="11:00:03")
    assert wall_seconds(store.root) == 15


def test_a_finished_run_is_held_against_its_estimate(tmp_path: Path) -> None:
    population = debates(200)
    run = commit(tmp_path, population, fingerprint="run", shard_size=50)
    sample = commit(tmp_path, population[:20], fingerprint="sample", shard_size=20)
    use(run, seconds=90, started="10:00:00", ended="10:01:40")
    use(sample, seconds=8, started="09:00:00", ended="09:00:10", full=(5, 5000))
    made = estimate.predict(population[:20], facts=facts(questions=200), speed=sample_speed(sample))
    estimate.save(made, home=tmp_path)
    comparison = estimate_compare.compare(tmp_path, "run")
    lines = {line["name"]: line for line in comparison["lines"]}
    assert lines["all: turns"]["actual"] == sum(len(each.turns) for each in population)
    assert lines["round 1: turns"] | {"inside": True} == lines["round 1: turns"]
    assert lines["engine_hours"]["actual"] == pytest.approx(90 / 3600)
    assert lines["wall_hours"]["actual"] == pytest.approx(100 / 3600)
    text = estimate_view.render_comparison(comparison)
    assert max(map(len, text.splitlines())) <= 100


def test_time_of_a_sample_that_the_run_kept_belongs_to_the_run(tmp_path: Path) -> None:
    population = debates(20)
    run = commit(tmp_path, population, fingerprint="run", shard_size=20, replayed=9)
    sample = commit(tmp_path, population[:5], fingerprint="sample", shard_size=5)
    use(run, seconds=90, started="10:00:00", ended="10:01:40")
    use(sample, seconds=8, started="09:00:00", ended="09:00:10")
    assert estimate_compare.actual_figures(run, sample_root=sample.root)["engine_hours"] == pytest.approx(98 / 3600)


def test_a_run_that_has_not_finished_or_has_no_estimate_is_not_compared(tmp_path: Path) -> None:
    population = debates(20)
    with pytest.raises(ConfigError, match="no estimate under .*make one with"):
        estimate_compare.compare(tmp_path, "run")
    estimate.save(estimate.predict(population, facts=facts(questions=50), speed=SPEED), home=tmp_path)
    commit(tmp_path, population, fingerprint="run", shard_size=20)
    with pytest.raises(DataError, match="20 of 50 questions"):
        estimate_compare.compare(tmp_path, "run")


def test_the_command_takes_a_config_or_a_run(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    for arguments in ([], ["--config", "x.yaml", "--compare", "run"]):
        result = CliRunner().invoke(app, ["estimate", *arguments])
        assert isinstance(result.exception, ConfigError)
    missing = CliRunner().invoke(app, ["estimate", "--config", str(tmp_path / "none.yaml")])
    assert isinstance(missing.exception, ConfigError) and "no such config file" in str(missing.exception)


# ---- a real run


@pytest.mark.slow
def test_a_real_run_keeps_the_sample_and_is_compared(
    agentark: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    how = {
        "run": {"name": "bill", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": 100},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {"num_rounds": 2, "summariser": "when_split", "sampling": {"temperature": 0.9, "max_tokens": 128}},
        "engine": {"shard_size": 64, "kv_cache_gib": 0.125},
    }
    text = agentark("estimate", how, "--questions", "20", "--json", tmp_path / "estimate.json").stdout
    made = json.loads((tmp_path / "estimate.json").read_text())
    assert (made["questions"], made["sampled"]) == (100, 20)
    kept = int(re.search(r"(\d+) turns were kept", text)[1])  # type: ignore[index]
    assert f"run {made['run']}: 100 questions, predicted from 20" in agentark("run", "build-traces", how).stdout
    entries = Store(home, stage="debates", fingerprint=made["run"]).entries()
    assert sum(entry.meta["questions"] for entry in entries.values()) == 100
    assert sum(entry.meta["replayed_turns"] for entry in entries.values()) == kept > 100
    agentark("estimate", "--compare", made["run"], "--home", home, "--json", tmp_path / "compared.json")
    lines = {line["name"]: line for line in json.loads((tmp_path / "compared.json").read_text())["lines"]}
    assert lines["all: turns"]["actual"] == sum(entry.meta["turns"] for entry in entries.values())
    # 95 % intervals miss now and then; the batch changes float sums, so the same sample may differ between machines.
    rounds = [line for name, line in lines.items() if name.endswith("_tokens") or name.endswith("turns")]
    assert sum(line["inside"] for line in rounds) >= len(rounds) - 4
    assert lines["all: completion_tokens"]["actual"] == pytest.approx(lines["all: completion_tokens"]["value"], rel=0.3)
