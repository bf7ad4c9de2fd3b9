"""What of a sweep is made already, by content, and the bill of the rest.

Three kinds of parts, each found by a key made of what goes into it:

    debates   the debate run's fingerprint                         shared by all cells of a teacher and train set
    student   debates, student, training settings, all test sets   shared by all cells that differ in the test set alone
    cell      the trained model's content, base, teacher, test set

All test sets are part of a student's key because it must not learn their questions. If one more test set drops nothing
of what is learned, `distil` finds the trained model again: examples and models are addressed by content too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentark_core import model_files, strategies
from agentark_core.config import Cell, DebateConfig, ModelConfig, SweepConfig
from agentark_core.errors import ConfigError, Stopped
from agentark_core.estimate import Figure
from agentark_core.judge import JudgeSetup, setup
from agentark_core.ledger import fingerprint
from agentark_core.rollouts import RolloutsSetup
from agentark_core.rollouts import setup as rollouts_setup
from agentark_core.selector import SelectorSetup
from agentark_core.selector import setup as selector_setup
from agentark_core.sweep_bill import Bill, Line, evaluation_hours
from flows import stage
from flows.distil import check_models
from flows.estimate_run import estimate_run
from tasks.trace_tasks import DebateSpec, ProblemSet

DEBATES, STUDENT, CELL = "sweep-debates", "sweep-student", "sweep-cell"
SINGLE_ANSWERS = 2
"""Of every student and teacher on every test question: greedy and sampled (evaluate_model)."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys of the parts of one sweep. tests: the committed test sets by name."""

    config: SweepConfig
    home: Path
    tests: dict[str, ProblemSet]

    def debates(self, cell: Cell) -> tuple[str, DebateSpec]:
        """Key of a cell's debates, and the debates. Commits the questions; raises DataError, ModelError."""
        config = self.config.debates_config(cell)
        spec = stage.traces_spec(config, problems=stage.load_training_problems(config, home=self.home))
        return fingerprint(DEBATES, debates=spec.fingerprint, judge=_key(self.judge(cell))), spec

    def student(self, cell: Cell, *, debates: str) -> str:
        """Key of a cell's student, from the fingerprint of its debates. Raises what check_models does."""
        config = self.config.student_config(cell, debates=debates)
        check_models(config)
        models = [config.student, *([config.prm.model] if config.prm.model else [])]
        rollouts = self.rollouts(cell)
        return fingerprint(
            STUDENT,
            debates=debates,
            models=[model_files.revision(model_files.resolve(model)) for model in models],
            wording=config.student.prompts,
            config=config.model_dump(mode="json", include={"strategies", "sft", "prm", "grpo"}),
            examples=config.examples.model_dump(mode="json", exclude={"selector", "rollouts", "test_sets"}),
            tests=[test.fingerprint for test in self.tests.values()],
            more_tests=[test.model_dump(mode="json", exclude={"license"}) for test in self.config.examples.test_sets],
            judge=_key(self.judge(cell)),
            selector=_key(self.selector(cell)),
            seed=config.run.seed,
            **({"rollouts": rollouts.key} if rollouts else {}),  # without any the key is what it was
        )

    def cell(self, cell: Cell, *, student: Record) -> str:
        """Key of a cell, from the record of its student."""
        config = self.config.evaluation_config(cell, model=student["model"])
        base = self.config.students[cell.student].model
        return fingerprint(
            CELL,
            student=student["revision"],
            base=model_files.revision(model_files.resolve(base)),
            teacher=model_files.source(config.teacher, config.engine)[1] if config.teacher else None,
            asked=[_how(model) for model in (base, config.teacher) if model],
            problems=self.tests[cell.test].fingerprint,
            debate=config.debate.model_dump(mode="json"),
            evaluation=config.evaluation.model_dump(mode="json", exclude={"problems"}),
            judge=_key(self.judge(cell)),
            seed=config.run.seed,
        )

    def judge(self, cell: Cell) -> JudgeSetup | None:
        """The judge of a cell."""
        teacher, engine = self.config.teachers[cell.teacher].model, self.config.engine_of(cell.teacher)
        return setup(self.config.verification.judge, engine=engine, teacher=teacher)

    def selector(self, cell: Cell) -> SelectorSetup | None:
        """The selector of a cell."""
        teacher, engine = self.config.teachers[cell.teacher].model, self.config.engine_of(cell.teacher)
        return selector_setup(self.config.examples.selector, engine=engine, teacher=teacher)

    def rollouts(self, cell: Cell) -> RolloutsSetup | None:
        """The rollouts of a cell."""
        teacher, engine = self.config.teachers[cell.teacher].model, self.config.engine_of(cell.teacher)
        return rollouts_setup(self.config.examples.rollouts, engine=engine, teacher=teacher)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is there: records by name of the part, debates to make by name. errors: parts that cannot even be named."""

    debates: dict[str, Record] = field(default_factory=dict)
    students: dict[str, Record] = field(default_factory=dict)
    cells: dict[str, Record] = field(default_factory=dict)
    specs: dict[str, DebateSpec] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def keys_of(config: SweepConfig, *, home: Path) -> Keys:
    """Commit the test sets. One that cannot be read stops the sweep: no student could be kept from its questions."""
    tests = {
        name: stage.load_held_out(problems, config=config, home=home) for name, problems in config.test_sets.items()
    }
    return Keys(config=config, home=home, tests=tests)


def look(keys: Keys) -> Plan:
    """Find what is made; commits questions and makes nothing else."""
    plan, cells, home = Plan(), keys.config.cells(), keys.home

    def found(name: str, find: Callable[[], Record | None], into: dict[str, Record]) -> None:
        try:
            record = find()
        except Exception as error:
            plan.errors[name] = reason(error)
        else:
            if record is not None:
                into[name] = record

    def debates(cell: Cell) -> Record | None:
        key, plan.specs[cell.debates] = keys.debates(cell)
        return stage.finished(home, flow=DEBATES, key=key)

    def student(cell: Cell) -> Record | None:
        key = keys.student(cell, debates=plan.specs[cell.debates].fingerprint)
        return stage.finished(home, flow=STUDENT, key=key)

    def evaluated(cell: Cell) -> Record | None:
        return stage.finished(home, flow=CELL, key=keys.cell(cell, student=plan.students[cell.trained]))

    for name, cell in first(cells, lambda cell: cell.debates).items():
        found(name, lambda cell=cell: debates(cell), plan.debates)  # type: ignore[misc]
    for name, cell in first(cells, lambda cell: cell.trained).items():
        if cell.debates in plan.specs:
            found(name, lambda cell=cell: student(cell), plan.students)  # type: ignore[misc]
    for cell in cells:
        if cell.trained in plan.students:
            found(cell.name, lambda cell=cell: evaluated(cell), plan.cells)  # type: ignore[misc]
    return plan


def bill_of(plan: Plan, *, keys: Keys) -> Bill:
    """The bill of what the plan lacks. Debates a few questions of every run of debates that is to be made; the run
    itself keeps them."""
    config, cells = keys.config, keys.config.cells()
    missing = [cell for cell in cells if cell.name not in plan.cells and cell.debates in plan.specs]
    samples: dict[str, dict[str, Any]] = {}
    unknown: list[str] = []
    lines: list[Line] = []
    for name, cell in first(missing, lambda cell: cell.debates).items():
        to_make = name not in plan.debates
        if to_make or cell.teacher not in samples:
            made = _estimate(cell, keys=keys, unknown=unknown)
            samples |= {cell.teacher: made} if made else {}
            if to_make:
                questions = plan.specs[name].problems.rows
                lines.append(
                    Line(
                        name=f"debates {name}",
                        count=1,
                        questions=questions,
                        generations=questions * _calls(config.debate_of(cell.teacher), unknown=unknown),
                        hours=Figure(**made["figures"]["engine_hours"]) if made else None,
                    )
                )
    if students := [cell for name, cell in first(missing, lambda c: c.trained).items() if name not in plan.students]:
        lines.append(Line(name="students", count=len(students)))
    for (teacher, test), group in _grouped(missing).items():
        questions = keys.tests[test].rows
        answering = len(group) + len({cell.student for cell in group})  # students and their bases
        answers = (SINGLE_ANSWERS + config.evaluation.student_samples) * answering
        if config.sweep.teacher_rows:
            calls = _calls(config.debate_of(teacher), unknown=unknown)
            answers += SINGLE_ANSWERS + (config.evaluation.majority_samples or calls) + calls
        sample = samples.get(teacher)
        lines.append(
            Line(
                name=f"evaluations {teacher}, {test}",
                count=len(group),
                questions=questions,
                generations=questions * answers,
                hours=evaluation_hours(questions * answers, estimate=sample) if sample else None,
            )
        )
    return Bill(lines=tuple(lines), cells=len(cells), finished=len(plan.cells), unknown=tuple(dict.fromkeys(unknown)))


def _estimate(cell: Cell, *, keys: Keys, unknown: list[str]) -> dict[str, Any] | None:
    questions = keys.config.sweep.estimate_questions
    if not questions:
        return None
    try:
        made: dict[str, Any] = estimate_run(keys.config.debates_config(cell), questions=questions, fill=False)
    except Stopped:
        raise
    except Exception as error:  # the debates will fail in the same way, and be recorded
        unknown.append(f"{cell.debates}: {reason(error)}")
        return None
    return made


def _calls(debate: DebateConfig, *, unknown: list[str]) -> int:
    try:
        return strategies.max_calls(debate)
    except ConfigError as error:
        unknown.append(str(error))
        return 0


def _grouped(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.teacher, cell.test), []).append(cell)
    return groups


def first(cells: Iterable[Cell], name: Callable[[Cell], str]) -> dict[str, Cell]:
    """The first cell of every part, by the part's name."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(name(cell), cell)
    return found


def reason(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _key(setup: JudgeSetup | SelectorSetup | None) -> Any:
    return setup.key if setup else None


def _how(model: ModelConfig) -> dict[str, Any]:
    return model.model_dump(mode="json", include={"prompts", "dtype", "max_model_len"})
