"""Scores of prose in the report: their section, and the verdict where no answer has been judged right or wrong."""

from __future__ import annotations

from agentark_core import text_scores
from agentark_core.evaluation import STUDENT, EvalReport
from agentark_core.evaluation_report import p_text
from agentark_core.mean_interval import show
from agentark_core.page import Section, Table
from agentark_core.report import charts
from agentark_core.report.gather import Facts
from agentark_core.text_scores import Prose, ScoreRow


def unjudged(report: EvalReport) -> bool:
    """Whether no answer of any method has a verdict."""
    return all(row.undecided == row.n for row in report.rows)


def section(facts: Facts) -> Section | None:
    """Every metric of every method; None without scores."""
    prose = facts.prose
    if prose is None:
        return None
    leading = [row for row in prose.rows if row.metric == prose.leading]
    return Section(
        title="Scores of prose",
        points=[f"Drawn: {prose.leading}, the leading metric of these questions."] if leading else [],
        figures=[charts.scores(leading)] if leading else [],
        tables=[
            Table(
                headers=text_scores.HEADERS,
                rows=[text_scores.cells(row) for row in prose.rows],
                left=2,
                note=text_scores.NOTE,
            )
        ],
        note=prose.note,
    )


def headline(report: EvalReport, prose: Prose | None) -> str:
    """The verdict on a run without verdicts on its answers."""
    says = f"No accuracy: all {report.n:,} answers of every method are undecided"
    student = prose.of(STUDENT) if prose else None
    if prose is None or student is None:
        return f"{says}; verification.judge gives them a verdict."
    return f"{says}. By {prose.leading} the student scores {_scored(student)}{_against_first(prose, student)}."


def reasons(report: EvalReport, prose: Prose | None) -> list[str]:
    """The leading metric of every method, with what an answer costs."""
    if prose is None:
        return []
    return [
        f"{row.name}: {prose.leading} {_scored(found)}, {row.tokens_per_question:,.0f} completion tokens and "
        f"{row.calls_per_question:.3g} {'call' if row.calls_per_question == 1 else 'calls'} a question"
        for row in report.rows
        if (found := prose.of(row.name))
    ]


def beside(prose: Prose | None) -> list[str]:
    """What the leading metric says, where answers have verdicts too."""
    student = prose.of(STUDENT) if prose else None
    if prose is None or student is None:
        return []
    return [f"By {prose.leading} the student scores {_scored(student)}{_against_first(prose, student)}"]


def _scored(row: ScoreRow) -> str:
    return f"{show(row.mean, row.interval, form='.1f')} of 100, n = {row.n:,}"


def _against_first(prose: Prose, student: ScoreRow) -> str:
    if student.difference is None:
        return ""
    interval = student.difference_interval or (student.difference, student.difference)
    found = "better than" if interval[0] > 0 else "worse than" if interval[1] < 0 else "not shown to differ from"
    tested = "" if student.p_holm is None else f", p (Holm) {p_text(student.p_holm)}"
    detectable = "" if student.detectable is None else f", MDD {student.detectable:.1f}"
    first = prose.rows[0].method
    return (
        f"; {found} {first}: {show(student.difference, student.difference_interval, form='+.1f')}{tested}{detectable}"
    )
