"""Accuracy with intervals and paired tests: MethodResult in, EvalReport out; shown by evaluation_report.py.

Choices, all of them visible in the report:

- The denominator of accuracy is every question. An undecided answer is not correct, but it is not counted as wrong in
  silence either: each row shows how many there are, so the true accuracy lies in [correct, correct + undecided] / n.
- Paired tests use only the questions that are decided for both methods, and say how many (`PairedTest.n`).
- All intervals are 95 %. Single proportions: Wilson (1927). Paired differences: Newcombe (1998), method 10.
- p-values: exact McNemar, of mean scores their signs flipped, then Holm's correction over the whole report (rows,
  contrasts and self-consistency at equal tokens are one family).
- A difference that is not significant has the one that would have been found beside it (`detectable`).
- Retention and accuracy per 1,000 tokens are ratios over questions, with bootstrap intervals (statistics.ratio).

Example row: student, 412 of 600 correct, 3 undecided, accuracy 0.687 [0.648, 0.722], 61.0 completion tokens and 1 call
a question, +9.3 points [+6.1, +12.6] against the base model, p = 1e-7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agentark_core.dynamics import Share
from agentark_core.errors import DataError
from agentark_core.paired_tests import PairedTest, ScoreTest, adjusted, corrected, paired_or_none, score_test
from agentark_core.pass_at_k import Samples, majority_chance
from agentark_core.statistics import Estimate, mean, ratio, wilson
from agentark_core.types import MethodResult

STUDENT, BASE = "distilled student greedy", "base student greedy"
"""The rows of evaluate-model that a student is judged by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRow:
    """One method. accuracy, low, high are shares in [0, 1] of all n questions; tokens and calls are per question.

    retention: its accuracy over that of the report's reference, on all questions. per_1000_tokens: correct answers for
    1,000 completion tokens. Both None where the report has no reference; retention also where that is never right, the
    other also where tokens by question are not known. self_correction: of agents that were wrong before their last
    round, those who end right (dynamics.self_correction); None where nobody answers twice.
    """

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
    retention: Estimate | None = None
    per_1000_tokens: Estimate | None = None
    self_correction: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """An extra comparison: method a minus method b. test is None if no question was decided for both."""

    a: str
    b: str
    test: PairedTest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualTokens:
    """Majority vote of as many of the recorded samples as cost what the reference costs, in completion tokens.

    k: samples; tokens_per_question: what they cost on average. affordable: samples that the reference's tokens would
    buy; k is less where fewer were drawn, and affordable None in older reports. accuracy: exact over all subsets of k
    (maj@k), undecided samples not right; difference: the reference minus it, in [-1, 1], student: the distilled student
    minus it (None in older reports).
    """

    k: int
    tokens_per_question: float
    accuracy: Estimate
    difference: ScoreTest
    student: ScoreTest | None = None
    affordable: int | None = None

    @property
    def capped(self) -> bool:
        """Whether fewer samples were drawn than the reference's tokens would buy."""
        return self.affordable is not None and self.k < self.affordable


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalReport:
    """Methods in the order given, each against the baseline, and the extra contrasts. reference: the debate whose
    accuracy is to be retained, if there is one; equal_tokens: self-consistency at its tokens."""

    baseline: str
    n: int
    rows: tuple[EvalRow, ...]
    contrasts: tuple[Contrast, ...]
    reference: str | None = None
    equal_tokens: EqualTokens | None = None


def compare(
    results: Sequence[MethodResult],
    *,
    baseline: str,
    contrasts: Sequence[tuple[str, str]] = (),
    reference: str | None = None,
) -> EvalReport:
    """Rows in the order given, each but the baseline tested against it, plus the contrasts (a minus b).

    reference: the debate; every row then has its retention and its accuracy per 1,000 tokens.

    Raises DataError if a name is unknown or used twice, or if the methods did not answer the same questions.
    """
    by_name = {result.name: result for result in results}
    if len(by_name) < len(results):
        raise DataError("two methods have the same name; give each method its own")
    for name in (baseline, *(name for pair in contrasts for name in pair), *([reference] if reference else [])):
        if name not in by_name:
            raise DataError(f"no results of a method named {name!r}; there are: {', '.join(by_name) or 'none'}")
    _check_same_questions(results)

    def test(a: str, b: str) -> PairedTest | None:
        return paired_or_none(by_name[a].outcomes, by_name[b].outcomes)

    of = by_name[reference] if reference else None
    rows = tuple(
        _row(result, vs_baseline=None if name == baseline else test(name, baseline), of=of)
        for name, result in by_name.items()
    )
    extra = tuple(Contrast(a=a, b=b, test=test(a, b)) for a, b in contrasts)
    return _in_one_family(EvalReport(baseline=baseline, n=rows[0].n, rows=rows, contrasts=extra, reference=reference))


def with_equal_tokens(report: EvalReport, found: EqualTokens) -> EvalReport:
    """The report with self-consistency at equal tokens, whose tests join its family."""
    return _in_one_family(replace(report, equal_tokens=found))


def at_equal_tokens(
    samples: Mapping[str, Samples], reference: MethodResult, *, student: MethodResult | None = None
) -> EqualTokens:
    """Self-consistency at the reference's tokens, from recorded samples of the same questions, N of each.

    k is the reference's completion tokens over those of one sample, to the nearest number from 1 to N.
    """
    count = min(len(of.right) for of in samples.values())
    a_sample = sum(of.tokens for of in samples.values()) / sum(len(of.right) for of in samples.values())
    affordable = max(1, round(reference.completion_tokens / len(reference.outcomes) / max(a_sample, 1)))
    k = min(count, affordable)
    chances = [majority_chance(samples[key].groups, samples[key].right, k) for key in reference.outcomes]
    return EqualTokens(
        k=k,
        tokens_per_question=k * a_sample,
        accuracy=mean(chances),
        difference=score_test(_right(reference), chances),
        student=score_test([student.outcomes[key] is True for key in reference.outcomes], chances) if student else None,
        affordable=affordable,
    )


def _in_one_family(report: EvalReport) -> EvalReport:
    """The same with all tests of the report as one family."""
    equal = report.equal_tokens
    family = adjusted(
        [
            *(row.vs_baseline for row in report.rows),
            *(contrast.test for contrast in report.contrasts),
            *([equal.difference, equal.student] if equal else []),
        ]
    )
    rows = tuple(replace(row, vs_baseline=corrected(row.vs_baseline, family)) for row in report.rows)
    contrasts = tuple(replace(one, test=corrected(one.test, family)) for one in report.contrasts)
    if equal:
        difference = corrected(equal.difference, family)
        assert difference is not None
        equal = replace(equal, difference=difference, student=corrected(equal.student, family))
    return replace(report, rows=rows, contrasts=contrasts, equal_tokens=equal)


def to_json(report: EvalReport) -> dict[str, Any]:
    """Plain data that `json.dumps` takes; `from_json` is its inverse."""
    return asdict(report)


def from_json(data: Mapping[str, Any]) -> EvalReport:
    """The report that `to_json` wrote."""

    def test(fields: dict[str, Any] | None) -> PairedTest | None:
        return PairedTest(**fields) if fields is not None else None

    def row(fields: dict[str, Any]) -> EvalRow:
        kinds = {"retention": Estimate, "per_1000_tokens": Estimate, "self_correction": Share}
        found = {name: kind(**fields[name]) for name, kind in kinds.items() if fields.get(name)}  # older reports: none
        return EvalRow(**{**fields, **found, "vs_baseline": test(fields["vs_baseline"])})

    return EvalReport(
        baseline=data["baseline"],
        n=data["n"],
        rows=tuple(row(fields) for fields in data["rows"]),
        contrasts=tuple(Contrast(**{**item, "test": test(item["test"])}) for item in data["contrasts"]),
        reference=data.get("reference"),
        equal_tokens=_equal_tokens_from_json(data.get("equal_tokens")),
    )


def _equal_tokens_from_json(fields: Mapping[str, Any] | None) -> EqualTokens | None:
    if fields is None:
        return None
    tests = {name: ScoreTest(**fields[name]) for name in ("difference", "student") if fields.get(name)}
    return EqualTokens(**{**fields, **tests, "accuracy": Estimate(**fields["accuracy"])})


def _row(result: MethodResult, *, vs_baseline: PairedTest | None, of: MethodResult | None) -> EvalRow:
    """of: the method whose accuracy is to be retained."""
    n = len(result.outcomes)
    corrected = result.details.get("self_correction")
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
        retention=ratio(_right(result), [of.outcomes[key] is True for key in result.outcomes]) if of else None,
        per_1000_tokens=ratio(_right(result), [result.tokens[key] / 1_000 for key in result.outcomes])
        if of and result.tokens
        else None,
        self_correction=Share(**corrected) if corrected else None,
    )


def _right(result: MethodResult) -> list[bool]:
    return [outcome is True for outcome in result.outcomes.values()]


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
