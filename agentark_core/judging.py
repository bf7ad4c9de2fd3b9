"""The judge, the selector and rollouts in an engine actor: cases of one shard, beside whatever else the engine does.

Nothing is journaled here: what is asked for and not committed, or journaled by who asks, is done again with the same
seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentark_core.config import SamplingConfig
from agentark_core.discussion import Generates
from agentark_core.dispatcher import Caps, Dispatcher, Run
from agentark_core.engines.base import EngineView, Request
from agentark_core.judge import JudgeCase, judge
from agentark_core.rollouts import Begun, Solutions, go_on
from agentark_core.selector import Choice, Picked, select
from agentark_core.types import Generation, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeJob:
    """What an engine actor needs. root: folder of the verdict store, where usage and engine deaths are written."""

    root: Path
    cases: tuple[JudgeCase, ...]
    votes: int
    sampling: SamplingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectJob:
    """The same for the selector; root is the folder of the selections."""

    root: Path
    choices: tuple[Choice, ...]
    sampling: SamplingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOnJob:
    """The same for rollouts; root is their folder."""

    root: Path
    begun: tuple[Begun, ...]
    samples: int
    sampling: SamplingConfig


async def run_judge(job: JudgeJob, *, dispatcher: Dispatcher) -> list[Verdict]:
    """One verdict a case, in order. Raises Stopped after Dispatcher.stop."""
    with _seated(job.root, dispatcher=dispatcher) as engine:
        return await judge(job.cases, engine=engine, votes=job.votes, sampling=job.sampling)


async def run_select(job: SelectJob, *, dispatcher: Dispatcher) -> list[Picked]:
    """What is picked of each choice, in order. Raises Stopped after Dispatcher.stop."""
    with _seated(job.root, dispatcher=dispatcher) as engine:
        return await select(job.choices, engine=engine, sampling=job.sampling)


async def run_go_on(job: GoOnJob, *, dispatcher: Dispatcher, caps: Caps) -> list[Solutions]:
    """The sampled solutions of each beginning, in order. Raises Stopped at a cap or after Dispatcher.stop."""
    with _seated(job.root, dispatcher=dispatcher, caps=caps) as engine:
        return await go_on(job.begun, engine=engine, samples=job.samples, sampling=job.sampling)


@contextmanager
def _seated(root: Path, *, dispatcher: Dispatcher, caps: Caps | None = None) -> Iterator[Generates]:
    run = dispatcher.run(root, caps or Caps())
    try:
        yield _Seated(dispatcher, run)
    finally:
        run.usage.save(run.usage.snapshot(ended=not run.in_flight))


class _Seated(EngineView):
    """The engine behind one seat a reply (discussion.Generates)."""

    def __init__(self, dispatcher: Dispatcher, run: Run) -> None:
        super().__init__(dispatcher.engine)
        self._dispatcher = dispatcher
        self._run = run

    async def generate(self, request: Request) -> Generation:
        async with self._dispatcher.seat(self._run, width=1) as seated:
            return await seated.generate(request)
