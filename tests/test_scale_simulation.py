"""The discrete-event simulation against cases that can be worked out by hand."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from scale_simulation import AUTHORS, BOARD, FLOWING, OURS, Parameters, barrier_occupancy, simulate

from agentark_core.bill import Sizes, question_bill

ALGORITHMS = (AUTHORS, BOARD, FLOWING, OURS)
FIXED = Parameters(sigma_question=0.0, sigma_trace=0.0, trace=1000, questions=64, shard_size=8, block=1)


def test_one_sequence_at_a_time_takes_the_sum_of_its_steps() -> None:
    p = replace(FIXED, questions=1, num_agents=1, num_rounds=1, slots=1, agree=(1.0,))
    run = simulate(p, OURS, engines=1, seed=0)
    seconds = 1000 * (p.step_s + p.sequence_s + p.context_s * (150 + 500)) + 150 * p.prefill_s
    assert run["wall_hours"] * 3600 == pytest.approx(seconds)
    assert (run["generations"], run["running"]) == (1, pytest.approx(1, rel=0.01))


@pytest.mark.parametrize("layout", ["authors", "board"])
def test_prefilled_and_decoded_tokens_are_those_of_the_bill(layout: str) -> None:
    algorithm = AUTHORS if layout == "authors" else replace(FLOWING, name="board, no stop")
    run = simulate(FIXED, algorithm, engines=2, seed=0)
    sizes = Sizes(question=150, trace=1000, shown=1000, suffix=0 if layout == "authors" else 40)
    bill = question_bill(layout, num_agents=5, ended=(0, 0, 1), sizes=sizes)  # type: ignore[arg-type]
    assert run["generations"] == 64 * bill.turns
    assert run["decoded"] == pytest.approx(64 * bill.decode)
    # Whole-set rounds keep no block of an earlier round; the agents of a round still share the question.
    shared = 64 * 3 * 4 * 150
    # The summariser's prompt ends with the suffix, which the authors' bill leaves out.
    expected = 64 * (bill.prompt + 40) - shared if layout == "authors" else 64 * bill.prefill
    assert run["prefilled"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: each.name)
def test_every_question_is_debated_to_its_end_on_any_number_of_engines(algorithm: object) -> None:
    runs = [simulate(replace(FIXED, questions=100), algorithm, engines=m, seed=0) for m in (1, 3, 40)]  # type: ignore[arg-type]
    assert len({run["generations"] for run in runs}) == 1
    assert len({round(run["decoded"]) for run in runs}) == 1
    assert runs[0]["wall_hours"] > runs[1]["wall_hours"]


def test_questions_stop_as_often_as_they_agree() -> None:
    p = replace(FIXED, questions=4000, agree=(0.5, 0.4, 0.3), slots=64, kv_tokens=math.inf)
    run = simulate(p, OURS, engines=1, seed=0)
    turns = question_bill(
        "board",
        num_agents=5,
        ended=(0.5, 0.2, 0.3),
        sizes=Sizes(question=150, trace=1000, shown=1000, suffix=40),
        summariser=0.5 * 0.6 * 0.7,
    ).turns
    assert run["generations"] == pytest.approx(4000 * turns, rel=0.03)


def test_sequences_wait_for_memory_and_the_board_holds_more_of_them() -> None:
    p = replace(FIXED, questions=256, kv_tokens=50_000)
    few, more = (simulate(p, each, engines=1, seed=0)["running"] for each in (AUTHORS, BOARD))
    assert few < 20 < more
    assert simulate(replace(p, slots=4), BOARD, engines=1, seed=0)["running"] <= 4


def test_time_with_nothing_waiting_is_tail() -> None:
    p = replace(FIXED, questions=20, num_rounds=1, slots=100, kv_tokens=math.inf, prefill_s=0.0)
    assert simulate(p, replace(FLOWING, summariser="never"), engines=1, seed=0)["tail"] == pytest.approx(1)
    p = replace(p, questions=2000, shard_size=256)
    long = simulate(p, replace(FLOWING, summariser="never"), engines=1, seed=0)
    assert long["tail"] == pytest.approx(1 / 100, abs=0.005)
    starved = simulate(replace(p, shard_size=8), replace(FLOWING, summariser="never"), engines=1, seed=0)
    assert starved["tail"] == 1  # two shards of eight questions never fill a hundred slots


def test_a_barrier_leaves_the_slots_of_short_traces_empty() -> None:
    assert barrier_occupancy(Parameters(), sigma=0.0, seed=0) == pytest.approx(255 / 256, abs=0.01)
    assert 0.15 < barrier_occupancy(Parameters(), sigma=0.6, seed=0) < 0.35


def test_a_seed_gives_the_same_run_and_algorithms_share_their_questions() -> None:
    p = replace(Parameters(), questions=200)
    first, second = (simulate(p, OURS, engines=2, seed=3) for _ in range(2))
    assert {**first, "simulated_in_s": 0} == {**second, "simulated_in_s": 0}
    assert simulate(p, AUTHORS, engines=2, seed=3)["decoded"] == pytest.approx(
        simulate(p, FLOWING, engines=2, seed=3)["decoded"]
    )
