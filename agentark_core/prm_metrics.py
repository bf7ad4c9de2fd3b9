"""How good a process reward model is: step AUC, first error (ProcessBench's F1), best of N.

Scores are sigma(R) in [0, 1] of the steps of many traces; a trace belongs to a question. All intervals are 95 %:
Wilson's for shares of questions, else a percentile bootstrap over whole questions, since the steps and traces of one
question are not independent. Shapes: _S steps, _T traces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agentark_core.calibration import Bin, calibration
from agentark_core.errors import DataError
from agentark_core.paired_tests import PairedTest, paired
from agentark_core.statistics import Array, Estimate, of_questions, share


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One trace. scores: sigma(R) of its steps; labels: whether each of the first of them is right. Steps behind these
    have no label, as those behind the first wrong one in ProcessBench."""

    question: str
    scores: Sequence[float]
    labels: Sequence[bool]

    @property
    def first_error(self) -> int:
        """Index of the first wrong step, -1 if there is none."""
        return self.labels.index(False) if False in self.labels else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstError:
    """ProcessBench (arXiv 2412.06559): accuracy at finding the first wrong step of the traces that have one, at finding
    none in the others, and f1, the harmonic mean of both."""

    threshold: float
    erroneous: Estimate
    correct: Estimate
    f1: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What `measure` found. auc and calibration_error are of the labelled steps, reliability is their table."""

    auc: Estimate
    first_error: FirstError
    calibration_error: Estimate
    reliability: list[Bin]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """Share of questions answered right by the trace with the highest reward, by majority vote of the same traces, by
    a random one, and by any; test: best of N minus majority."""

    best: Estimate
    majority: Estimate
    single: float
    any: Estimate
    test: PairedTest


def measure(traces: Sequence[Scored], *, threshold: float) -> Measured:
    """Step AUC, first error and calibration of one model's scores. Raises DataError as `first_error` does.

    threshold: from `choose_threshold` on other questions.
    """
    found = first_error(
        [trace.scores for trace in traces],
        [trace.first_error for trace in traces],
        [trace.question for trace in traces],
        threshold=threshold,
    )
    labels_S = [label for trace in traces for label in trace.labels]
    scores_S = [score for trace in traces for score, _ in zip(trace.scores, trace.labels, strict=False)]
    questions_S = [trace.question for trace in traces for _ in trace.labels]
    table, error = calibration(scores_S, labels_S, questions_S)
    return Measured(
        auc=auc(scores_S, labels_S, questions_S), first_error=found, calibration_error=error, reliability=table
    )


def auc(scores_S: Sequence[float], labels_S: Sequence[bool], questions_S: Sequence[str]) -> Estimate:
    """Chance that a right step scores above a wrong one, ties half (Mann-Whitney); n counts steps.

    Raises DataError unless there are right and wrong steps.
    """
    labels = np.asarray(labels_S, dtype=float)
    if not 0 < labels.sum() < len(labels):
        raise DataError("AUC needs right and wrong steps; give more traces")
    _, group = np.unique(np.asarray(scores_S), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))

    def value(weights_S: Array) -> float:
        right = np.add.reduceat((weights_S * labels)[order], starts)
        wrong = np.add.reduceat((weights_S * (1 - labels))[order], starts)
        below = np.cumsum(wrong) - wrong / 2
        total = right.sum() * wrong.sum()
        return float(right @ below / total) if total else np.nan

    return of_questions(value, questions_S)


def first_error(
    scores: Sequence[Sequence[float]], labels: Sequence[int], questions: Sequence[str], *, threshold: float
) -> FirstError:
    """Of each trace the first step that scores below the threshold (-1: none), against labels (as in ProcessBench).

    n counts traces. threshold: from `choose_threshold` on other questions. An accuracy of 0 or 1 has Wilson's limits.
    Raises DataError unless there are traces with and without a wrong step.
    """
    wrong_T = _wrong(labels)
    hit_T = _hits(scores, labels, threshold=threshold)
    erroneous, correct = (
        of_questions(lambda w, part=part: _accuracies(hit_T, wrong_T, w)[part], questions, n=int(of_T.sum()))  # type: ignore[misc]
        if 0 < hit_T[of_T].sum() < of_T.sum()
        else share(int(hit_T[of_T].sum()), int(of_T.sum()))  # resamples of it do not vary
        for part, of_T in enumerate((wrong_T, ~wrong_T))
    )
    f1 = of_questions(lambda w: _harmonic(*_accuracies(hit_T, wrong_T, w)), questions)
    if f1.low == f1.high:
        f1 = replace(f1, low=_harmonic(erroneous.low, correct.low), high=_harmonic(erroneous.high, correct.high))
    return FirstError(threshold=threshold, erroneous=erroneous, correct=correct, f1=f1)


def choose_threshold(scores: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """The threshold, of 200 quantiles of the scores, that gives the highest F1 on these traces, the selection split.

    Raises DataError unless there are traces with and without a wrong step.
    """
    wrong_T = _wrong(labels)
    ones_T = np.ones(len(labels))
    quantiles = np.quantile(np.concatenate([np.asarray(trace) for trace in scores]), np.linspace(0, 1, 200))

    def f1(threshold: float) -> float:
        return _harmonic(*_accuracies(_hits(scores, labels, threshold=threshold), wrong_T, ones_T))

    return max((float(threshold) for threshold in np.unique(quantiles)), key=f1)


def _wrong(labels: Sequence[int]) -> Array:
    """(T,): whether the trace has a wrong step."""
    wrong_T = np.asarray(labels) >= 0
    if wrong_T.all() or not wrong_T.any():
        raise DataError("first-error F1 needs traces with and without a wrong step; give more traces")
    return wrong_T


def _hits(scores: Sequence[Sequence[float]], labels: Sequence[int], *, threshold: float) -> Array:
    """(T,): whether the first step below the threshold is the labelled one."""
    found = [next((step for step, score in enumerate(trace) if score < threshold), -1) for trace in scores]
    return np.asarray(found) == np.asarray(labels)


def _accuracies(hit_T: Array, wrong_T: Array, weights_T: Array) -> tuple[float, float]:
    """On traces with a wrong step, and without; nan if a resample has none."""
    totals = [weights_T[of].sum() for of in (wrong_T, ~wrong_T)]
    hits = [weights_T[of] @ hit_T[of] for of in (wrong_T, ~wrong_T)]
    first, second = (float(hit / total) if total else np.nan for hit, total in zip(hits, totals, strict=True))
    return first, second


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def plot_reliability(tables: dict[str, list[Bin]], path: Path) -> None:
    """One line a model: share of right steps by score, with Wilson's intervals, as an image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.5))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    for name, table in tables.items():
        shares = [row.right for row in table]
        errors = [[share.value - share.low for share in shares], [share.high - share.value for share in shares]]
        axes.errorbar([row.mean_score for row in table], [s.value for s in shares], yerr=errors, marker="o", label=name)
    axes.set(xlabel="score", ylabel="share of right steps", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def best_of_n(
    rewards: Sequence[Sequence[float]], answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[bool]]
) -> BestOfN:
    """By question, for each of its N traces: the reward, the normalised answer (None: none) and whether it is right.

    Ties go to the earlier trace, of votes to the answer given first. n counts questions.
    """
    best, majority, single, anyone = {}, {}, [], []
    for number, (values, given, right) in enumerate(zip(rewards, answers, correct, strict=True)):
        best[str(number)] = right[max(range(len(values)), key=lambda trace: values[trace])]
        votes = Counter(answer for answer in given if answer is not None)
        majority[str(number)] = bool(votes) and right[given.index(votes.most_common(1)[0][0])]
        single.append(sum(right) / len(right))
        anyone.append(any(right))
    n = len(best)
    return BestOfN(
        best=share(sum(best.values()), n),
        majority=share(sum(majority.values()), n),
        single=sum(single) / n,
        any=share(sum(anyone), n),
        test=paired(best, majority),
    )
