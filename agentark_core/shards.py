"""One shard of debates: lease, journal, debates, commit. Runs inside an engine actor, knows neither Ray nor vLLM.

A shard is the unit of lease, journal and commit (about 256 questions). Turns are journaled as they finish and synced
once per group of finished questions, so a killed process loses at most the requests that were in flight. A shard whose
manifest entry exists is returned as it is; a shard with a journal goes on where the journal ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentark_core import debate
from agentark_core.ledger import Store, work_id
from agentark_core.records import debates_to_table
from agentark_core.types import Debate, Problem, Turn

SYNC_EVERY = 16
"""Finished questions per fsync: an fsync costs about 10 ms, a question seconds."""

CODE_SCHEMA = "debate-1"
"""Changes whenever the debate's code changes what a turn means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """Everything that an engine actor needs to debate one shard; small enough to pass through Ray."""

    home: Path
    fingerprint: str
    shard: str
    problems: tuple[Problem, ...]
    plan: debate.Plan
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


async def run_shard(job: ShardJob, *, engine: debate.Generate, slots: asyncio.Semaphore) -> dict[str, Any]:
    """Debate every question of the shard and commit it; returns the manifest entry's meta (counts and tokens).

    slots bounds the questions in flight on the engine over all its shards; it is fair, so questions that were
    admitted first finish first.
    """
    store = Store(job.home, stage="debates", fingerprint=job.fingerprint)
    committed = store.entries().get(job.shard)
    if committed is not None:
        return dict(committed.meta)
    started = time.monotonic()
    with store.lease(job.shard, timeout_s=job.lease_timeout_s) as lease, store.journal(job.shard) as journal:
        recorded = _recorded(journal.replay())
        replayed = sum(len(turns) for turns in recorded.values())
        unsynced = 0

        async def one(problem: Problem) -> Debate:
            nonlocal unsynced
            key = job.work_id(problem)
            async with slots:
                result = await debate.run(
                    problem,
                    work_id=key,
                    plan=job.plan,
                    engine=engine,
                    recorded=recorded.get(key, {}),
                    on_turn=lambda turn: journal.append([asdict(turn)]),
                )
            unsynced += 1
            if unsynced >= SYNC_EVERY:
                unsynced = 0
                journal.sync()
            return result

        debates = await _all_or_cancel([one(problem) for problem in job.problems])
        journal.sync()
        meta = shard_meta(debates, replayed=replayed, seconds=time.monotonic() - started)
        entry = store.commit(job.shard, debates_to_table(debates), lease=lease, config_hash=job.config_hash, meta=meta)
    return dict(entry.meta)


async def _all_or_cancel(coroutines: Sequence[Any]) -> list[Debate]:
    """Await all; the first error cancels the rest, so that no stray debate writes to a closed journal."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def shard_meta(debates: Sequence[Debate], *, replayed: int, seconds: float) -> dict[str, Any]:
    """Counts of a shard for its manifest entry; turns = sum over statuses, asserted."""
    turns = [turn for debate in debates for turn in debate.turns]
    statuses = Counter(turn.status for turn in turns)
    assert sum(statuses.values()) == len(turns)
    return {
        "questions": len(debates),
        "turns": len(turns),
        "replayed_turns": replayed,
        "statuses": dict(sorted(statuses.items())),
        "stop_reasons": dict(sorted(Counter(debate.stop_reason for debate in debates).items())),
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
