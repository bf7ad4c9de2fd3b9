"""Queries to one engine at given times; one record of each.

Open loop (rates): queries arrive when they are due, whether or not earlier ones have ended, as those of independent
users do, and latency counts from when a query was due. In a closed loop a slow answer delays the next question, so a
stall is seen by one query instead of by all that would have come meanwhile ("coordinated omission"); it says how long
one answer takes with so many at a time, not what users of a busy service wait.

At the rate infinity a closed loop of as many queries as the engine has slots keeps its batch full: what a query costs
there is what it costs at best.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from agentark_core import strategies
from agentark_core.config import LoadConfig
from agentark_core.discussion import Discussion, Plan
from agentark_core.engines.base import Engine, EngineView, Request
from agentark_core.errors import EngineDied, EngineError
from agentark_core.load.query import Query, Status
from agentark_core.types import Generation, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of answering."""

    name: str
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One generation of a query; times of the event loop's clock."""

    round: int
    first_token: float | None
    end: float
    generation: Generation


class TimedEngine(EngineView):
    """The engine as one query sees it (discussion.Generates). Queries are served in the order in which they came.

    Attributes: calls (in the order of ending).
    """

    def __init__(self, engine: Engine, *, number: int) -> None:
        super().__init__(engine)
        self._number = number
        self.calls: list[Call] = []

    async def generate(self, request: Request) -> Generation:
        """Complete one prompt, and note when."""
        begun = _now()
        made = await self._engine.generate(replace(request, priority=self._number))
        first = None if made.ttft_s is None else begun + made.ttft_s
        self.calls.append(Call(round=request.round, first_token=first, end=_now(), generation=made))
        return made

    @property
    def tpot_s(self) -> float | None:
        """Mean over calls of the time per output token after the first."""
        each = [
            (call.end - call.first_token) / (call.generation.completion_tokens - 1)
            for call in self.calls
            if call.first_token is not None and call.generation.completion_tokens > 1
        ]
        return sum(each) / len(each) if each else None

    def first_token(self, end: float) -> float | None:
        """When the first token of the answer was there; end: when the query ended (see Query)."""
        if not self.calls:
            return None
        last = max(call.round for call in self.calls)
        deciding = [call for call in self.calls if call.round == last]
        return deciding[0].first_token if len(deciding) == 1 else end


def arrivals(number: int, *, rate: float, seed: int) -> list[float]:
    """When each query is due, in seconds: a Poisson process of so many queries a second, that begins with its first.

    Other rates stretch the same pattern.
    """
    gaps = np.random.default_rng(seed).exponential(1.0, size=max(number - 1, 0))
    return [0.0, *(np.cumsum(gaps) / rate).tolist()][:number]


async def run_load(
    method: Method,
    *,
    engine: Engine,
    problems: Sequence[Problem],
    config: LoadConfig,
    rate: float | None,
    slots: int = 1,
    seed: int = 0,
) -> list[Query]:
    """All queries of one method at one rate (see Query.rate), in the order of arrival, warm-up first.

    slots: queries at a time at the rate infinity, which has no warm-up. seed: of the arrivals. Questions are taken in
    order, and again from the first where there are too few. Raises EngineDied; any other error of an engine is the end
    of its query alone.
    """
    await engine.reset_prefix_cache()
    numbers = range(config.warmup if rate == inf else 0, config.warmup + config.queries)
    began = _now()

    async def ask(index: int, due: float) -> Query:
        return await _ask(
            method,
            engine=engine,
            problem=problems[index % len(problems)],
            number=index,
            rate=rate,
            began=began,
            due=due,
            config=config,
        )

    async def client(waiting: Iterator[int]) -> list[Query]:
        return [await ask(index, _now()) for index in waiting]

    async def user(index: int, due: float) -> list[Query]:
        await asyncio.sleep(due - _now())
        return [await ask(index, due)]

    if rate is None or rate == inf:
        waiting = iter(numbers)
        asked = [client(waiting) for _ in range(slots if rate else config.concurrency)]
    else:
        due_s = arrivals(len(numbers), rate=rate, seed=seed)
        asked = [user(index, began + due) for index, due in zip(numbers, due_s, strict=True)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asked]
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    queries = sorted((query for task in tasks for query in task.result()), key=lambda query: query.number)
    assert [query.number for query in queries] == list(numbers), "every query has its record"
    return queries


async def _ask(
    method: Method,
    *,
    engine: Engine,
    problem: Problem,
    number: int,
    rate: float | None,
    began: float,
    due: float,
    config: LoadConfig,
) -> Query:
    timed = TimedEngine(engine, number=number)
    # The same key at every rate: the same seeds, so the same answers are waited for.
    discussion = Discussion(
        problem,
        work_id=f"load-{number}",
        plan=method.plan,
        engine=timed,
        recorded={},
        on_turn=lambda turn: None,
    )
    strategy = strategies.load(method.plan.config.strategy)
    status: Status = "failed"
    sent, reason = _now(), ""
    try:
        async with asyncio.timeout(config.timeout_s):
            outcome = await strategy(discussion)
        status = "no_answer" if outcome.answer is None else "answered"
    except TimeoutError:
        reason = f"no end after {config.timeout_s:g} s"
    except EngineDied:
        raise
    except EngineError as error:
        reason = str(error)
    end = _now()
    first = timed.first_token(end)
    made = [call.generation for call in timed.calls]
    return Query(
        method=method.name,
        rate=rate,
        number=number,
        problem_id=problem.problem_id,
        counted=number >= config.warmup,
        arrival_s=due - began,
        sent_s=sent - began,
        first_token_s=None if first is None else first - began,
        end_s=end - began,
        tpot_s=timed.tpot_s,
        calls=len(made),
        prompt_tokens=sum(one.prompt_tokens for one in made),
        cached_tokens=sum(one.cached_tokens for one in made),
        completion_tokens=sum(one.completion_tokens for one in made),
        status=status,
        reason=reason,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
