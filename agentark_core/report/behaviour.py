"""The sections on how a model behaves beside its accuracy: robustness, calibration, reasoning."""

from __future__ import annotations

from agentark_core import reasoning_view
from agentark_core.calibration import BINS, brier, calibration
from agentark_core.evaluation import STUDENT
from agentark_core.mean_interval import show
from agentark_core.page import Section, Table
from agentark_core.report import charts
from agentark_core.report.debate_sets import VoteSet
from agentark_core.report.gather import Facts
from agentark_core.robustness import failures
from agentark_core.statistics import Estimate, share

CALIBRATION_NOTE = (
    "Confidence: the share of a question's samples that gave the answer of their majority vote; right: the verifier's "
    "word on that answer. No answer at all is confidence 0 and wrong; undecided questions are left out. Error: mean "
    f"over questions of |right - confidence| of their bin; at most {BINS} bins of about as many questions each, equal "
    "shares always in one, so fewer where there are few samples. It is above 0 by chance alone. Brier: mean squared "
    "distance of the confidence from 1 where right, 0 where wrong. Both bootstrap over questions."
)
QUALITIES_NOTE = (
    f"{reasoning_view.NOTE} n: solutions that the judge could rate, of those it saw. With right steps: rank "
    "correlation with the share of steps that an exact check finds right, on arkling."
)
PERPLEXITY_NOTE = (
    "How likely the model finds the reasoning, without prompt and answer: mean over samples, bootstrap interval. To be "
    "compared under one model only. Left out: without reasoning / over the context / questions without a whole answer."
)


def robustness(facts: Facts) -> Section | None:
    """Failures by perturbation against the gate, and the drop out of distribution; None if nothing was asked."""
    rows, drop = failures.from_json(facts.stated.get("robustness", [])), facts.stated.get("ood_drop")
    if not rows and drop is None:
        return None
    points = []
    for judgement in ("fail", "not shown", "pass"):
        if names := [row.name for row in rows if row.judgement == judgement]:
            points.append(f"Failure rate below {100 * failures.GATE:g} %, {judgement}: {', '.join(names)}.")
    points += [f"{line}." for line in failures.left_out(rows)]
    if drop is not None:
        points.append(f"Out of distribution: {failures.drop_text(failures.Drop(**drop))}.")
    return Section(
        title=f"Robustness: {STUDENT}",
        points=points,
        figures=[charts.failures(rows)] if any(row.rate for row in rows) else [],
        tables=[failures.page_table(rows)] if rows else [],
    )


def calibrations(facts: Facts) -> Section | None:
    """Confidence by vote against accuracy, for every model that was sampled several times; None if none was."""
    sampled = [one for one in facts.votes if len(one.right) > 1]
    if not sampled:
        return None
    points, rows, drawn = [], [], {}
    for one in sampled:
        table, error = calibration(
            one.confidence, one.right, [str(number) for number in range(len(one.right))], binning="equal mass"
        )
        drawn[one.title] = table
        points.append(_calibrated(one, error=error))
        for row in table:
            said = f"{100 * row.low:.0f} to {100 * row.high:.0f}" if row.low < row.high else f"{100 * row.low:.0f}"
            rows.append((one.title, said, f"{row.right.n:,}", f"{100 * row.mean_score:.1f}", charts.percent(row.right)))
    headers = ("model", "confidence, %", "questions", "mean confidence, %", "right, % [95 %]")
    return Section(
        title="Calibration of answers",
        points=points,
        figures=[
            charts.reliability(
                drawn, key="confidence", x="mean confidence of a bin, %", y="right answers, % [95 %]", of="questions"
            )
        ],
        tables=[Table(headers=headers, rows=rows, note=CALIBRATION_NOTE)],
    )


def _calibrated(one: VoteSet, *, error: Estimate) -> str:
    n, squared = len(one.right), brier(one.confidence, one.right)
    return (
        f"{one.title}, vote of {len(one.curve)} samples, {n:,} questions: mean confidence "
        f"{100 * sum(one.confidence) / n:.1f} %, right {charts.percent(share(sum(one.right), n))} %; "
        f"expected calibration error {charts.percent(error)} points; "
        f"Brier score {squared.value:.3f} [{squared.low:.3f}, {squared.high:.3f}]."
    )


def reasoning(facts: Facts) -> Section | None:
    """Judged qualities and perplexity of first answers; None if neither was measured."""
    if not facts.reasoning:
        return None
    perplexities = [
        (
            name,
            one.model,
            show(one.mean, one.interval, form=".3f"),
            f"{one.n:,}",
            f"{one.tokens:,}",
            f"{one.no_reasoning:,} / {one.too_long:,} / {one.incomplete:,}",
        )
        for name, of in facts.reasoning.items()
        for one in of.perplexity
    ]
    cells = [
        (name, one.judge, quality, mean, f"{n} of {one.solutions:,}", *trust, reasoning_view.rho(one, quality))
        for name, of in facts.reasoning.items()
        for one in of.qualities
        for quality, mean, n, *trust in reasoning_view.quality_cells(one)
    ]
    tables = []
    if cells:
        headers: tuple[str, ...] = ("answers of", "judge", *reasoning_view.COLUMNS, "with right steps [95 %]")
        tables.append(Table(headers=headers, rows=cells, left=3, note=QUALITIES_NOTE))
    if perplexities:
        headers = ("answers of", "under", "perplexity [95 %]", "samples", "reasoning tokens", "left out")
        tables.append(Table(headers=headers, rows=perplexities, left=2, note=PERPLEXITY_NOTE))
    return Section(title="How solutions reason", tables=tables)
