"""Queries under load: a scripted engine in virtual time, against values by hand."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from scripted import boxed

from agentark_core.config import DebateConfig, LoadConfig
from agentark_core.discussion import Plan
from agentark_core.engines.base import Prompt, Request
from agentark_core.errors import EngineDied, EngineError
from agentark_core.load.drive import Method, arrivals, run_load
from agentark_core.load.query import Query
from agentark_core.load.summary import summarise
from agentark_core.types import Generation, Message, Problem

PROBLEMS = [
    Problem(problem_id=f"p-{number}", dataset="t", task="number", question=f"{number} + 0?", gold=str(number))
    for number in range(6)
]
SINGLE = {"num_agents": 1, "num_rounds": 1, "quorum": 0, "summariser": "never"}


class _Clock(selectors.SelectSelector):
    """Time passes only while everything waits, and then at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Clock()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def virtually(work: Coroutine[Any, Any, list[Query]]) -> list[Query]:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


class Server:
    """Serves `slots` requests at a time, in the order of asking; seconds(request) each, its first token after a
    quarter of them. A completion has 4 tokens."""

    max_model_len = 10_000

    def __init__(self, seconds: Callable[[Request], float] = lambda request: 1.0, *, slots: int = 1) -> None:
        self._seconds, self._slots = seconds, asyncio.Semaphore(slots)
        self.asked: list[Request] = []
        self.resets = 0

    def prompt(self, messages: list[Message]) -> Prompt:
        return Prompt(messages=tuple(messages), token_ids=(1,) * 7, length=7)

    async def generate(self, request: Request) -> Generation:
        now = asyncio.get_running_loop().time
        begun = now()
        self.asked.append(request)
        async with self._slots:
            seconds = self._seconds(request)
            await asyncio.sleep(seconds / 4)
            ttft_s = now() - begun
            await asyncio.sleep(3 * seconds / 4)
        return Generation(
            text=boxed(request.agent),
            prompt_tokens=7,
            cached_tokens=3,
            completion_tokens=4,
            finish_reason="stop",
            ttft_s=ttft_s,
        )

    async def reset_prefix_cache(self) -> None:
        self.resets += 1


def ask(
    server: Server, *, how: dict[str, Any] | None = None, rate: float | None = None, slots: int = 1, **load: Any
) -> list[Query]:
    method = Method(
        name="m", plan=Plan(config=DebateConfig.model_validate(how or SINGLE), wording="general", base_seed=0)
    )
    config = LoadConfig.model_validate({"warmup": 0, **load})
    engine: Any = server
    return virtually(run_load(method, engine=engine, problems=PROBLEMS, config=config, rate=rate, slots=slots, seed=3))


def test_arrivals_are_a_seeded_poisson_process_that_other_rates_stretch() -> None:
    times = arrivals(20_000, rate=4.0, seed=1)
    gaps = np.diff(times)
    assert times[0] == 0 and times == arrivals(20_000, rate=4.0, seed=1) != arrivals(20_000, rate=4.0, seed=2)
    assert abs(gaps.mean() - 0.25) < 4 * 0.25 / len(gaps) ** 0.5, "1 / rate, within four standard errors"
    assert abs(gaps.std() / gaps.mean() - 1) < 0.03, "the standard deviation of an exponential is its mean"
    assert np.allclose(np.array(arrivals(50, rate=1.0, seed=1)), 4 * np.array(times[:50]))
    assert arrivals(1, rate=2.0, seed=0) == [0.0] and arrivals(0, rate=2.0, seed=0) == []


def test_in_an_open_loop_queries_wait_as_the_recursion_of_a_queue_says() -> None:
    server = Server()
    queries = ask(server, rate=0.9, queries=12, warmup=3)
    due = arrivals(15, rate=0.9, seed=3)
    ends: list[float] = []
    for arrival in due:
        ends.append(max([arrival, *ends[-1:]]) + 1.0)  # Lindley: one server, one second each
    assert [query.arrival_s for query in queries] == pytest.approx(due)
    assert [query.end_s for query in queries] == pytest.approx(ends)
    assert [query.first_token_s for query in queries] == pytest.approx([end - 0.75 for end in ends])
    assert [query.tpot_s for query in queries] == pytest.approx([0.25] * 15), "0.75 s over the 3 tokens after the first"
    assert [query.counted for query in queries] == [False] * 3 + [True] * 12
    assert [query.problem_id for query in queries] == [f"p-{number % 6}" for number in range(15)]
    assert any(later.end_s - later.arrival_s > 1 for later in queries), "somebody had to wait"
    assert [request.priority for request in server.asked] == list(range(15)) and server.resets == 1


def test_in_a_closed_loop_the_next_query_begins_when_one_ends() -> None:
    queries = ask(Server(slots=2), queries=6, concurrency=2)
    assert [query.arrival_s for query in queries] == pytest.approx([0, 0, 1, 1, 2, 2])
    assert [query.end_s for query in queries] == pytest.approx([1, 1, 2, 2, 3, 3])
    assert all(query.rate is None for query in queries)


def test_a_full_batch_takes_the_questions_that_count_and_keeps_every_slot_at_work() -> None:
    server = Server(slots=3)
    queries = ask(server, rate=float("inf"), queries=6, warmup=2, slots=3)
    assert [query.number for query in queries] == [2, 3, 4, 5, 6, 7] and all(query.counted for query in queries)
    assert [query.end_s for query in queries] == pytest.approx([1, 1, 1, 2, 2, 2])
    (row,) = summarise(queries, LoadConfig(p95_ms=1))
    assert row.throughput == pytest.approx(3) and row.engine_seconds_per_1000 == pytest.approx(1_000 / 3)
    assert row.steady and not row.gates, "its latency is nobody's"


def test_a_stall_is_seen_by_all_that_were_due_meanwhile_and_by_one_of_a_closed_loop() -> None:
    def stall(request: Request) -> float:
        return 10.0 if request.work_id == "load-2" else 0.001

    slow = [sum(query.latency_s > 1 for query in ask(Server(stall), rate=rate, queries=40)) for rate in (2.0, None)]
    assert slow[0] > 10 and slow[1] == 1


def test_the_latency_of_a_vote_is_that_of_its_last_sample_and_so_is_its_first_token() -> None:
    server = Server(lambda request: float(request.agent), slots=9)
    (query,) = ask(server, how={"strategy": "self_consistency", "num_agents": 3}, queries=1)
    assert (query.end_s, query.first_token_s) == pytest.approx((3.0, 3.0))
    assert (query.calls, query.prompt_tokens, query.cached_tokens, query.completion_tokens) == (3, 21, 9, 12)
    assert query.tpot_s == pytest.approx((0.25 + 0.5 + 0.75) / 3)


def test_the_first_token_of_a_debate_is_the_summarisers_if_one_speaks() -> None:
    rounds = {"num_agents": 2, "num_rounds": 2, "quorum": 0}
    for summariser, first, end in (("always", 2.25, 3.0), ("never", 2.0, 2.0)):
        (query,) = ask(Server(slots=9), how={**rounds, "summariser": summariser}, queries=1)
        assert (query.first_token_s, query.end_s) == pytest.approx((first, end))


def test_an_error_or_a_timeout_is_the_end_of_its_query_alone_and_nothing_is_lost() -> None:
    def odd(request: Request) -> float:
        if request.work_id == "load-1":
            raise EngineError("HTTP 500")
        return 50.0 if request.work_id == "load-2" else 1.0

    queries = ask(Server(odd, slots=9), queries=5, timeout_s=20)
    assert [query.status for query in queries] == ["answered", "failed", "failed", "answered", "answered"]
    assert [query.reason for query in queries[1:3]] == ["HTTP 500", "no end after 20 s"]
    assert queries[2].end_s - queries[2].arrival_s == pytest.approx(20) and queries[2].latency_s == float("inf")
    (row,) = summarise(queries, LoadConfig(queries=5))
    assert row.n == 5 == sum(row.statuses.values()) and row.statuses == {"answered": 3, "failed": 2}


def test_a_dead_engine_is_the_end_of_all() -> None:
    def dead(request: Request) -> float:
        raise EngineDied("gone")

    with pytest.raises(EngineDied, match="gone"):
        ask(Server(dead), rate=1.0, queries=5)
