"""What a report shows below its verdict, section by section; the same in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from agentark_core import card_figures, evaluation_report
from agentark_core.dynamics import Share
from agentark_core.evaluation import EvalReport
from agentark_core.figures import BLUE, GREEN, ORANGE
from agentark_core.load import view as load_view
from agentark_core.page import Section, Table
from agentark_core.paired_tests import PairedTest
from agentark_core.report import behaviour, charts, load_chart, prose, provenance, sampling, step_scores
from agentark_core.report.debate_sets import CurvePoint, DebateSet
from agentark_core.report.gather import Facts
from agentark_core.report.pairing import Against
from agentark_core.report.verdict import found, row_of
from agentark_core.terminal import share


def sections(facts: Facts) -> Iterator[Section]:
    """Everything but the verdict and the debates, in order."""
    if facts.evaluation is not None:
        yield _accuracy(facts.evaluation)
    if scored := prose.section(facts):
        yield scored
    if len(facts.students) > 1 and any(one.row.undecided < one.row.n for one in facts.students):
        yield _students(facts)
    if facts.against is not None:
        yield _against(facts.against)
    if curves := _curves(facts):
        yield _scaling(facts, curves)
    if sampled := sampling.section(facts):
        yield sampled
    for number, one in enumerate(facts.sets, start=1):
        if len(one.rounds) > 1:
            yield _flips(one, name=f"flips-{number}")
    yield from filter(None, (behaviour.robustness(facts), behaviour.calibrations(facts), behaviour.reasoning(facts)))
    if facts.step_scores:
        yield _calibration(facts)
    yield provenance.cost(facts)
    if facts.load is not None:
        yield load_view.section(facts.load, figures=load_chart.figures(facts.load))
    yield provenance.lineage(facts)
    yield provenance.limits(facts)


def _accuracy(report: EvalReport) -> Section:
    unjudged = prose.unjudged(report)
    return Section(
        title="Accuracy against tokens",
        points=["No answer has a verdict: 0 correct of all questions here says nothing of them."] if unjudged else [],
        figures=[] if unjudged else [charts.accuracy_by_tokens(report)],
        tables=evaluation_report.tables(report),
    )


def _students(facts: Facts) -> Section:
    report = facts.evaluation
    rows = [
        (
            one.strategies,
            one.run,
            f"{one.row.correct:,} / {one.row.n:,}",
            f"{one.row.undecided:,}",
            share(one.row.correct, one.row.n),
            f"{one.row.tokens_per_question:.1f}",
            *_minus(one.test),
        )
        for one in facts.students
    ]
    tested = row_of(report, "distilled student") if report else None
    return Section(
        title="Strategies compared",
        figures=[charts.students(facts.students)],
        tables=[
            Table(
                headers=(
                    *("strategies", "run", "correct", "undecided", "accuracy, % [95 %]"),
                    *("completion tokens a question", "this run's minus it, points [95 %]", "p (Holm)", "MDD"),
                ),
                rows=rows,
                left=2,
                note="Greedy answers on the same held-out questions. Students of other runs of this home stand beside "
                "this run's. Undecided answers are not correct. Differences are paired by question (Newcombe, exact "
                "McNemar, Holm over this table; MDD: where p (Holm) is 0.05 or more, the true difference found with a "
                "chance of 80 %): two accuracies whose intervals overlap may still differ.",
            )
        ],
        points=[f"Against {report.baseline}, paired: this run's student is {found(tested.vs_baseline)}."]
        if report and tested and tested.vs_baseline
        else [],
    )


def _minus(test: PairedTest | None) -> tuple[str, str, str]:
    if test is None:
        return "", "", ""
    *_, points, _, p_holm, detectable = evaluation_report.test_cells(test)
    return points, p_holm, detectable


def _against(found: Against) -> Section:
    rows = [
        (
            pair.method,
            f"{pair.questions:,}",
            share(pair.right, pair.questions),
            share(pair.right_there, pair.questions),
            *evaluation_report.test_cells(pair.test),
        )
        for pair in found.pairs
    ]
    return Section(
        title="Against another run",
        points=[
            f"1st: this run; 2nd: {found.run}. The same methods on the questions that both asked.",
            *(
                [f"Left out, because both are scored on the same debates: {', '.join(found.same)}."]
                if found.same
                else []
            ),
        ],
        tables=[
            Table(
                headers=("method", "questions", "1st, % [95 %]", "2nd, % [95 %]", *evaluation_report.TESTED),
                rows=rows,
                note=f"{evaluation_report.NOTE} Outcomes are those of the newest verdicts on both.",
            )
        ],
    )


def _curves(facts: Facts) -> list[charts.Curve]:
    curves = [
        charts.Curve(
            name=f"{one.title.removeprefix('Held-out debates: ')}, after round",
            points=one.by_round,
            colour=GREEN,
            marker="s",
        )
        for one in facts.held_out or facts.learned
        if len(one.by_round) > 1 and one.rounds[-1].undecided < one.rounds[-1].questions
    ]
    looks = {"distilled student": (ORANGE, "^"), "base student": (ORANGE, "v")}
    for one in facts.votes:
        if not one.right:  # no vote has a verdict
            continue
        colour, marker = looks.get(one.title, (BLUE, "o"))
        curves.append(
            charts.Curve(
                name=f"{one.title}, vote of the first k samples", points=one.curve, colour=colour, marker=marker
            )
        )
    return curves


def _scaling(facts: Facts, curves: list[charts.Curve]) -> Section:
    student = row_of(facts.evaluation, "distilled student") if facts.evaluation and facts.held_out else None
    rows = [(curve.name, str(point.at), *_point(point)) for curve in curves for point in curve.points]
    return Section(
        title="Scaling: more samples, more rounds",
        figures=[charts.scaling(curves, student)],
        tables=[
            Table(
                headers=("way of answering", "size", "accuracy, % [95 %]", "correct", "completion tokens a question"),
                rows=rows,
                note="A vote of k takes the first k samples of each question; numbers at some points are k, or the "
                "round. After a round, a debate that ended earlier counts with its last vote.",
            )
        ],
    )


def _point(point: CurvePoint) -> tuple[str, str, str]:
    return share(point.correct, point.n), f"{point.correct:,} / {point.n:,}", f"{point.tokens:,.1f}"


def _flips(one: DebateSet, *, name: str) -> Section:
    shown = one.dynamics
    rows = [
        (
            str(row.round),
            f"{row.turns:,}",
            _share(shown.to_right_in.get(row.round)),
            _share(shown.to_wrong_in.get(row.round)),
            share(row.correct, row.questions),
            f"{row.questions:,}" + (f", {row.undecided:,} undecided" if row.undecided else ""),
        )
        for row in one.rounds
    ]
    headers = (
        "round",
        "solutions",
        "wrong that turn right, % [95 %]",
        "right that turn wrong, % [95 %]",
        "vote right, % [95 %]",
        "of questions",
    )
    return Section(
        title=f"Flips by round. {one.title}",
        figures=[card_figures.flips(shown, name=name)] if shown.to_right_in or shown.to_wrong_in else [],
        tables=[
            Table(
                headers=headers,
                rows=rows,
                note="An agent's solution against its own in the round before, where both are decided; the intervals "
                "take questions as the unit, because the agents of one question are not independent. Vote: majority of "
                "the agents after the round; a debate that ended earlier counts with its last vote.",
            )
        ],
    )


def _share(found: Share | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.share:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}] of {found.n:,}"


def _calibration(facts: Facts) -> Section:
    measured = step_scores.measure(facts)
    if measured is None:
        return Section(title="Calibration of the process reward model", note=step_scores.UNMEASURED)
    table, error, auc = measured
    rows = [
        (
            f"{row.low:.1f} to {row.high:.1f}",
            f"{row.right.n:,}",
            f"{100 * row.mean_score:.1f}",
            charts.percent(row.right),
        )
        for row in table
    ]
    return Section(
        title="Calibration of the process reward model",
        points=[
            f"Step AUC {auc} labelled steps.",
            f"Expected calibration error {error} labelled steps.",
        ],
        figures=[
            charts.reliability(
                {"process reward model": table},
                key="reliability",
                x="mean score of the steps in a bin, %",
                y="right steps, % [95 %]",
                of="steps",
            )
        ],
        tables=[
            Table(headers=("score", "steps", "mean score, %", "right, % [95 %]"), rows=rows, note=step_scores.NOTE)
        ],
    )
