"""What the ledger holds, as records: debates with their questions, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from agentark_core import records
from agentark_core.ledger import Store, fingerprint
from agentark_core.types import Debate, Verdict
from agentark_core.verify import VERIFIER_VERSION

RUN_LEASE = "run"
"""A flow holds this lease of a debate run from before its engines start until it ends."""


def debate_runs(home: Path) -> list[str]:
    """Fingerprints of the debate runs under home, oldest first."""
    folders = (home / "ledger").glob("debates-*")
    return [f.name.removeprefix("debates-") for f in sorted(folders, key=lambda f: (f / "config.json").stat().st_mtime)]


def read_debates(home: Path, *, fingerprint: str, shards: Iterable[str] | None = None) -> Iterator[Debate]:
    """Committed debates of one run, shard by shard (memory holds one shard), with their questions."""
    store = Store(home, stage="debates", fingerprint=fingerprint)
    problem_store = Store(home, stage="problems", fingerprint=store.config["problems"])
    for shard in sorted(store.entries()) if shards is None else shards:
        problems = {
            problem.problem_id: problem for problem in records.table_to_problems(problem_store.read(shards=[shard]))
        }
        yield from records.table_to_debates(store.read(shards=[shard]), problems=problems)


def verdict_store(home: Path, *, debates: str) -> Store:
    """The ledger folder of the verdicts on one debate run."""
    key = fingerprint("verdicts", debates=debates, verifier=VERIFIER_VERSION)
    return Store(home, stage="verdicts", fingerprint=key, config={"debates": debates, "verifier": VERIFIER_VERSION})


def read_verdicts(home: Path, *, debates: str) -> dict[records.TurnKey, Verdict]:
    """All committed verdicts on one debate run, by (work_id, round, agent)."""
    return records.table_to_verdicts(verdict_store(home, debates=debates).read())
