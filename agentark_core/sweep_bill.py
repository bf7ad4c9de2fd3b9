"""The bill of a sweep before it starts: what is still to be made, and what its generations will cost.

Generations are upper limits: a debate may end early, and what the ledger has is not made again. Hours of debates are
predicted from a sample of each (estimate.py, 95 %). Hours of evaluations are generations x mean tokens of a turn of
that sample / the teacher's speed: students are taken to answer at the length and speed of the teacher, which is too
much for a smaller one. Of training only the number of students is known: nothing of it can be sampled beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentark_core import markdown, terminal
from agentark_core.estimate import Figure

HEADERS = ("", "to make", "questions", "generations, at most", "engine hours [95 %]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a run of debates, all students, or all evaluations of a teacher on a test set.

    count: how many are to be made. hours: engine hours; None: not known, or none are spent (training).
    """

    name: str
    count: int
    questions: int = 0
    generations: int = 0
    hours: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """All lines. finished: cells that are made already, of cells in all. unknown: why hours of some are not known."""

    lines: tuple[Line, ...]
    cells: int
    finished: int
    unknown: tuple[str, ...] = ()

    @property
    def hours(self) -> Figure:
        """Of all lines whose hours are known. The ends are summed: the lines share the teacher's speed, so their errors
        do not cancel."""
        known = [line.hours for line in self.lines if line.hours is not None]
        return Figure(
            value=sum(each.value for each in known),
            low=sum(each.low for each in known),
            high=sum(each.high for each in known),
        )

    def refusal(self, max_engine_hours: float) -> str | None:
        """Why the sweep must not start under this cap (0: none); None if it may."""
        if not max_engine_hours or not self.lines:
            return None
        if self.unknown:
            return f"the bill is not known ({'; '.join(self.unknown)}), so sweep.max_engine_hours cannot be held"
        if self.hours.high > max_engine_hours:
            return (
                f"the bill is {_hours(self.hours)} engine hours, its upper end above sweep.max_engine_hours "
                f"{max_engine_hours:g}; raise it, or ask fewer questions or cells"
            )
        return None


def evaluation_hours(generations: int, *, estimate: dict[str, Any]) -> Figure:
    """Engine hours of single answers, from the sample that an estimate was made of (see the module)."""
    of_all, speed = estimate["rounds"]["all"], estimate["speed"]
    turns = of_all["turns"]["value"]
    seconds = {end: generations * of_all["completion_tokens"][end] / turns / speed["tokens_per_s"] for end in _ENDS}
    # The speed of a batch that was not full is a lower bound (estimate.py).
    low = seconds["low"] if speed["full_batch"] else 0.0
    return Figure(value=seconds["value"] / 3600, low=low / 3600, high=seconds["high"] / 3600)


_ENDS = ("value", "low", "high")


def render_text(bill: Bill) -> str:
    """For a terminal."""
    page = terminal.page()
    page.print(_heading(bill))
    if bill.lines:
        table = terminal.table(*HEADERS)
        for row in _cells(bill):
            terminal.add_row(table, *row)
        page.print(table)
    for reason in bill.unknown:
        page.print(f"hours not known: {terminal.safe(reason)}")
    return terminal.text(page)


def render_markdown(bill: Bill) -> str:
    """For the Prefect UI."""
    rows = [[markdown.inline(row[0]), *row[1:]] for row in _cells(bill)]
    lines = [f"\nHours not known: {markdown.inline(reason)}\n" for reason in bill.unknown]
    return f"{_heading(bill)}\n\n{markdown.table(HEADERS, rows, left=1)}{''.join(lines)}"


def _heading(bill: Bill) -> str:
    return f"{bill.finished} of {bill.cells} cells are made already" + ("." if bill.lines else "; nothing to do.")


def _cells(bill: Bill) -> Sequence[Sequence[str]]:
    rows = [
        [
            line.name,
            str(line.count),
            f"{line.questions:,}" if line.questions else "",
            f"{line.generations:,}" if line.generations else "",
            _hours(line.hours) if line.hours else "" if not line.generations else "not known",
        ]
        for line in bill.lines
    ]
    generations = sum(line.generations for line in bill.lines)
    known = any(line.hours for line in bill.lines)
    return [*rows, ["all", "", "", f"{generations:,}", _hours(bill.hours) if known else "not known"]]


def _hours(figure: Figure) -> str:
    return f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"
