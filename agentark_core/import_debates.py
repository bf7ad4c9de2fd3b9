"""Recorded debates -> the ledger: the same `problems` and `debates` stages that build-traces writes.

The debates' fingerprint follows from the file's content, its format and its task, so importing a file twice finds the
first import.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from agentark_core import importers, ledger, problems, records, shards
from agentark_core.errors import DataError, EmptyDataset

SHARD_SIZE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import left in the ledger."""

    fingerprint: str
    debates: int
    turns: int
    bad_rows: int


def import_file(
    file: Path, *, format: str, task: str, dataset: str, home: Path, max_bad_row_share: float = 0.01, license: str = ""
) -> Imported:
    """Read, validate and commit recorded debates; bad rows go to bad_rows.jsonl beside them.

    license is what the user says that of the questions is, for data cards.
    """
    read = importers.read_debates(file, format=format, task=task, dataset=dataset)
    rows = len(read.debates) + len(read.bad_rows)
    if len(read.bad_rows) > max_bad_row_share * rows:
        first = read.bad_rows[0]
        raise DataError(
            f"{file}: {len(read.bad_rows)} of {rows} rows are bad (limit {max_bad_row_share:.1%}), first: "
            f"row {first.row}: {first.reason}; mend them or raise --max-bad-row-share"
        )
    if not read.debates:
        raise EmptyDataset(f"{file}: no debate in it; check --format")
    identity = {
        "debates": sorted(debate.work_id for debate in read.debates),
        "format": format,
        "task": task,
        "dataset": dataset,
    }
    problem_store = ledger.Store(
        home, stage="problems", fingerprint=ledger.fingerprint("import-problems", **identity), config=identity
    )
    problems.state_licence(problem_store, license)
    key = ledger.fingerprint("import-debates", **identity)
    store = ledger.Store(
        home,
        stage="debates",
        fingerprint=key,
        config={"problems": problem_store.fingerprint, "dataset": dataset, "imported_from": format},
    )
    for start in range(0, len(read.debates), SHARD_SIZE):
        shard = f"{start // SHARD_SIZE:05d}"
        part = read.debates[start : start + SHARD_SIZE]
        meta = shards.shard_meta(part, replayed=0, seconds=0.0, plan=None)
        tables: tuple[tuple[ledger.Store, pa.Table, dict[str, Any]], ...] = (
            (problem_store, records.problems_to_table([debate.problem for debate in part]), {}),
            (store, records.debates_to_table(part), meta),
        )
        for target, table, entry_meta in tables:
            if shard not in target.entries():
                with target.lease(shard, timeout_s=60) as lease:
                    target.commit(shard, table, lease=lease, config_hash=key, meta=entry_meta)
    problems.write_bad_rows(read.bad_rows, store.root / "bad_rows.jsonl")
    return Imported(
        fingerprint=key,
        debates=len(read.debates),
        turns=sum(len(debate.turns) for debate in read.debates),
        bad_rows=len(read.bad_rows),
    )
