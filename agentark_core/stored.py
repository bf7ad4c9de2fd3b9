"""What the ledger holds, as records: debates with their questions, and the verdicts on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentark_core import records
from agentark_core.errors import DataError
from agentark_core.ledger import Store, fingerprint
from agentark_core.types import Debate, Verdict
from agentark_core.verify import VERIFIER_VERSION

JudgeKey = dict[str, Any]
"""What identifies a judge (judge.JudgeSetup.key)."""

RUN_LEASE = "run"
"""A flow holds this lease of a debate run from before its engines start until it ends."""


def debate_runs(home: Path) -> list[str]:
    """Fingerprints of the debate runs under home, oldest first."""
    folders = (home / "ledger").glob("debates-*")
    return [f.name.removeprefix("debates-") for f in sorted(folders, key=lambda f: (f / "config.json").stat().st_mtime)]


def debate_store(home: Path, run: str) -> Store:
    """The ledger folder of a debate run, by its fingerprint."""
    return Store(home, stage="debates", fingerprint=run)


def read_debates(home: Path, *, fingerprint: str, shards: Iterable[str] | None = None) -> Iterator[Debate]:
    """Committed debates of one run, shard by shard (memory holds one shard), with their questions."""
    store = debate_store(home, fingerprint)
    problem_store = Store(home, stage="problems", fingerprint=store.config["problems"])
    for shard in sorted(store.entries()) if shards is None else shards:
        problems = {
            problem.problem_id: problem for problem in records.table_to_problems(problem_store.read(shards=[shard]))
        }
        yield from records.table_to_debates(store.read(shards=[shard]), problems=problems)


def verdict_store(home: Path, *, debates: str, judge: JudgeKey | None = None) -> Store:
    """The ledger folder of the verdicts on one debate run: of the rules, or of the rules and then a judge."""
    parts: dict[str, Any] = {"debates": debates, "verifier": VERIFIER_VERSION}
    if judge is not None:
        parts["judge"] = judge
    return Store(home, stage="verdicts", fingerprint=fingerprint("verdicts", **parts), config=parts)


def parents(home: Path, *, debates: str, verdicts: Store, shard: str) -> dict[str, str]:
    """sha256 of the debates and of the verdicts that a shard of a later stage is made from, by stage. See digest."""
    return {store.stage: digest(store, shard) for store in (debate_store(home, debates), verdicts)}


def digest(store: Store, shard: str) -> str:
    """sha256 of a committed shard. Raises DataError if it is not committed."""
    entry = store.entry(shard)
    if entry is None:
        raise DataError(f"{store.root}: shard {shard} is not committed; start the run again to make what is missing")
    return entry.sha256


def latest_verdict_store(home: Path, *, debates: str) -> Store:
    """The newest of the verdict stores on one debate run, for views, which know no config.

    Judged verdicts are made after those of the rules alone, so they are newer.
    """
    stores = []
    for config in (home / "ledger").glob("verdicts-*/config.json"):
        parts = json.loads(config.read_bytes())
        if (parts["debates"], parts["verifier"]) == (debates, VERIFIER_VERSION):
            stores.append((config.stat().st_mtime_ns, "judge" in parts, config.parent.name))
    if not stores:
        return verdict_store(home, debates=debates)
    return Store(home, stage="verdicts", fingerprint=max(stores)[2].removeprefix("verdicts-"))


def read_verdicts(home: Path, *, debates: str, judge: JudgeKey | None = None) -> dict[records.TurnKey, Verdict]:
    """All committed verdicts on one debate run, by (work_id, round, agent)."""
    return records.table_to_verdicts(verdict_store(home, debates=debates, judge=judge).read())
