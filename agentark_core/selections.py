"""Which correct traces of each debate an LLM selected for data augmentation: a ledger stage between verdicts and
examples, with the shards of the debates.

    {work_id: "w-1", turns: [{round: 3, agent: 2}, {round: 3, agent: 5}], by: "retried", reason: "a number twice"}

One row for every debate with at least two different correct traces; the others leave nothing to select. Selections
depend on debates, verdicts and the selector alone, not on the questions that extraction leaves out, so that another
test set costs no new generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from agentark_core import examples, records
from agentark_core.config import ExamplesConfig
from agentark_core.ledger import Store, fingerprint
from agentark_core.selector import Choice, Picked
from agentark_core.stored import JudgeKey, read_debates, verdict_store
from agentark_core.structure import STRUCTURE_VERSION
from agentark_core.types import Selection, Turn

STAGE = "selections"

SelectorKey = dict[str, Any]
"""What identifies a selector (selector.SelectorSetup.key)."""

_TURN = pa.struct([pa.field(name, pa.int32(), nullable=False) for name in ("round", "agent")])
SCHEMA = pa.schema(
    [
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("turns", pa.list_(pa.field("element", _TURN, nullable=False)), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionJob:
    """What shapes the selections of one debate run. judge: whose verdicts count; limit: traces a question at most."""

    home: Path
    debates: str
    judge: JudgeKey | None
    limit: int
    selector: SelectorKey

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
            "limit": self.limit,
            "selector": self.selector,
            "versions": [examples.EXAMPLES_VERSION, STRUCTURE_VERSION],
        }
        return Store(self.home, stage=STAGE, fingerprint=fingerprint(STAGE, **shape), config=shape)


def choices(job: SelectionJob, shard: str) -> Iterator[tuple[Choice, list[Turn]]]:
    """What there is to select in a shard, debate by debate, each with the turns behind the traces."""
    verdicts = records.table_to_verdicts(job.verdicts.read(shards=[shard]))
    debates = read_debates(job.home, fingerprint=job.debates, shards=[shard])
    for debate, turns, _ in examples.distinct_correct(
        debates, verdicts, kind="augmentation", config=ExamplesConfig(), counts=Counter()
    ):
        if len(turns) > 1:
            traces = tuple(turn.text for turn in turns)
            yield Choice(question=debate.problem.question, traces=traces, limit=job.limit), turns


def commit(
    job: SelectionJob, shard: str, picked: Sequence[tuple[list[Turn], Picked]], *, parents: Mapping[str, str]
) -> dict[str, int]:
    """Commit the selections of a shard; returns how many were made by whom.

    picked: the turns of each choice with what was picked of them. parents: what they came from (stored.parents).
    """
    rows = [
        {
            "work_id": turns[0].work_id,
            "turns": [{"round": turns[place].round, "agent": turns[place].agent} for place in pick.places],
            "by": pick.by,
            "reason": pick.reason,
        }
        for turns, pick in picked
    ]
    counts = dict(Counter(str(pick.by) for _, pick in picked))
    store = job.store
    with store.lease(shard, timeout_s=60) as lease:
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        meta = {"counts": counts, "parents": dict(parents)}
        store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta=meta)
    return counts


def read(store: Store, shard: str) -> dict[str, Selection]:
    """The committed selections of one shard by work_id."""
    return {
        row["work_id"]: Selection(
            turns=tuple((turn["round"], turn["agent"]) for turn in row["turns"]), by=row["by"], reason=row["reason"]
        )
        for row in store.read(shards=[shard]).to_pylist()
    }
