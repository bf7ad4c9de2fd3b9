"""Rollouts from the steps of each verified trace: a ledger stage between verdicts and the kind `process`, with the
shards of the debates.

    {work_id: "w-1", round: 2, agent: 4, right: [6, 0], decided: [8, 8]}

One row for every trace with a verdict, and in its lists an entry for every step but the last, whose label is the
verdict itself. Equal beginnings of a question are sampled once, also where agents copy each other. As selections do,
rollouts depend on debates, verdicts and the model that goes on, not on the questions that extraction leaves out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from agentark_core import process, records
from agentark_core.config import ExamplesConfig
from agentark_core.ledger import Store, fingerprint
from agentark_core.prompts import Wording
from agentark_core.records import TurnKey
from agentark_core.rollouts import Begun
from agentark_core.steps import STEPS_VERSION, spans
from agentark_core.stored import JudgeKey, read_debates, verdict_store
from agentark_core.types import Reached, Turn

STAGE = "rollouts"

CHUNK = 64
"""Beginnings that are sampled, verified and journaled together: what a kill or a stop can cost."""

_asked_for: defaultdict[tuple[str, str], Lock] = defaultdict(Lock)
"""By folder and shard. Students of one sweep are made at the same time and may learn from the same rollouts."""

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
            "steps": STEPS_VERSION,
        }
        return Store(self.home, stage=STAGE, fingerprint=fingerprint(STAGE, **shape), config=shape)


def beginnings(job: RolloutJob, shard: str) -> Iterator[tuple[Turn, list[Begun]]]:
    """Every trace of a shard that has a verdict, with what there is to go on from."""
    verdicts = records.table_to_verdicts(job.verdicts.read(shards=[shard]))
    for debate in read_debates(job.home, fingerprint=job.debates, shards=[shard]):
        problem = debate.problem
        for turn in process.candidates(debate, config=job.config):
            if not process.refused(turn, verdicts):
                asked = {"question": problem.question, "gold": problem.gold, "task": problem.task}
                ends = [end for _, end in spans(turn.text)[:-1]]
                yield turn, [Begun(**asked, wording=job.wording, text=_until(turn.text, end)) for end in ends]


def _until(text: str, end: int) -> str:
    """A sentence's end without the blank behind it, which a tokenizer would make a token that no text has there."""
    begun = text[:end]
    return begun if begun.endswith("\n") else begun.rstrip()


def roll_out(
    job: RolloutJob, shard: str, *, reach: Callable[[Sequence[Begun]], list[Reached]], parents: Mapping[str, str]
) -> dict[str, int]:
    """Commit the rollouts of a shard, once; returns its counts. What an interrupted run journaled is not sampled again.

    reach samples and verifies some beginnings. parents: what they came from (stored.parents).
    """
    store = job.store
    with _asked_for[str(store.root), shard]:
        committed = store.entry(shard)
        if committed is not None:
            return dict(committed.meta["counts"])
        with store.lease(shard, timeout_s=60) as lease, store.journal(shard) as journal:
            reached = {
                record["begun"]: Reached(right=record["right"], decided=record["decided"])
                for record in journal.replay()
            }
            missing: dict[str, Begun] = {}

            def reach_missing() -> None:
                found = dict(zip(missing, reach(list(missing.values())), strict=True))
                journal.append({"begun": key, "right": r.right, "decided": r.decided} for key, r in found.items())
                journal.sync()
                reached.update(found)
                missing.clear()

            traces = []
            for turn, several in beginnings(job, shard):
                keyed = [(begun.key, begun) for begun in several]
                traces.append((turn.key, [key for key, _ in keyed]))
                missing.update((key, begun) for key, begun in keyed if key not in reached)
                if len(missing) >= CHUNK:
                    reach_missing()
            if missing:
                reach_missing()
            counts = _counts([keys for _, keys in traces], reached)
            table = pa.Table.from_pylist([_row(key, keys, reached) for key, keys in traces], schema=SCHEMA)
            meta = {"counts": counts, "parents": dict(parents)}
            store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta=meta)
    return counts


def _row(turn: TurnKey, keys: list[str], reached: Mapping[str, Reached]) -> dict[str, Any]:
    found = [reached[key] for key in keys]
    key = dict(zip(("work_id", "round", "agent"), turn, strict=True))
    return {**key, "right": [one.right for one in found], "decided": [one.decided for one in found]}


def _counts(traces: Sequence[list[str]], reached: Mapping[str, Reached]) -> dict[str, int]:
    distinct = {key for keys in traces for key in keys}
    return {
        "traces": len(traces),
        "beginnings": len(distinct),
        "samples_decided": sum(reached[key].decided for key in distinct),
        "samples_right": sum(reached[key].right for key in distinct),
    }


def read(store: Store, shard: str) -> dict[TurnKey, list[Reached]]:
    """The committed rollouts of one shard: of every trace, one entry a step but the last."""
    return {
        (row["work_id"], row["round"], row["agent"]): [
            Reached(right=right, decided=decided) for right, decided in zip(row["right"], row["decided"], strict=True)
        ]
        for row in store.read(shards=[shard]).to_pylist()
    }
