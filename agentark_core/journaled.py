"""Debates of shards that are not committed yet, as far as their journals go. Committed ones: stored.py.

A journal holds turns, not how debates ended. What the strategy would do next is found by running it on the turns that
are there: either it ends, or it asks for a turn that nobody has made yet, and the debate is `running`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from agentark_core import records, strategies
from agentark_core.config import DebateConfig
from agentark_core.discussion import Discussion, Plan
from agentark_core.engines.base import Prompt, Request
from agentark_core.ledger import Store
from agentark_core.stored import debate_store
from agentark_core.types import Debate, Generation, Message, Problem, Turn

RUNNING = "running"
"""stop_reason of a debate that still lacks turns."""


def read_journaled(home: Path, *, fingerprint: str) -> Iterator[Debate]:
    """The debates of one run that have turns but are not committed, shard by shard; takes no lease.

    A debate of a strategy of the user's own counts as running until its shard is committed: to look at a ledger must
    not run code that is named in it.
    """
    store = debate_store(home, fingerprint)
    if "debate" not in store.config:  # imported: committed or not there
        return
    plan = Plan(
        config=DebateConfig.model_validate(store.config["debate"]),
        wording=store.config["wording"],
        base_seed=store.config["seed"],
    )
    problem_store = Store(home, stage="problems", fingerprint=store.config["problems"])
    for shard in sorted(problem_store.committed() - store.committed()):
        turns_of: dict[str, dict[tuple[int, int], Turn]] = {}
        for record in store.journaled(shard):
            turn = Turn(**record)
            turns_of.setdefault(turn.work_id, {}).setdefault((turn.round, turn.agent), turn)
        if turns_of:
            problems = {p.problem_id: p for p in records.table_to_problems(problem_store.read(shards=[shard]))}
            yield from asyncio.run(_so_far(turns_of, problems=problems, plan=plan))


async def _so_far(
    turns_of: dict[str, dict[tuple[int, int], Turn]], *, problems: dict[str, Problem], plan: Plan
) -> list[Debate]:
    debates = []
    for work_id, turns in turns_of.items():
        ordered = tuple(turns[key] for key in sorted(turns))
        problem = problems[ordered[0].problem_id]
        running = Debate(work_id=work_id, problem=problem, turns=ordered, stop_reason=RUNNING)
        debates.append(await _ended(problem, work_id=work_id, turns=turns, plan=plan) or running)
    return debates


async def _ended(problem: Problem, *, work_id: str, turns: dict[tuple[int, int], Turn], plan: Plan) -> Debate | None:
    """The whole debate, or None if it lacks turns."""
    if plan.config.strategy not in strategies.BUILT_IN:
        return None
    discussion = Discussion(
        problem, work_id=work_id, plan=plan, engine=_NoEngine(), recorded=turns, on_turn=lambda turn: None
    )
    try:
        return discussion.debate(await strategies.load(plan.config.strategy)(discussion))
    except _TurnMissing:
        return None


class _TurnMissing(Exception):
    pass


class _NoEngine:
    """Whatever a discussion wants of its engine, it wants for a turn that is not recorded."""

    @property
    def max_model_len(self) -> int:
        raise _TurnMissing

    def prompt(self, messages: list[Message]) -> Prompt:
        raise _TurnMissing

    async def generate(self, request: Request) -> Generation:
        raise _TurnMissing
