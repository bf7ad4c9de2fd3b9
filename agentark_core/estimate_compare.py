"""Predicted against what really happened, once a run with an estimate has finished."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentark_core import estimate as estimates
from agentark_core.engine_time import cost, engine_seconds, wall_seconds
from agentark_core.errors import DataError
from agentark_core.ledger import Store
from agentark_core.stored import debate_store, read_debates

NOTHING = {"value": 0.0, "low": 0.0, "high": 0.0}
"""The prediction of a round that no sampled question reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One line of the bill. actual is None for what the ledger does not know."""

    name: str
    value: float
    low: float
    high: float
    actual: float | None

    @property
    def inside(self) -> bool | None:
        """Whether the actual figure lies in the predicted interval."""
        return None if self.actual is None else self.low <= self.actual <= self.high


def compare(home: Path, run: str) -> dict[str, Any]:
    """The stored estimate of a debate run against its committed turns, its files and its engines' time.

    Raises ConfigError without an estimate, DataError if the run has not finished.
    """
    estimate = estimates.load(home, run)
    store = debate_store(home, run)
    done = sum(entry.meta["questions"] for entry in store.entries().values())
    if done != estimate["questions"]:
        raise DataError(
            f"--compare {run}: {done:,} of {estimate['questions']:,} questions are committed; finish the run first"
        )
    groups = actual_rounds(home, run)
    figures = actual_figures(store, sample_root=debate_store(home, estimate["sample"]).root)
    lines = [
        Compared(
            name=f"{group}: {counter}",
            **estimate["rounds"].get(group, {}).get(counter, NOTHING),
            actual=float(groups[group][counter]),
        )
        for group in sorted(groups, key=estimates.group_order)
        for counter in estimates.COUNTERS
    ]
    lines += [Compared(name=name, **figure, actual=figures.get(name)) for name, figure in estimate["figures"].items()]
    return {
        "run": run,
        "sampled": estimate["sampled"],
        "questions": estimate["questions"],
        "lines": [{**asdict(line), "inside": line.inside} for line in lines],
    }


def actual_rounds(home: Path, run: str) -> dict[str, Counter[str]]:
    """Turns and tokens of all committed debates by `round k`, `summariser` and `all`."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for debate in read_debates(home, fingerprint=run):
        for group, row in estimates.counts(debate).items():
            groups[group].update(row)
    return groups


def actual_figures(store: Store, *, sample_root: Path) -> dict[str, float]:
    """Bytes on disk and hours. The run did not make the sample's turns again, so the sample's time belongs to it."""
    seconds, wall_s, price = engine_seconds(store.root), wall_seconds(store.root), cost(store.root)
    if any(entry.meta["replayed_turns"] for entry in store.entries().values()):
        seconds, wall_s = seconds + engine_seconds(sample_root), wall_s + wall_seconds(sample_root)
        price += cost(sample_root)
    figures = {
        "parquet_bytes": float(sum((store.root / entry.file).stat().st_size for entry in store.entries().values())),
        "engine_hours": seconds / 3600,
        "wall_hours": wall_s / 3600,
        "cost": price,
    }
    journals = [path.stat().st_size for path in (store.root / "journals").glob("*.journal")]
    if len(journals) >= len(store.entries()):  # else some were collected as garbage
        figures["journal_bytes"] = float(sum(journals))
    return figures
