"""The results of a sweep: one row a cell, from the evaluation report of each. Tables and figures: grid_view.py.

A cell's accuracy is that of its student's greedy answers. Differences against the base student are paired by question;
Holm's correction is over all comparisons of the grid, one a cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentark_core import evaluation, paired_tests, published, reasoning, text_scores
from agentark_core.config import Cell, SweepConfig
from agentark_core.evaluation import BASE, STUDENT, EvalReport, EvalRow
from agentark_core.paired_tests import PairedTest
from agentark_core.reasoning import Reasoning
from agentark_core.statistics import Estimate
from agentark_core.text_scores import ScoreRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What the stages of a student learned from and took, in all: rows, steps and seconds."""

    rows: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """One cell. Accuracies are shares of n questions; difference: student minus base, in points (p_holm over the grid);
    retention: of the debate of the teacher.

    questions: asked of the debates' train set (0: all), agents: of the debate; the axes of two figures. error: why the
    cell failed, with every figure missing; empty with accuracy None: not made yet. published: what the paper reports of
    the same cell and base, as shares. train_source, test_source, teacher_model: what stands behind the user's names, of
    which several may be of one source or model. training, scores and base_scores (of greedy answers in prose) and
    reasoning (of the student's): where they are known.
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
    train_source: str = ""
    test_source: str = ""
    teacher_model: str = ""
    training: Training | None = None
    scores: tuple[ScoreRow, ...] = ()
    base_scores: tuple[ScoreRow, ...] = ()
    reasoning: Reasoning | None = None

    @property
    def in_domain(self) -> bool:
        """Trained and tested on questions of one source."""
        return self.train_source == self.test_source

    @property
    def judged(self) -> bool:
        """Whether any answer has a verdict; prose without a judge has none."""
        return self.accuracy is not None and self.undecided < self.n


def rows(
    config: SweepConfig, *, parts: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str]
) -> tuple[GridRow, ...]:
    """A row for every cell of the grid. parts: records of the finished cells, errors of the others, both by name.

    A record has the report of evaluate-model as plain data; of cells that this version made also the stages of the
    student and the folder of the evaluation.
    """
    return in_one_family(
        [_row(config, cell, part=parts.get(cell.name), error=errors.get(cell.name, "")) for cell in config.cells()]
    )


def in_one_family(made: Sequence[GridRow]) -> tuple[GridRow, ...]:
    """The same with Holm's correction over all of them."""
    tests = paired_tests.in_family([row.difference for row in made])
    return tuple(replace(row, difference=test) for row, test in zip(made, tests, strict=True))


def to_json(made: Sequence[GridRow]) -> list[dict[str, Any]]:
    """Plain data, as grid.json has it."""
    return [asdict(row) for row in made]


def _row(config: SweepConfig, cell: Cell, *, part: Mapping[str, Any] | None, error: str) -> GridRow:
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
        train_source=config.train_sets[cell.train].source,
        test_source=config.test_sets[cell.test].source,
        teacher_model=config.teachers[cell.teacher].model.path,
    )
    if part is None:
        return row
    report: EvalReport = evaluation.from_json(part["report"])
    found = {each.name: each for each in report.rows}
    student = found[STUDENT]
    written = text_scores.read(Path(part["folder"])) if "folder" in part else None
    prose = written.rows if written else ()
    return replace(
        row,
        n=student.n,
        undecided=student.undecided,
        tokens_per_question=student.tokens_per_question,
        accuracy=_accuracy(student),
        base=_accuracy(found[BASE]),
        difference=student.vs_baseline,
        retention=student.retention,
        training=_training(part.get("stages", [])),
        scores=tuple(one for one in prose if one.method == STUDENT),
        base_scores=tuple(one for one in prose if one.method == BASE),
        reasoning=_reasoning(Path(part["folder"]), home=Path(config.run.home)) if "folder" in part else None,
    )


def _training(stages: Sequence[Mapping[str, Any]]) -> Training | None:
    trained = [stage["training"] for stage in stages]
    if not trained or not all(isinstance(one.get("seconds"), float | int) for one in trained):
        return None
    return Training(
        rows=sum(stage["examples"] for stage in stages),
        steps=sum(one.get("steps", 0) for one in trained),
        seconds=sum(one["seconds"] for one in trained),
    )


def _reasoning(folder: Path, *, home: Path) -> Reasoning | None:
    path = folder / "evaluation.json"
    of = json.loads(path.read_bytes()).get("made_from", {}).get(STUDENT) if path.is_file() else None
    return reasoning.read(home, of["debates"]) if of else None


def _accuracy(row: EvalRow) -> Estimate:
    return Estimate(value=row.accuracy, low=row.low, high=row.high, n=row.n)
