"""What the benchmarks of debates count on: the barrier holds, lengths and counts are those that are documented."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from statistics import mean

import pytest
from scripted import PROBLEM, Scripted

from agentark_core.config import DebateConfig, SamplingConfig
from agentark_core.engines.base import Prompt, Request
from agentark_core.types import Generation, Message, Problem
from benchmarks.debate import barrier, figures, kill, prefill, runs
from benchmarks.debate.engines import Watched

HOW = DebateConfig(num_agents=2, num_rounds=3, quorum=0, sampling=SamplingConfig(max_tokens=8))


class Noting:
    """Answers every question alike, some faster than others, and notes begin and end of each round's requests."""

    max_model_len = 100_000
    tokens_made = 0

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []

    def prompt(self, messages: list[Message]) -> Prompt:
        return Prompt(messages=tuple(messages), token_ids=(), length=100)

    async def generate(self, request: Request) -> Generation:
        self.log.append(("begin", request.round))
        await asyncio.sleep(0.002 * int(request.problem_id[-1]))
        self.log.append(("end", request.round))
        return Generation(
            text="\\boxed{42}", prompt_tokens=100, cached_tokens=0, completion_tokens=8, finish_reason="stop"
        )

    async def close(self) -> None:
        pass


def asked(number: int) -> list[Problem]:
    return [replace(PROBLEM, problem_id=f"p-{index}") for index in range(number)]


def test_whole_set_rounds_begin_only_when_the_round_before_has_ended_everywhere() -> None:
    engine = Noting()
    side = asyncio.run(runs.whole_set(asked(4), how=HOW, engine=engine))
    assert [len(debate.turns) for debate in side.debates] == [7] * 4
    for round in (2, 3, 4):
        assert engine.log[: engine.log.index(("begin", round))].count(("end", round - 1)) == 4 * HOW.num_agents


def test_without_a_barrier_questions_run_ahead_of_each_other() -> None:
    engine = Noting()
    asyncio.run(runs.seated(asked(6), how=HOW, engine=engine, slots=4))
    assert engine.log.index(("begin", 3)) < max(i for i, event in enumerate(engine.log) if event == ("begin", 1))


def test_watched_counts_requests_in_the_engine() -> None:
    watched = Watched(Noting())
    asyncio.run(runs.in_chunks(asked(4), how=HOW, engine=watched, size=2))
    assert max(running for _, running in watched.trace) == 4
    assert watched.trace[-1][1] == 0
    assert len(watched.requests) == 4 * 7


def test_forced_lengths_follow_from_the_key_and_have_the_mean_that_was_asked_for() -> None:
    def request(question: int, agent: int) -> Request:
        prompt = Prompt(messages=(), token_ids=(), length=0)
        sampling = SamplingConfig()
        return Request(
            prompt=prompt, sampling=sampling, seed=0, work_id="w", problem_id=f"p-{question}", round=1, agent=agent
        )

    lengths = [barrier.lognormal(request(q, a), average=100) for q in range(2000) for a in range(5)]
    assert mean(lengths) == pytest.approx(100, rel=0.05)
    assert lengths[:5] == [barrier.lognormal(request(0, a), average=100) for a in range(5)]


def test_steps_are_seconds_over_step_time_and_slots_are_busy_in_steps_not_in_seconds() -> None:
    # One second with both slots busy at 1 ms a step, then half a second with one at 0.5 ms a step: 1,000 steps each.
    trace = [(0.0, 2), (1.0, 1), (1.5, 0)]
    total, busy = barrier.steps(trace, slots=2, a=0.0, b=0.0005)
    assert total == pytest.approx(2000)
    assert busy == pytest.approx(0.75)


def test_turns_in_flight_are_those_that_could_have_begun() -> None:
    after = {("w", round, agent): 10 for round in (1, 2) for agent in (1, 2)} | {("late", 1, 1): 50}
    before = {("w", 1, 1): 10, ("w", 1, 2): 10, ("w", 2, 1): 10}
    assert kill.in_flight(before, after, running=1) == 10
    assert kill.in_flight(before, after, running=2) == 10 + mean(after.values())
    assert kill.in_flight({("w", 1, 1): 10}, after, running=0) == 10, "round 2 cannot begin before round 1 is done"


def test_a_goal_is_met_by_the_median_on_its_side() -> None:
    assert figures.Figure(name="a", values=(1.0, 1.1, 9.0), goal=1.1).met is True
    assert figures.Figure(name="a", values=(1.0, 1.1, 9.0), goal=1.2, side=">=").met is False
    assert figures.Figure(name="a", values=(1.0,)).met is None


def test_expected_prefill_is_the_formula_of_the_debates_own_lengths() -> None:
    engine = Scripted(lambda round, agent: "1" * 992 + "\\boxed{7}")  # 1,000 tokens: one a character
    how = DebateConfig(num_agents=5, num_rounds=3, quorum=0, layout="board")
    debate = asyncio.run(runs.discuss(PROBLEM, how=how, engine=engine))
    board = next(turn.prompt_tokens for turn in debate.turns if turn.round == 2)
    question, shown = debate.turns[0].prompt_tokens, 1000 + prefill.HEADING
    suffix = board - question - 5 * shown
    perfect, blocks = prefill.expected(debate, layout="board", agents=5, trace=1000)
    assert perfect == pytest.approx(question + 2 * (5 * shown + 5 * suffix) + 5 * shown + suffix)
    assert blocks - perfect == pytest.approx(15 * 15.5)
