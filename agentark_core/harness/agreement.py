"""Two sample files on the same questions: how often both are right, and where they differ.

Questions are paired by their text (field `question` of the doc). What only one of the files asks is counted and left
out; so is what one of them has not decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentark_core import terminal
from agentark_core.errors import DataError
from agentark_core.harness.samples import Sample
from agentark_core.paired_tests import PairedTest, paired

SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """correct_a, correct_b: of all n questions that are in both. test: a minus b; differ: rows of the questions whose
    scores differ, a's and b's."""

    n: int
    only_in_one: int
    same_text: int
    correct_a: int
    correct_b: int
    test: PairedTest
    differ: tuple[tuple[Sample, Sample], ...]


def agreement(a: Sequence[Sample], b: Sequence[Sample], *, metric: str = "exact_match") -> Agreement:
    """Raises DataError if a file has no such metric, docs without a question, or none in common with the other."""
    first, second = _by_question(a, metric=metric), _by_question(b, metric=metric)
    common = [question for question in first if question in second]
    if not common:
        raise DataError("the two files have no question in common; evaluate the same split, seed and number")
    pairs = [(first[question], second[question]) for question in common]
    outcomes = [{q: _outcome(file[q], metric) for q in common} for file in (first, second)]
    return Agreement(
        n=len(common),
        only_in_one=len(first) + len(second) - 2 * len(common),
        same_text=sum(x.resps == y.resps for x, y in pairs),
        correct_a=sum(value is True for value in outcomes[0].values()),
        correct_b=sum(value is True for value in outcomes[1].values()),
        test=paired(*outcomes),
        differ=tuple((x, y) for x, y in pairs if _outcome(x, metric) != _outcome(y, metric)),
    )


def render(found: Agreement, *, names: tuple[str, str]) -> str:
    """The agreement as text."""
    test = found.test
    lines = [
        f"{found.n} questions in both ({found.only_in_one} in one alone), {found.same_text} with the same response",
        f"{names[0]}: {found.correct_a} correct, {terminal.share(found.correct_a, found.n)} %",
        f"{names[1]}: {found.correct_b} correct, {terminal.share(found.correct_b, found.n)} %",
        f"same verdict on {found.n - len(found.differ)} of {found.n}; difference {test.difference:+.1f} points "
        f"[{test.low:+.1f}, {test.high:+.1f}] on {test.n} decided ones",
    ]
    for x, y in found.differ[:SHOWN]:
        read = ", ".join(f"{name} {sample.filtered_resps}" for name, sample in zip(names, (x, y), strict=True))
        lines.append(f"  differ: doc {x.doc_id}, gold {x.target}: {read}")
    if len(found.differ) > SHOWN:
        lines.append(f"  and {len(found.differ) - SHOWN} more")
    return terminal.safe("\n".join(lines))


def _by_question(samples: Sequence[Sample], *, metric: str) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for sample in samples:
        if metric not in sample.metrics:
            raise DataError(f"samples have no metric {metric!r}, only {', '.join(sample.metrics)}")
        question = sample.doc.get("question")
        if not isinstance(question, str):
            raise DataError(f"doc {sample.doc_id} has no text `question`, by which questions are paired")
        found.setdefault(question.strip(), sample)  # the first filter of a file with several
    return found


def _outcome(sample: Sample, metric: str) -> bool | None:
    if "undecided" in sample.metrics and sample.metric("undecided"):
        return None
    return sample.metric(metric) == 1.0
