"""Mean accuracy of a sweep's cells by train set and by student, as the paper's Figure 3 (b) has it.

Only like is averaged with like: a cell counts where the same teacher, train set, student and test set has one for every
strategy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentark_core.grid import GridRow
from agentark_core.statistics import Estimate

BASE = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Over the cells of one train set or student. accuracy.n is their number; its interval is the mean of theirs: at
    least as wide as that of the mean, as answers to the same questions are not independent."""

    by: str
    value: str
    strategy: str
    accuracy: Estimate


def means(rows: Sequence[GridRow]) -> list[Mean]:
    """Base and every strategy by train set, then by student; no axis with one value, nothing for one strategy."""
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    found: dict[tuple[str, str, str, str], dict[str, GridRow]] = {}
    for row in rows:
        if row.judged:
            found.setdefault((row.teacher, row.train, row.student, row.test), {})[row.strategy] = row
    whole = [cells for cells in found.values() if len(cells) == len(strategies)]
    if len(strategies) < 2:
        return []
    made = []
    for by in ("train", "student"):
        groups: dict[str, list[dict[str, GridRow]]] = {}
        for cells in whole:
            groups.setdefault(str(getattr(next(iter(cells.values())), by)), []).append(cells)
        if len(groups) < 2:
            continue
        for value, group in groups.items():
            bases = [next(iter(cells.values())).base for cells in group]
            made.append(Mean(by=by, value=value, strategy=BASE, accuracy=_mean(bases)))
            for strategy in strategies:
                ours = [cells[strategy].accuracy for cells in group]
                made.append(Mean(by=by, value=value, strategy=strategy, accuracy=_mean(ours)))
    return made


def _mean(estimates: Sequence[Estimate | None]) -> Estimate:
    known = [one for one in estimates if one is not None]
    value, low, high = (
        sum(parts) / len(known) for parts in zip(*((one.value, one.low, one.high) for one in known), strict=True)
    )
    return Estimate(value=value, low=low, high=high, n=len(known))
