"""The interval of a mean over questions or samples."""

from __future__ import annotations

from collections.abc import Sequence

from agentark_core.statistics import mean

Interval = tuple[float, float] | None


def mean_interval(values: Sequence[float]) -> Interval:
    """95 % percentile bootstrap interval of the mean (statistics.mean).

    None where all values are equal: resamples of them do not vary, which says nothing of other questions.
    """
    if len(set(values)) < 2:
        return None
    found = mean(values)
    return found.low, found.high


def show(value: float, interval: Interval, *, form: str) -> str:
    """`41.2 [33.0, 49.5]`, with a dash for an interval that there is none of. form: a format such as `.1f`."""
    return f"{value:{form}} " + (f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else "[-]")
