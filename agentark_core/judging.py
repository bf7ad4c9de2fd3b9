"""The judge inside an engine actor: undecided cases of one shard, beside whatever else the engine is doing.

Nothing is journaled: a shard's undecided turns are few, their votes are short, and a shard whose verdicts are not
committed is judged again with the same seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentark_core.config import SamplingConfig
from agentark_core.dispatcher import Caps, Dispatcher, Run
from agentark_core.engines.base import Prompt, Request
from agentark_core.judge import JudgeCase, judge
from agentark_core.types import Generation, Message, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeJob:
    """What an engine actor needs. root: folder of the verdict store, where usage and engine deaths are written."""

    root: Path
    cases: tuple[JudgeCase, ...]
    votes: int
    sampling: SamplingConfig


async def run_judge(job: JudgeJob, *, dispatcher: Dispatcher) -> list[Verdict]:
    """One verdict a case, in order. Raises Stopped after Dispatcher.stop."""
    run = dispatcher.run(job.root, Caps())
    try:
        seated = _SeatedVotes(dispatcher, run)
        return await judge(job.cases, engine=seated, votes=job.votes, sampling=job.sampling)
    finally:
        run.usage.save(run.usage.snapshot(ended=not run.in_flight))


class _SeatedVotes:
    """The engine behind one seat a vote (discussion.Generates)."""

    def __init__(self, dispatcher: Dispatcher, run: Run) -> None:
        self._dispatcher = dispatcher
        self._run = run

    @property
    def max_model_len(self) -> int:
        return self._dispatcher.engine.max_model_len

    def prompt(self, messages: list[Message]) -> Prompt:
        return self._dispatcher.engine.prompt(messages)

    async def generate(self, request: Request) -> Generation:
        async with self._dispatcher.seat(self._run, width=1) as seated:
            return await seated.generate(request)
