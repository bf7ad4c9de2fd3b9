"""How far a confidence can be believed: reliability table, expected calibration error, Brier score.

    7 of 10 samples agree -> confidence 0.7; of all votes with 0.7 about 70 % should be right

A score in [0, 1] is either the sigma(R) of a step or the share of a question's samples that gave the answer of the
vote (self-consistency, Wang et al. 2022, arXiv 2203.11171). Intervals are 95 %: Wilson's in the table, else a
percentile bootstrap over whole questions. Bins are cut once, on all units, and stay where they are in the resamples.
Shapes: _S units (steps, or questions), _G bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agentark_core.statistics import Array, Estimate, mean, of_questions, share

BINS = 10
Binning = Literal["equal width", "equal mass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Units of one bin: their mean score, and the share that is right. low, high: of equal width, scores in
    [low, high); of equal mass, the smallest and the largest score."""

    low: float
    high: float
    mean_score: float
    right: Estimate


def calibration(
    scores_S: Sequence[float], labels_S: Sequence[bool], questions_S: Sequence[str], *, binning: Binning = "equal width"
) -> tuple[list[Bin], Estimate]:
    """The reliability table, empty bins left out, and the expected calibration error (Naeini et al. 2015).

    The error is the mean over units of |share right - mean score| of their bin; n counts units. It is above 0 by chance
    alone, the more so the fewer units a bin has. Equal mass: BINS bins of about as many units each, equal scores
    always in one, so there are fewer where many scores are equal.
    """
    scores, labels = np.asarray(scores_S, dtype=float), np.asarray(labels_S, dtype=float)
    bins_S = _bins(scores, binning)
    table = []
    for number in np.unique(bins_S):
        inside = bins_S == number
        if binning == "equal width":
            low, high = number / BINS, (number + 1) / BINS
        else:
            low, high = scores[inside].min(), scores[inside].max()
        right = share(int(labels[inside].sum()), int(inside.sum()))
        table.append(Bin(low=float(low), high=float(high), mean_score=float(scores[inside].mean()), right=right))

    def error(weights_S: Array) -> float:
        gaps_G = np.bincount(bins_S, weights=weights_S * (labels - scores), minlength=BINS)
        return float(np.abs(gaps_G).sum() / weights_S.sum())

    return table, of_questions(error, questions_S)


def brier(scores_Q: Sequence[float], labels_Q: Sequence[bool]) -> Estimate:
    """Mean squared distance of the score from 1 where right, 0 where wrong (Brier 1950); one unit a question."""
    return mean((np.asarray(scores_Q, dtype=float) - np.asarray(labels_Q, dtype=float)) ** 2)


def _bins(scores: Array, binning: Binning) -> Array:
    if binning == "equal width":
        return np.minimum((scores * BINS).astype(int), BINS - 1)
    inner = np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(inner, scores)  # as sklearn.calibration.calibration_curve does
