"""One shard of debates: lease, journal, discussions, commit. Runs inside an engine actor, knows neither Ray nor vLLM.

A shard is the unit of lease, journal and commit (about 256 questions). Turns are journaled as they finish and synced
once per group of finished questions, so a killed process loses at most the requests that were in flight. A shard whose
manifest entry exists is returned as it is; a shard with a journal goes on where the journal ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core import strategies
from agentark_core.discussion import Discussion, Plan
from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.errors import Stopped
from agentark_core.ledger import Store, turn_record, work_id
from agentark_core.records import debates_to_table
from agentark_core.types import Debate, Problem, Turn

SYNC_EVERY = 16
"""Finished questions per fsync: an fsync costs about 10 ms, a question seconds."""

GRACE_S = 25.0
"""How long requests in the engine may go on after a stop; a supervisor kills after 30 s (F06)."""

CODE_SCHEMA = "debate-3"
"""Changes whenever the code of discussions changes what a turn means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """Everything that an engine actor needs to debate one shard; small enough to pass through Ray."""

    home: Path
    fingerprint: str
    shard: str
    problems: tuple[Problem, ...]
    plan: Plan
    dataset_revision: str
    teacher_revision: str
    prompt_hash: str
    config_hash: str
    lease_timeout_s: float

    def work_id(self, problem: Problem) -> str:
        """Key of one question's debate (faults.md, commit protocol 1)."""
        return work_id(
            dataset_revision=self.dataset_revision,
            row_hash=problem.problem_id,
            teacher_revision=self.teacher_revision,
            prompt_hash=self.prompt_hash,
            sampling={
                "debate": self.plan.config.model_dump(mode="json"),
                "wording": self.plan.wording,
                "base_seed": self.plan.base_seed,
            },
            code_schema=CODE_SCHEMA,
        )


async def run_shard(job: ShardJob, *, dispatcher: Dispatcher, caps: Caps) -> dict[str, Any]:
    """Discuss every question of the shard and commit it; returns the manifest entry's meta (counts and tokens).

    Questions that an interrupted run had started go first. Raises Stopped, with everything that is finished in the
    journal, at a cap or after Dispatcher.stop.
    """
    store = Store(job.home, stage="debates", fingerprint=job.fingerprint)
    committed = store.entry(job.shard)
    if committed is not None:
        return dict(committed.meta)
    strategy = strategies.load(job.plan.config.strategy)
    run = dispatcher.run(store.root, caps)
    started = time.monotonic()
    with ExitStack() as held:
        # In a thread: it may wait for a silent holder, and the other shard of this engine goes on meanwhile.
        taken = store.lease(job.shard, timeout_s=job.lease_timeout_s)
        lease = await asyncio.to_thread(held.enter_context, taken)
        journal = held.enter_context(store.journal(job.shard))
        recorded = _recorded(journal.replay())
        replayed = sum(len(turns) for turns in recorded.values())
        unsynced = 0

        async def one(problem: Problem) -> Debate:
            nonlocal unsynced
            key = job.work_id(problem)
            known = recorded.get(key, {})
            async with dispatcher.seat(run, width=job.plan.config.num_agents) as engine:
                discussion = Discussion(
                    problem,
                    work_id=key,
                    plan=job.plan,
                    engine=engine,
                    recorded=known,
                    on_turn=lambda turn: journal.append([turn_record(turn)]),
                )
                debate = discussion.debate(await strategy(discussion))
            run.usage.add_debate(debate, replayed=len(known), saved=saved(debate, plan=job.plan))
            unsynced += 1
            if unsynced >= SYNC_EVERY:
                unsynced = 0
                journal.sync()
            return debate

        by_id = {problem.problem_id: one(problem) for problem in _started_first(job, recorded)}
        try:
            finished = await _all_or_stop(list(by_id.values()), dispatcher=dispatcher)
        except Stopped:
            journal.sync()
            raise
        finally:
            run.usage.save(run.usage.snapshot(ended=not run.in_flight))
        journal.sync()
        debate_of = dict(zip(by_id, finished, strict=True))
        debates = [debate_of[problem.problem_id] for problem in job.problems]
        meta = shard_meta(debates, replayed=replayed, seconds=time.monotonic() - started, plan=job.plan)
        entry = store.commit(job.shard, debates_to_table(debates), lease=lease, config_hash=job.config_hash, meta=meta)
    return dict(entry.meta)


def _started_first(job: ShardJob, recorded: dict[str, dict[tuple[int, int], Turn]]) -> list[Problem]:
    return sorted(job.problems, key=lambda problem: job.work_id(problem) not in recorded)


async def _all_or_stop(coroutines: Sequence[Any], *, dispatcher: Dispatcher) -> list[Debate]:
    """Await all. An error cancels the rest, so that no stray discussion writes to a closed journal; after a stop,
    requests that are in the engine first get GRACE_S to finish."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    everything = asyncio.gather(*tasks)
    stop = asyncio.create_task(dispatcher.stopped())
    try:
        either: set[asyncio.Future[Any]] = {everything, stop}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if everything.done() and everything.exception() is None:
            return everything.result()
        if stop.done() or isinstance(everything.exception(), Stopped):
            await asyncio.wait(tasks, timeout=GRACE_S)
        if stop.done():
            await stop
        return await everything
    finally:
        for task in [*tasks, stop]:
            task.cancel()
        await asyncio.gather(*tasks, stop, everything, return_exceptions=True)


def saved(debate: Debate, *, plan: Plan) -> tuple[int, int]:
    """(turns, completion tokens) that consensus stop saved of one debate.

    The turns of the rounds that were not held are known; their tokens are taken to be those of the last round held.
    """
    config = plan.config
    if debate.stop_reason != "consensus" or config.strategy != "debate":
        return 0, 0
    left = config.num_rounds - debate.final_round
    last = debate.final_turns
    return left * len(last), left * sum(turn.completion_tokens for turn in last)


def shard_meta(debates: Sequence[Debate], *, replayed: int, seconds: float, plan: Plan | None) -> dict[str, Any]:
    """Counts of a shard for its manifest entry; turns = sum over statuses, asserted. plan is None for imports."""
    turns = [turn for debate in debates for turn in debate.turns]
    statuses = Counter(turn.status for turn in turns)
    assert sum(statuses.values()) == len(turns)
    savings = [saved(debate, plan=plan) for debate in debates] if plan else []
    return {
        "questions": len(debates),
        "turns": len(turns),
        "replayed_turns": replayed,
        "statuses": dict(sorted(statuses.items())),
        "stop_reasons": dict(sorted(Counter(debate.stop_reason for debate in debates).items())),
        "saved_turns": sum(turns for turns, _ in savings),
        "saved_tokens": sum(tokens for _, tokens in savings),
        # Imported turns know no token counts (-1).
        "prompt_tokens": sum(max(0, turn.prompt_tokens) for turn in turns),
        "cached_tokens": sum(max(0, turn.cached_tokens) for turn in turns),
        "completion_tokens": sum(max(0, turn.completion_tokens) for turn in turns),
        "seconds": round(seconds, 3),
    }


def _recorded(records: list[dict[str, Any]]) -> dict[str, dict[tuple[int, int], Turn]]:
    turns: dict[str, dict[tuple[int, int], Turn]] = {}
    for record in records:
        turn = Turn(**record)
        turns.setdefault(turn.work_id, {}).setdefault((turn.round, turn.agent), turn)
    return turns
