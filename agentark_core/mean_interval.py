"""The interval of a mean over questions or samples."""

from __future__ import annotations

from collections.abc import Sequence

Interval = tuple[float, float] | None


def mean_interval(values: Sequence[float]) -> Interval:
    """95 % percentile bootstrap interval (10,000 resamples, fixed seed) of the mean.

    None where all values are equal: resamples of them do not vary, which says nothing of other questions.
    """
    import numpy as np
    from scipy.stats import bootstrap

    if len(set(values)) < 2:
        return None
    made = bootstrap((values,), np.mean, n_resamples=10_000, batch=500, method="percentile", rng=0).confidence_interval
    return float(made.low), float(made.high)


def show(value: float, interval: Interval, *, form: str) -> str:
    """`41.2 [33.0, 49.5]`, with a dash for an interval that there is none of. form: a format such as `.1f`."""
    return f"{value:{form}} " + (f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else "[-]")
