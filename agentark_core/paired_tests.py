"""Two methods on the same questions: paired tests, and families of them.

- Tests use only the questions that are decided for both methods, and say how many (`PairedTest.n`).
- p-values: exact McNemar, of mean scores their signs flipped; then Holm's correction over the family.
- A difference that is not significant has the one that would have been found beside it (`detectable`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import TypeVar

from agentark_core.errors import DataError
from agentark_core.statistics import (
    ALPHA,
    Values,
    detectable_difference,
    detectable_mean,
    holm,
    mcnemar,
    newcombe,
    paired_difference,
    sign_flip,
)

Outcomes = Mapping[str, bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Two methods on the same questions.

    n: questions decided for both; only_a, only_b: correct for one method alone. difference, low, high: accuracy of a
    minus accuracy of b in percentage points, with its 95 % interval. p_value: exact McNemar, two-sided; p_holm: after
    Holm's correction over the report (None outside a report). detectable: in percentage points, the true difference
    found significant at ALPHA over the number of comparisons with a chance of 80 %, at the discordance seen; None where
    the difference is significant, outside a report, or if n is too small for any.
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTest:
    """Mean scores of two methods on the same n questions, for scores that are not only right or wrong.

    value, low, high: of a minus of b in the scores' unit, with a bootstrap interval over questions. deviation: of the
    differences by question (n - 1). p_value: their signs flipped (statistics.sign_flip), two-sided. p_holm, detectable:
    as of PairedTest, detectable by the t-test in the scores' unit. deviation and p_value are None in older reports.
    """

    n: int
    value: float
    low: float
    high: float
    deviation: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


Test = TypeVar("Test", PairedTest, ScoreTest)


def paired(a: Outcomes, b: Outcomes) -> PairedTest:
    """Compare a with b on the questions that both decided. DataError if there is none."""
    pairs = [(x, y) for key, x in a.items() if x is not None and (y := b.get(key)) is not None]
    n = len(pairs)
    if n == 0:
        raise DataError("no question was decided for both methods, so they cannot be compared")
    both = sum(x and y for x, y in pairs)
    only_a = sum(x and not y for x, y in pairs)
    only_b = sum(y and not x for x, y in pairs)
    low, high = newcombe(both, only_a, only_b, n - both - only_a - only_b)
    return PairedTest(
        n=n,
        only_a=only_a,
        only_b=only_b,
        difference=100 * (only_a - only_b) / n,
        low=100 * low,
        high=100 * high,
        p_value=mcnemar(only_a, only_b),
    )


def paired_or_none(a: Outcomes, b: Outcomes) -> PairedTest | None:
    """Compare a with b; None if no question was decided for both."""
    try:
        return paired(a, b)
    except DataError:
        return None


def score_test(a_Q: Values, b_Q: Values) -> ScoreTest:
    """Compare two methods' scores of the same questions, of which there must be two or more."""
    found = paired_difference(a_Q, b_Q)
    differences = [float(a) - float(b) for a, b in zip(a_Q, b_Q, strict=True)]
    return ScoreTest(
        n=found.n,
        value=found.value,
        low=found.low,
        high=found.high,
        deviation=stdev(differences),
        p_value=sign_flip(differences),
    )


def in_family(tests: Sequence[Test | None]) -> list[Test | None]:
    """The tests of one family, with Holm's correction over all of them and what those not significant could find."""
    found = adjusted(tests)
    return [corrected(test, found) for test in tests]


def adjusted(tests: Sequence[PairedTest | ScoreTest | None]) -> list[tuple[float, float]]:
    """Each p-value of a family and what Holm makes of it; equal ones become equal."""
    family = [test.p_value for test in tests if test is not None and test.p_value is not None]
    return list(zip(family, holm(family), strict=True))


def corrected(test: Test | None, family: Sequence[tuple[float, float]]) -> Test | None:
    """The test with what `adjusted` found for its family."""
    if test is None or test.p_value is None:
        return test
    p_holm = dict(family)[test.p_value]
    return replace(
        test, p_holm=p_holm, detectable=_detectable(test, alpha=ALPHA / len(family)) if p_holm >= ALPHA else None
    )


def _detectable(test: PairedTest | ScoreTest, *, alpha: float) -> float | None:
    if isinstance(test, ScoreTest):
        return None if test.deviation is None else detectable_mean(test.n, deviation=test.deviation, alpha=alpha)
    found = detectable_difference(test.n, discordant=test.only_a + test.only_b, alpha=alpha)
    return None if found is None else 100 * found
