"""Accuracy with intervals and paired tests: MethodResult in, EvalReport out; shown by evaluation_report.py.

Choices, all of them visible in the report:

- The denominator of accuracy is every question. An undecided answer is not correct, but it is not counted as wrong in
  silence either: each row shows how many there are, so the true accuracy lies in [correct, correct + undecided] / n.
- Paired tests use only the questions that are decided for both methods, and say how many (`PairedTest.n`).
- All intervals are 95 %. Single proportions: Wilson (1927). Paired differences: Newcombe (1998), method 10.
- p-values: exact McNemar, then Holm's correction over the whole report (all rows and contrasts are one family).

Example row: student, 412 of 600 correct, 3 undecided, accuracy 0.687 [0.648, 0.722], 61.0 completion tokens and 1 call
a question, +9.3 points [+6.1, +12.6] against the base model, p = 1e-7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import hypot, sqrt
from typing import Any

from agentark_core.errors import DataError
from agentark_core.types import MethodResult

_Z = 1.959963984540054  # 97.5 % point of the normal distribution

Outcomes = Mapping[str, bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Two methods on the same questions.

    n: questions decided for both; only_a, only_b: correct for one method alone. difference, low, high: accuracy of a
    minus accuracy of b in percentage points, with its 95 % interval. p_value: exact McNemar, two-sided; p_holm: after
    Holm's correction over the report (None outside a report).
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRow:
    """One method. accuracy, low, high are shares in [0, 1] of all n questions; tokens and calls are per question."""

    name: str
    model: str
    n: int
    correct: int
    undecided: int
    accuracy: float
    low: float
    high: float
    tokens_per_question: float
    prompt_tokens_per_question: float
    calls_per_question: float
    vs_baseline: PairedTest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """An extra comparison: method a minus method b. test is None if no question was decided for both."""

    a: str
    b: str
    test: PairedTest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalReport:
    """Methods in the order given, each against the baseline, and the extra contrasts."""

    baseline: str
    n: int
    rows: tuple[EvalRow, ...]
    contrasts: tuple[Contrast, ...]


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
    p_a, p_b = a / n, b / n
    low_a, high_a = wilson(a, n)
    low_b, high_b = wilson(b, n)
    covariance: float = both * neither - only_a * only_b
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    scale = sqrt(a * (n - a) * b * (n - b))
    phi = covariance / scale if scale else 0.0

    def spread(x: float, y: float) -> float:
        return sqrt(max(hypot(x, y) ** 2 - 2 * phi * x * y, 0.0))

    difference = p_a - p_b
    return (
        max(difference - spread(p_a - low_a, high_b - p_b), -1.0),
        min(difference + spread(high_a - p_a, p_b - low_b), 1.0),
    )


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def compare(results: Sequence[MethodResult], *, baseline: str, contrasts: Sequence[tuple[str, str]] = ()) -> EvalReport:
    """Rows in the order given, each but the baseline tested against it, plus the contrasts (a minus b).

    Raises DataError if a name is unknown or used twice, or if the methods did not answer the same questions.
    """
    by_name = {result.name: result for result in results}
    if len(by_name) < len(results):
        raise DataError("two methods have the same name; give each method its own")
    for name in (baseline, *(name for pair in contrasts for name in pair)):
        if name not in by_name:
            raise DataError(f"no results of a method named {name!r}; there are: {', '.join(by_name) or 'none'}")
    _check_same_questions(results)

    def test(a: str, b: str) -> PairedTest | None:
        try:
            return paired(by_name[a].outcomes, by_name[b].outcomes)
        except DataError:
            return None

    tests = [None if name == baseline else test(name, baseline) for name in by_name]
    tests += [test(a, b) for a, b in contrasts]
    adjusted = iter(holm([t.p_value for t in tests if t is not None]))
    tests = [replace(t, p_holm=next(adjusted)) if t is not None else None for t in tests]
    rows = [_row(result, vs_baseline=t) for result, t in zip(results, tests[: len(results)], strict=True)]
    extra = [Contrast(a=a, b=b, test=t) for (a, b), t in zip(contrasts, tests[len(results) :], strict=True)]
    return EvalReport(baseline=baseline, n=rows[0].n, rows=tuple(rows), contrasts=tuple(extra))


def to_json(report: EvalReport) -> dict[str, Any]:
    """Plain data that `json.dumps` takes; `from_json` is its inverse."""
    return asdict(report)


def from_json(data: Mapping[str, Any]) -> EvalReport:
    """The report that `to_json` wrote."""

    def test(fields: dict[str, Any] | None) -> PairedTest | None:
        return PairedTest(**fields) if fields is not None else None

    return EvalReport(
        baseline=data["baseline"],
        n=data["n"],
        rows=tuple(EvalRow(**{**row, "vs_baseline": test(row["vs_baseline"])}) for row in data["rows"]),
        contrasts=tuple(Contrast(**{**item, "test": test(item["test"])}) for item in data["contrasts"]),
    )


def _row(result: MethodResult, *, vs_baseline: PairedTest | None) -> EvalRow:
    n = len(result.outcomes)
    correct = sum(outcome is True for outcome in result.outcomes.values())
    low, high = wilson(correct, n)
    return EvalRow(
        name=result.name,
        model=result.model,
        n=n,
        correct=correct,
        undecided=sum(outcome is None for outcome in result.outcomes.values()),
        accuracy=correct / n,
        low=low,
        high=high,
        tokens_per_question=result.completion_tokens / n,
        prompt_tokens_per_question=result.prompt_tokens / n,
        calls_per_question=result.calls / n,
        vs_baseline=vs_baseline,
    )


def _check_same_questions(results: Sequence[MethodResult]) -> None:
    first = results[0]
    if not first.outcomes:
        raise DataError(f"method {first.name!r} has no questions; check the evaluation's problems section")
    for other in results[1:]:
        different = sorted(first.outcomes.keys() ^ other.outcomes.keys())
        if different:
            raise DataError(
                f"{first.name!r} and {other.name!r} differ in {len(different)} questions (first: {different[0]}); "
                "evaluate every method on the same questions"
            )
