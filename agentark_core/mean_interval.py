"""The interval of a mean over questions or samples."""

from __future__ import annotations

from collections.abc import Sequence


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval (10,000 resamples, fixed seed) of the mean; infinite for a single value."""
    import numpy as np
    from scipy.stats import bootstrap

    if len(values) < 2:
        return -np.inf, np.inf
    made = bootstrap((values,), np.mean, n_resamples=10_000, batch=500, method="percentile", rng=0).confidence_interval
    return float(made.low), float(made.high)
