"""The results of a sweep: one row a cell, from the evaluation report of each. Tables and figures: grid_view.py.

A cell's accuracy is that of its student's greedy answers. Differences against the base student are paired by question;
Holm's correction is over all comparisons of the grid, one a cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agentark_core import evaluation, published
from agentark_core.config import Cell, SweepConfig
from agentark_core.evaluation import BASE, STUDENT, EvalReport, EvalRow, PairedTest
from agentark_core.statistics import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """One cell. Accuracies are shares of n questions; difference: student minus base, in points (p_holm over the grid);
    retention: of the debate of the teacher.

    questions: asked of the debates' train set (0: all), agents: of the debate; the axes of two figures. error: why the
    cell failed, with every figure missing; empty with accuracy None: not made yet. published: what the paper reports of
    the same cell and base, as shares.
    """

    cell: str
    teacher: str
    train: str
    student: str
    strategy: str
    test: str
    agents: int
    questions: int
    error: str = ""
    n: int = 0
    undecided: int = 0
    tokens_per_question: float | None = None
    accuracy: Estimate | None = None
    base: Estimate | None = None
    difference: PairedTest | None = None
    retention: Estimate | None = None
    published: float | None = None
    published_base: float | None = None


def rows(
    config: SweepConfig, *, reports: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str]
) -> tuple[GridRow, ...]:
    """A row for every cell of the grid; reports: of evaluate-model as plain data, errors: both by name of the cell."""
    made = []
    for cell in config.cells():
        report = evaluation.from_json(reports[cell.name]) if cell.name in reports else None
        made.append(_row(config, cell, report=report, error=errors.get(cell.name, "")))
    return in_one_family(made)


def in_one_family(made: Sequence[GridRow]) -> tuple[GridRow, ...]:
    """The same with Holm's correction over all of them."""
    tests = evaluation.in_family([row.difference for row in made])
    return tuple(replace(row, difference=test) for row, test in zip(made, tests, strict=True))


def to_json(made: Sequence[GridRow]) -> list[dict[str, Any]]:
    """Plain data, as grid.json has it."""
    return [asdict(row) for row in made]


def _row(config: SweepConfig, cell: Cell, *, report: EvalReport | None, error: str) -> GridRow:
    row = GridRow(
        cell=cell.name,
        teacher=cell.teacher,
        train=cell.train,
        student=cell.student,
        strategy=cell.strategy,
        test=cell.test,
        agents=config.debate_of(cell.teacher).num_agents,
        questions=config.train_sets[cell.train].limit,
        error=error,
        published=published.of_cell(config, cell),
        published_base=published.of_base(config, cell),
    )
    if report is None:
        return row
    found = {each.name: each for each in report.rows}
    student = found[STUDENT]
    return replace(
        row,
        n=student.n,
        undecided=student.undecided,
        tokens_per_question=student.tokens_per_question,
        accuracy=_accuracy(student),
        base=_accuracy(found[BASE]),
        difference=student.vs_baseline,
        retention=student.retention,
    )


def _accuracy(row: EvalRow) -> Estimate:
    return Estimate(value=row.accuracy, low=row.low, high=row.high, n=row.n)
