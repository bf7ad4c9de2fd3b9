"""The sides that are compared: questions discussed by the stage itself, or by the authors' schedule, on one engine."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentark_core import problems, prompts, records
from agentark_core.config import DebateConfig, ProblemsConfig
from agentark_core.discussion import Discussion, Generates, Plan
from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.engines.base import Engine
from agentark_core.ledger import Store
from agentark_core.shards import ShardJob, run_shard
from agentark_core.strategies.debate import debate
from agentark_core.types import Debate, Problem

from .engines import WholeSetRounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side did: its debates and its seconds."""

    debates: tuple[Debate, ...]
    seconds: float

    @property
    def questions_per_s(self) -> float:
        """Finished questions a second."""
        return len(self.debates) / self.seconds


def questions(limit: int, *, offset: int = 0) -> tuple[Problem, ...]:
    """Arkling test questions."""
    return problems.load(ProblemsConfig(split="test", limit=limit, offset=offset), seed=0).problems


def plan(config: DebateConfig) -> Plan:
    """How the benchmarks discuss."""
    return Plan(config=config, wording="arkling", base_seed=0)


async def discuss(problem: Problem, *, how: DebateConfig, engine: Generates) -> Debate:
    """One question, nothing stored."""
    discussion = Discussion(
        problem,
        work_id=problem.problem_id,
        plan=plan(how),
        engine=engine,
        recorded={},
        on_turn=lambda turn: None,
    )
    return discussion.debate(await debate(discussion))


async def whole_set(asked: Sequence[Problem], *, how: DebateConfig, engine: Engine) -> Side:
    """All questions of a round before the next round starts; all requests of a round at once to the engine."""
    assert how.quorum == 0 and how.summariser == "always", "every question holds every round"
    barrier = WholeSetRounds(engine, questions=len(asked), width=how.num_agents)
    start = time.monotonic()
    done = await asyncio.gather(*(discuss(problem, how=how, engine=barrier) for problem in asked))
    return Side(debates=tuple(done), seconds=time.monotonic() - start)


async def in_chunks(asked: Sequence[Problem], *, how: DebateConfig, engine: Engine, size: int) -> Side:
    """`size` questions at a time, each at its own pace; the next ones start when all of them are done."""
    start = time.monotonic()
    done: list[Debate] = []
    for first in range(0, len(asked), size):
        chunk = asked[first : first + size]
        done += await asyncio.gather(*(discuss(problem, how=how, engine=engine) for problem in chunk))
    return Side(debates=tuple(done), seconds=time.monotonic() - start)


async def seated(asked: Sequence[Problem], *, how: DebateConfig, engine: Engine, slots: int) -> Side:
    """Ours without the ledger: every question at its own pace, admitted as slots get free."""
    with tempfile.TemporaryDirectory() as folder:
        dispatcher = _dispatcher(engine, slots=slots)
        run = dispatcher.run(Path(folder), Caps())

        async def one(problem: Problem) -> Debate:
            async with dispatcher.seat(run, width=how.num_agents) as seat:
                return await discuss(problem, how=how, engine=seat)

        start = time.monotonic()
        done = await asyncio.gather(*(one(problem) for problem in asked))
        return Side(debates=tuple(done), seconds=time.monotonic() - start)


async def stage(asked: Sequence[Problem], *, how: DebateConfig, engine: Engine, slots: int, shards: int = 1) -> Side:
    """Ours: the stage as an engine actor runs it, with leases, journals, fsync, Parquet commits and the watchdog."""
    with tempfile.TemporaryDirectory() as folder:
        home, size = Path(folder), -(-len(asked) // shards)
        store = Store(home, stage="debates", fingerprint="bench", config={})
        dispatcher = _dispatcher(engine, slots=slots)
        watch = asyncio.create_task(dispatcher.watch())
        jobs = [
            ShardJob(
                home=home,
                fingerprint="bench",
                shard=f"{number:05d}",
                problems=tuple(asked[number * size : (number + 1) * size]),
                plan=plan(how),
                dataset_revision="bench",
                teacher_revision="bench",
                prompt_hash=prompts.prompt_hash(),
                config_hash="bench",
                lease_timeout_s=60,
            )
            for number in range(shards)
        ]
        start = time.monotonic()
        await asyncio.gather(*(run_shard(job, dispatcher=dispatcher, caps=Caps()) for job in jobs))
        seconds = time.monotonic() - start
        watch.cancel()
        by_id = {problem.problem_id: problem for problem in asked}
        done = tuple(records.table_to_debates(store.read(), problems=by_id))
    assert len(done) == len(asked)
    return Side(debates=done, seconds=seconds)


def _dispatcher(engine: Engine, *, slots: int) -> Dispatcher:
    def die(reason: str) -> None:
        raise SystemExit(reason)

    return Dispatcher(engine, slots=slots, stall_timeout_s=120, die=die)
