"""Several trainings (seeds) on the same questions: their mean, and how uncertain seeds and questions each make it.

Model (two-way crossed, both random, one answer in each cell; Searle, Casella and McCulloch 1992, chapter 4): the
outcome of seed s on question q is mu + seed_s + question_q + rest_sq. The mean of S seeds on Q questions varies by

    Var = var_seed / S + var_question / Q + var_rest / (S Q)

with unbiased estimates of each from the mean squares. Questions stand for others like them, and seeds for other
trainings: an interval that forgets either is too narrow. A difference of two arms is the same: their question effects
are subtracted (paired by question); their seeds are independent and add up, also where they have the same number.

Interval: mean +- sqrt(t^2(seed df) V_seeds + t^2(Q - 1) V_questions), the modified large-sample interval of sums of
mean squares (Burdick and Graybill 1992); V_seeds holds the rest too, and has Welch's degrees of freedom for two arms. A
single t with Satterthwaite's degrees of freedom was tried and covers less than it says with 2 or 3 seeds
(docs/howto/read-the-statistics.md). Shapes: _S_Q seeds x questions, 0 or 1 or any score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from agentark_core.errors import DataError
from agentark_core.statistics import ALPHA, POWER, Array

Outcomes = Sequence[Sequence[float]] | Array


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """A mean over seeds and questions, or a difference of two, in the unit of the outcomes.

    seeds: of each arm. se_seeds, se_questions, se_rest: the three standard errors whose squares add up to the variance
    of the mean; se_seeds is what more seeds shrink, se_questions what more questions do, se_rest either. seed_df:
    degrees of freedom of the seeds' part. p_value: two-sided, that the true value is 0; None of a plain mean.
    detectable: the true difference found significant with a chance of 80 %; None of a plain mean.
    """

    value: float
    low: float
    high: float
    seeds: tuple[int, ...]
    questions: int
    se_seeds: float
    se_questions: float
    se_rest: float
    seed_df: float
    p_value: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """means_Q: over seeds. seeds: variance of the arm's mean over the seeds' draw, with the rest; rest: that alone."""

    means_Q: Array
    seeds: float
    rest: float
    df: int


def mean_over_seeds(outcomes_S_Q: Outcomes) -> OverSeeds:
    """One arm. DataError unless it has two seeds and two questions or more (a single seed: `statistics.share`)."""
    outcomes = _checked(outcomes_S_Q)
    if len(outcomes) < 2:
        raise DataError(
            "one seed says nothing about other seeds: train a second one, or give its interval over questions"
        )
    arm = _arm(outcomes)
    return _combined(arm.means_Q, [arm], seeds=(len(outcomes),), tested=False)


def difference_over_seeds(a_S_Q: Outcomes, b_S_Q: Outcomes) -> OverSeeds:
    """Mean of arm a minus mean of arm b on the same questions.

    An arm of one row is a fixed model (the base, which no seed made): it adds no variance of seeds. DataError if both
    are, or if the questions differ in number.
    """
    a, b = _checked(a_S_Q), _checked(b_S_Q)
    if a.shape[1] != b.shape[1]:
        raise DataError(f"{a.shape[1]} questions against {b.shape[1]}: both arms must answer the same ones")
    if len(a) == len(b) == 1:
        raise DataError("one row against one row has no seeds to combine: compare them with paired_tests.paired")
    arms = [_arm(outcomes) for outcomes in (a, b)]
    return _combined(arms[0].means_Q - arms[1].means_Q, arms, seeds=(len(a), len(b)), tested=True)


def _checked(outcomes_S_Q: Outcomes) -> Array:
    outcomes = np.asarray(outcomes_S_Q, dtype=float)
    if outcomes.ndim != 2 or outcomes.shape[1] < 2:
        raise DataError(f"expected a table of seeds x questions with two questions or more, found {outcomes.shape}")
    return outcomes


def _arm(outcomes_S_Q: Array) -> _Arm:
    S, Q = outcomes_S_Q.shape
    means_Q = outcomes_S_Q.mean(axis=0)
    if S == 1:
        return _Arm(means_Q=means_Q, seeds=0.0, rest=0.0, df=0)
    means_S = outcomes_S_Q.mean(axis=1)
    rest_S_Q = outcomes_S_Q - means_Q - means_S[:, None] + outcomes_S_Q.mean()
    rest = float((rest_S_Q**2).sum()) / ((S - 1) * (Q - 1))  # mean square of the rest
    return _Arm(means_Q=means_Q, seeds=float(means_S.var(ddof=1)) / S, rest=rest / (S * Q), df=S - 1)


def _combined(values_Q: Array, arms: Sequence[_Arm], *, seeds: tuple[int, ...], tested: bool) -> OverSeeds:
    from scipy.optimize import brentq
    from scipy.stats import t

    Q = len(values_Q)
    value = float(values_Q.mean())
    rest = sum(arm.rest for arm in arms)
    of_questions = max(float(values_Q.var(ddof=1)) / Q - rest, 0.0)
    of_seeds = sum(arm.seeds for arm in arms)  # expectation: seeds and rest
    varied = [arm for arm in arms if arm.seeds > 0]
    df = of_seeds**2 / sum(arm.seeds**2 / arm.df for arm in varied) if varied else float(max(arm.df for arm in arms))

    def half(quantile: float) -> float:
        return sqrt(t.ppf(quantile, df) ** 2 * of_seeds + t.ppf(quantile, Q - 1) ** 2 * of_questions)

    p_value = detectable = None
    if tested:
        # The level at which the interval just ends at 0.
        near, far = 1e-12, 1 - 1e-9
        if half(1 - near / 2) <= abs(value):
            p_value = near if value else 1.0
        elif half(1 - far / 2) >= abs(value):
            p_value = 1.0
        else:
            p_value = float(brentq(lambda level: half(1 - level / 2) - abs(value), near, far))
        detectable = half(1 - ALPHA / 2) + half(POWER)
    return OverSeeds(
        value=value,
        low=value - half(1 - ALPHA / 2),
        high=value + half(1 - ALPHA / 2),
        seeds=seeds,
        questions=Q,
        se_seeds=sqrt(sum(max(arm.seeds - arm.rest, 0.0) for arm in arms)),
        se_questions=sqrt(of_questions),
        se_rest=sqrt(rest),
        seed_df=df,
        p_value=p_value,
        detectable=detectable,
    )
