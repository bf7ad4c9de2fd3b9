"""Rollouts from the steps of each verified trace: a ledger stage between verdicts and the kind `process`, with the
shards of the debates.

    {work_id: "w-1", round: 2, agent: 4, right: [6, 0], decided: [8, 8]}

One row for every trace with a verdict, and in its lists an entry for every step but the last, whose label is the
verdict itself. Equal beginnings of a question are sampled once, also where agents copy each other. As selections do,
rollouts depend on debates, verdicts and the model that goes on, not on the questions that extraction leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from agentark_core import process, records
from agentark_core.config import ExamplesConfig
from agentark_core.ledger import Store, fingerprint
from agentark_core.process import PROCESS_VERSION
from agentark_core.prompts import Wording
from agentark_core.records import TurnKey
from agentark_core.rollouts import Begun
from agentark_core.steps import STEPS_VERSION, spans
from agentark_core.stored import JudgeKey, read_debates, verdict_store
from agentark_core.types import Reached, Turn

STAGE = "rollouts"

CHUNK = 512
"""Beginnings that are sampled, verified and journaled together."""

RolloutsKey = dict[str, Any]
"""What identifies rollouts (rollouts.RolloutsSetup.key)."""

_NUMBERS = pa.list_(pa.field("element", pa.int32(), nullable=False))
SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("work_id", pa.string()),
            ("round", pa.int32()),
            ("agent", pa.int32()),
            ("right", _NUMBERS),
            ("decided", _NUMBERS),
        )
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutJob:
    """What shapes the rollouts of one debate run. judge: whose verdicts count; wording: of the model that goes on;
    config says of which turns."""

    home: Path
    debates: str
    judge: JudgeKey | None
    config: ExamplesConfig
    rollouts: RolloutsKey

    @property
    def wording(self) -> Wording:
        """How the model that goes on is asked."""
        wording: Wording = self.rollouts["wording"]
        return wording

    @property
    def verdicts(self) -> Store:
        """The verdicts that count."""
        return verdict_store(self.home, debates=self.debates, judge=self.judge)

    @property
    def store(self) -> Store:
        """The ledger stage."""
        shape = {
            "debates": self.debates,
            "verdicts": self.verdicts.fingerprint,
            "any_round": self.config.negatives == "any_round",
            "include_summary": self.config.include_summary,
            "rollouts": self.rollouts,
            "versions": [PROCESS_VERSION, STEPS_VERSION],
        }
        return Store(self.home, stage=STAGE, fingerprint=fingerprint(STAGE, **shape), config=shape)


def beginnings(job: RolloutJob, shard: str) -> Iterator[tuple[Turn, list[Begun]]]:
    """Every trace of a shard that has a verdict, with what there is to go on from."""
    verdicts = records.table_to_verdicts(job.verdicts.read(shards=[shard]))
    for debate in read_debates(job.home, fingerprint=job.debates, shards=[shard]):
        problem = debate.problem
        for turn in process.candidates(debate, config=job.config):
            if process.refused(turn, verdicts):
                continue
            yield (
                turn,
                [
                    Begun(
                        question=problem.question,
                        wording=job.wording,
                        gold=problem.gold,
                        task=problem.task,
                        text=turn.text[:end],
                    )
                    for _, end in spans(turn.text)[:-1]
                ],
            )


def roll_out(
    job: RolloutJob, shard: str, *, reach: Callable[[Sequence[Begun]], list[Reached]], parents: Mapping[str, str]
) -> dict[str, int]:
    """Commit the rollouts of a shard; returns its counts. What an interrupted run has journaled is not sampled again.

    reach samples and verifies some beginnings. parents: what they came from (stored.parents).
    """
    traces = list(beginnings(job, shard))
    store = job.store
    with store.lease(shard, timeout_s=60) as lease, store.journal(shard) as journal:
        reached = {
            record["begun"]: Reached(right=record["right"], decided=record["decided"]) for record in journal.replay()
        }
        distinct = dict.fromkeys(begun for _, several in traces for begun in several)
        missing = [begun for begun in distinct if begun.key not in reached]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            new = {begun.key: found for begun, found in zip(chunk, reach(chunk), strict=True)}
            journal.append({"begun": key, "right": r.right, "decided": r.decided} for key, r in new.items())
            journal.sync()
            reached |= new
        rows = []
        for turn, several in traces:
            found = [reached[begun.key] for begun in several]
            rows.append(
                {
                    "work_id": turn.work_id,
                    "round": turn.round,
                    "agent": turn.agent,
                    "right": [one.right for one in found],
                    "decided": [one.decided for one in found],
                }
            )
        counts = {
            "traces": len(rows),
            "beginnings": len(distinct),
            "samples_decided": sum(reached[begun.key].decided for begun in distinct),
            "samples_right": sum(reached[begun.key].right for begun in distinct),
        }
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        meta = {"counts": counts, "parents": dict(parents)}
        store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta=meta)
    return counts


def read(store: Store, shard: str) -> dict[TurnKey, list[Reached]]:
    """The committed rollouts of one shard: of every trace, one entry a step but the last."""
    return {
        (row["work_id"], row["round"], row["agent"]): [
            Reached(right=right, decided=decided) for right, decided in zip(row["right"], row["decided"], strict=True)
        ]
        for row in store.read(shards=[shard]).to_pylist()
    }
