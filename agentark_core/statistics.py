"""Intervals, tests and detectable differences. Plain numbers in; evaluation.py makes reports of them.

All intervals are 95 %. Questions are the unit: whatever is measured several times on a question (samples, agents) is
one value of that question here; several seeds are combined in seeds.py. Shapes: _Q questions.

- shares of questions: Wilson (1927); paired differences of shares: Newcombe (1998), method 10; of two sets of
  different questions: his method of the same year for independent shares;
- any other value of a question, and ratios: percentile bootstrap over questions (Efron and Tibshirani 1993, chapter
  13), RESAMPLES resamples with a stated seed; of two methods always the same questions (paired);
- quantiles: order statistics (Conover 1999);
- tests: exact McNemar (1947); of any other paired value its signs flipped (Fisher 1935); Holm (1979) over many;
- what a test could have found: the difference at which it has 80 % power.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

_Z = 1.959963984540054  # 97.5 % point of the normal distribution

RESAMPLES = 10_000
CLUSTER_RESAMPLES = 1_000
ALPHA = 0.05
POWER = 0.8

Array = np.ndarray
Values = Sequence[float] | Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval, over n units (named by what returns it)."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """A quantile with its 95 % interval, over n values; a limit that so few values do not have is infinite."""

    p: float
    value: float
    low: float
    high: float
    n: int


Judgement = Literal["pass", "fail", "not shown"]


def below(limit: float, *, low: float, high: float) -> Judgement:
    """Whether an interval shows that something is below a limit, or at or above it."""
    return "pass" if high < limit else "fail" if low >= limit else "not shown"


def share(successes: int, n: int) -> Estimate:
    """successes of n with Wilson's interval. n must not be 0."""
    low, high = wilson(successes, n)
    return Estimate(value=successes / n, low=low, high=high, n=n)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion, in [0, 1]; (0, 1) if n is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, _Z * _Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value: twice the smaller tail of Binomial(only_a + only_b, 1/2), at most 1."""
    m = only_a + only_b
    term, tail = 1, 0
    for k in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (m - k) // (k + 1)
    return min(1.0, 2 * tail / 2**m)


def newcombe(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """95 % interval of p_a - p_b for paired proportions, in [-1, 1].

    Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10: Wilson limits of both proportions, combined
    with the correlation phi of the 2 x 2 table, its numerator corrected by n/2 towards 0 when positive.
    """
    n = both + only_a + only_b + neither
    a, b = both + only_a, both + only_b
    covariance: float = both * neither - only_a * only_b
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    scale = sqrt(a * (n - a) * b * (n - b))
    return _combined(share(a, n), share(b, n), phi=covariance / scale if scale else 0.0)


def unpaired(a: Estimate, b: Estimate) -> Estimate:
    """a - b for shares of two different sets of questions; n is that of both.

    Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10: Wilson limits combined without correlation.
    """
    low, high = _combined(a, b, phi=0.0)
    return Estimate(value=a.value - b.value, low=low, high=high, n=a.n + b.n)


def _combined(a: Estimate, b: Estimate, *, phi: float) -> tuple[float, float]:
    def spread(x: float, y: float) -> float:
        return sqrt(max(hypot(x, y) ** 2 - 2 * phi * x * y, 0.0))

    difference = a.value - b.value
    return (
        max(difference - spread(a.value - a.low, b.high - b.value), -1.0),
        min(difference + spread(a.high - a.value, b.value - b.low), 1.0),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


# ---- any value of a question


def mean(values_Q: Values, *, seed: int = 0) -> Estimate:
    """Mean over questions. Values that are all 0 or all 1 have Wilson's interval: resamples of them do not vary."""
    values = np.asarray(values_Q, dtype=float)
    if np.all(values == values[0]) and values[0] in (0, 1):
        return share(int(values.sum()), len(values))
    return _bootstrap((values,), lambda v, axis: v.mean(axis=axis), seed=seed)


def paired_difference(a_Q: Values, b_Q: Values, *, seed: int = 0) -> Estimate:
    """Mean of a - b over questions, for any score (F1, the share of samples that are right, tokens), paired."""
    return _bootstrap(_same_length(a_Q, b_Q), lambda a, b, axis: (a - b).mean(axis=axis), seed=seed)


def sign_flip(differences_Q: Values, *, seed: int = 0) -> float:
    """Two-sided p-value that paired differences are as likely positive as negative, from their mean.

    Exact up to 13 questions (of differences -1, 0 and 1 McNemar's), then RESAMPLES random signs, where p is at least
    2 / RESAMPLES (Fisher 1935; Noreen 1989). 1 for one question.
    """
    from scipy.stats import permutation_test

    differences = np.asarray(differences_Q, dtype=float)
    if len(differences) < 2 or not differences.any():
        return 1.0
    found = permutation_test(
        (differences,),
        lambda v, axis: v.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES - 1,
        batch=max(1, 2_000_000 // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def ratio(a_Q: Values, b_Q: Values, *, seed: int = 0) -> Estimate | None:
    """Sum of a over sum of b, paired; None if b sums to 0 or there are fewer than two questions.

    Retention: a the student's outcomes, b the debate's. Accuracy per 1,000 tokens: a outcomes, b tokens / 1,000.
    Resamples in which b sums to 0 are left out. An a that is all 0 or all 1, whose resamples do not vary, has Wilson's
    limits over the mean of b where these are wider.
    """
    values = a, b = _same_length(a_Q, b_Q)
    if b.sum() == 0 or len(b) < 2:
        return None

    def statistic(a: Array, b: Array, axis: int) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = a.sum(axis=axis) / b.sum(axis=axis)
        return np.where(np.isfinite(found), found, np.nan)

    found = _bootstrap(values, statistic, seed=seed)
    if np.all(a == a[0]) and a[0] in (0, 1):
        low, high = wilson(int(a.sum()), len(a))
        found = replace(found, low=min(found.low, low / b.mean()), high=max(found.high, high / b.mean()))
    return found


def of_questions(value: Callable[[Array], float], questions: Sequence[str], *, n: int | None = None) -> Estimate:
    """A figure of units (steps, traces) of which a question has several: value(weights) at weight 1 for every unit, and
    over CLUSTER_RESAMPLES resamples of whole questions (seed 0). n: what it is of; None: the units."""
    _, of_unit = np.unique(np.asarray(questions), return_inverse=True)
    count = int(of_unit.max()) + 1
    generator = np.random.default_rng(0)
    found = [
        value(generator.multinomial(count, np.full(count, 1 / count))[of_unit].astype(float))
        for _ in range(CLUSTER_RESAMPLES)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return Estimate(
        value=value(np.ones(len(of_unit))), low=float(low), high=float(high), n=len(of_unit) if n is None else n
    )


def quantile(values: Values, p: float) -> Quantile | None:
    """The p-quantile, 0 < p < 1: the least value that at least a share p of the values does not exceed.

    The interval is that of order statistics (Conover 1999, section 3.2), which asks nothing of the distribution but
    that the values are independent. Values may be infinite. None below 1 / (1 - p) values, where the highest of them
    would pass for it.
    """
    from scipy.stats import quantile_test

    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    if n * (1 - p) < 1 - 1e-9:
        return None
    limits = quantile_test(ordered, p=p).confidence_interval(confidence_level=1 - ALPHA)
    return Quantile(
        p=p,
        value=float(np.quantile(ordered, p, method="inverted_cdf")),
        low=-np.inf if np.isnan(limits.low) else float(limits.low),
        high=np.inf if np.isnan(limits.high) else float(limits.high),
        n=n,
    )


def _same_length(a_Q: Values, b_Q: Values) -> tuple[Array, Array]:
    a, b = np.asarray(a_Q, dtype=float), np.asarray(b_Q, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"expected one value of each method for every question, found shapes {a.shape} and {b.shape}")
    return a, b


def _bootstrap(data: tuple[Array, ...], statistic: Callable[..., Array], *, seed: int) -> Estimate:
    """Percentile interval; the same questions of all of data are drawn together."""
    n = len(data[0])
    if n < 2:
        raise ValueError("one question has no interval; give two or more")
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # two methods that never differ: a point is the interval
        made = bootstrap(
            data,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, 2_000_000 // n),
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = np.nanpercentile(made.bootstrap_distribution, [2.5, 97.5])
    return Estimate(value=float(statistic(*data, axis=0)), low=float(low), high=float(high), n=n)


# ---- what a test could have found


def mcnemar_power(n: int, *, discordance: float, difference: float, alpha: float = ALPHA) -> float:
    """Chance that the exact McNemar test on n questions finds a true difference significant at alpha.

    discordance: share of questions on which exactly one method is right, at least the difference (both in [0, 1]).
    Unconditional: the number of discordant questions is Binomial(n, discordance) (Duffy, Biometrics 40 (1984) 1005).
    """
    from scipy.stats import binom

    if discordance == 0:
        return 0.0
    m = np.arange(binom.ppf(1e-9, n, discordance), binom.ppf(1 - 1e-9, n, discordance) + 1)
    tail = binom.ppf(alpha / 2, m, 0.5)
    critical = np.where(binom.cdf(tail, m, 0.5) <= alpha / 2, tail, tail - 1)
    first = (discordance + difference) / (2 * discordance)
    rejects = binom.cdf(critical, m, first) + binom.cdf(critical, m, 1 - first)
    return float(binom.pmf(m, n, discordance) @ rejects)


def detectable_difference(n: int, *, discordant: int, alpha: float = ALPHA) -> float | None:
    """The true difference, in [0, 1], that the exact McNemar test finds with a chance of 80 % (POWER).

    The discordance is that seen, or the difference itself where that is larger. alpha: of one test; divide it by the
    number of tests where Holm's correction follows, for that is what its first step asks. None if n is too small for
    any difference.
    """
    from scipy.optimize import brentq

    def lacks(difference: float) -> float:
        discordance = max(discordant / n, difference)
        return mcnemar_power(n, discordance=discordance, difference=difference, alpha=alpha) - POWER

    if n == 0 or lacks(1.0) < 0:
        return None
    return float(brentq(lacks, 1e-9, 1.0, xtol=1e-5))


def detectable_mean(n: int, *, deviation: float, alpha: float = ALPHA) -> float | None:
    """The true mean of n paired differences that a t-test finds with a chance of 80 % (POWER), in their unit.

    deviation: their standard deviation, as seen. (t(1 - alpha / 2) + t(POWER)) deviation / sqrt(n), t with n - 1
    degrees of freedom. None where they do not vary.
    """
    from scipy.stats import t

    if n < 2 or deviation == 0:
        return None
    return float((t.ppf(1 - alpha / 2, n - 1) + t.ppf(POWER, n - 1)) * deviation / sqrt(n))


def detectable_drop(share_of_a: float, n_a: int, n_b: int, *, alpha: float = ALPHA) -> float | None:
    """How far below share_of_a, in [0, 1], the true share of n_b other questions must be for a two-sided test of two
    independent shares to find it with a chance of 80 % (POWER).

    Normal approximation (Fleiss, Levin and Paik 2003, section 4.2, for unequal sizes). None if even a share of 0 would
    not be found.
    """
    from scipy.optimize import brentq

    z_alpha, z_power = (NormalDist().inv_cdf(level) for level in (1 - alpha / 2, POWER))

    def lacks(drop: float) -> float:
        b = share_of_a - drop
        pooled = (n_a * share_of_a + n_b * b) / (n_a + n_b)
        under_null = sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
        under_drop = sqrt(share_of_a * (1 - share_of_a) / n_a + b * (1 - b) / n_b)
        return z_alpha * under_null + z_power * under_drop - drop

    if share_of_a == 0 or lacks(share_of_a) > 0:
        return None
    return float(brentq(lacks, 0.0, share_of_a, xtol=1e-6))
