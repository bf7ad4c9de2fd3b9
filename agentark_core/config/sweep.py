"""Parameters of `sweep`: teachers x students x strategies x train sets x test sets, and what all cells share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from agentark_core.config.base import Name, Section, check_name
from agentark_core.config.debates import (
    DebateConfig,
    EngineConfig,
    ModelConfig,
    ProblemsConfig,
    VerificationConfig,
)
from agentark_core.config.flows import (
    BuildTracesConfig,
    DistilConfig,
    EvaluateConfig,
    EvaluationConfig,
    ExamplesConfig,
    RunConfig,
    Strategy,
    TrackingConfig,
)
from agentark_core.config.training import GRPOConfig, PRMConfig, SFTConfig

Changes = dict[str, Any]
"""Keys of a shared section that differ; nested as in the section."""

Strategies = Annotated[
    list[Strategy],
    Field(min_length=1),
    # Prefect checks a deployment's parameters against the schema, before this runs.
    BeforeValidator(
        lambda given: [given] if isinstance(given, str) else given,
        json_schema_input_type=Strategy | list[Strategy],
    ),
]
"""`rsft`, or a list run in order."""


class SweepTeacher(Section):
    """A teacher of the grid."""

    model: ModelConfig
    debate: Changes = Field(default_factory=dict, description="Keys of section `debate` that differ for this teacher.")
    engine: Changes = Field(default_factory=dict, description="Keys of section `engine` that differ for this teacher.")
    students: list[Name] = Field(default_factory=list, description="Its students; empty: all.")


class SweepStudent(Section):
    """A student of the grid."""

    model: ModelConfig
    sft: Changes = Field(default_factory=dict, description="Keys of section `sft` that differ for this student.")
    prm: Changes = Field(default_factory=dict, description="Keys of section `prm` that differ for this student.")
    grpo: Changes = Field(default_factory=dict, description="Keys of section `grpo` that differ for this student.")


class SweepLimits(Section):
    """How the sweep runs."""

    plan_only: bool = Field(False, description="Print what is to be made and stop.")
    estimate_questions: int = Field(
        20, ge=0, description="Questions that each teacher debates for the bill (2 or more; 0: a bill without hours)."
    )
    max_engine_hours: float = Field(
        0.0, ge=0, description="The sweep is refused if the upper end of its bill is above this; 0 is no cap."
    )
    teacher_rows: bool = Field(
        True, description="Evaluate the teacher alone, by vote and by debate on each test set too: gives retention."
    )
    parallel_cells: int = Field(
        1, ge=1, description="Debates, students or evaluations at once; each asks Ray for its own CPUs and GPUs."
    )

    @model_validator(mode="after")
    def _can_be_held(self) -> Self:
        if self.max_engine_hours and not self.estimate_questions:
            raise ValueError("max_engine_hours needs a bill with hours: set estimate_questions to 2 or more")
        if self.estimate_questions == 1:
            raise ValueError("estimate_questions 1 gives no interval: set it to 2 or more, or to 0")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One cell, by the names of its axes. Its debates are shared by all cells of the teacher and train set, its student
    by all that differ in the test set alone."""

    teacher: str
    train: str
    student: str
    strategies: tuple[Strategy, ...]
    test: str

    @property
    def strategy(self) -> str:
        """`rsft`, `pad-da`."""
        return "-".join(self.strategies)

    @property
    def debates(self) -> str:
        """Name of its debates."""
        return f"{self.teacher}_{self.train}"

    @property
    def trained(self) -> str:
        """Name of its distilled student."""
        return f"{self.debates}_{self.student}_{self.strategy}"

    @property
    def name(self) -> str:
        """Its own name."""
        return f"{self.trained}_{self.test}"


class SweepConfig(Section):
    """Parameters of `sweep`: a grid in; every cell's accuracy, and tables of them, out."""

    run: RunConfig = Field(default_factory=lambda: RunConfig(name="sweep"))
    sweep: SweepLimits = Field(default_factory=lambda: SweepLimits())
    teachers: dict[Name, SweepTeacher] = Field(min_length=1, description="Teachers by name.")
    students: dict[Name, SweepStudent] = Field(min_length=1, description="Students by name.")
    strategies: list[Strategies] = Field(
        min_length=1, description="Each is a strategy of `distil` or a list of them, run in order: [rsft, [pad, da]]."
    )
    train_sets: dict[Name, ProblemsConfig] = Field(min_length=1, description="Questions that are debated, by name.")
    test_sets: dict[Name, ProblemsConfig] = Field(min_length=1, description="Held-out questions, by name.")
    debate: DebateConfig = Field(default_factory=lambda: DebateConfig())
    engine: EngineConfig = Field(default_factory=lambda: EngineConfig())
    examples: ExamplesConfig = Field(
        default_factory=lambda: ExamplesConfig(),
        description="All test sets of the grid are added to its test_sets: no student learns a question of any.",
    )
    sft: SFTConfig = Field(default_factory=lambda: SFTConfig())
    prm: PRMConfig = Field(default_factory=lambda: PRMConfig())
    grpo: GRPOConfig = Field(default_factory=lambda: GRPOConfig())
    evaluation: EvaluationConfig = Field(
        default_factory=lambda: EvaluationConfig(), description="Its problems are those of the cell's test set."
    )
    verification: VerificationConfig = Field(default_factory=lambda: VerificationConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())

    @model_validator(mode="after")
    def _every_cell_stands(self) -> Self:
        """Wrong overrides and names are found here, not after hours of debates."""
        if self.evaluation.load.queries and self.sweep.parallel_cells > 1:
            raise ValueError(
                "cells that run at the same time would share the machine: set sweep.parallel_cells to 1 or "
                "evaluation.load.queries to 0"
            )
        for name, teacher in self.teachers.items():
            if unknown := set(teacher.students) - self.students.keys():
                known = ", ".join(self.students)
                raise ValueError(f"teachers.{name}.students: no student {sorted(unknown)[0]!r}; there are: {known}")
            self.debate_of(name), self.engine_of(name)
        for name in self.students:
            self.training_of(name)
        names = [cell.name for cell in self.cells()]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two cells are called {sorted(twice)[0]}: name the axes differently, list a strategy once"
            )
        for name in names:
            check_name(self.file_name(name))
        return self

    def cells(self) -> list[Cell]:
        """All cells, in the order of the axes."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        for teacher, axis in self.teachers.items():
            for train in self.train_sets:
                for student in axis.students or self.students:
                    for strategies in self.strategies:
                        for test in self.test_sets:
                            yield Cell(
                                teacher=teacher,
                                train=train,
                                student=student,
                                strategies=tuple(strategies),
                                test=test,
                            )

    def file_name(self, part: str) -> str:
        """Name of a run, and of its folder of reports, of a part of the sweep."""
        return f"{self.run.name}.{part}"

    def debate_of(self, teacher: str) -> DebateConfig:
        """The debates of a teacher."""
        return changed(self.debate, self.teachers[teacher].debate, key=f"teachers.{teacher}.debate")

    def engine_of(self, teacher: str) -> EngineConfig:
        """The engines of a teacher; its students are evaluated on the same."""
        return changed(self.engine, self.teachers[teacher].engine, key=f"teachers.{teacher}.engine")

    def training_of(self, student: str) -> dict[str, Any]:
        """Sections `sft`, `prm` and `grpo` of a student."""
        axis, key = self.students[student], f"students.{student}"
        return {
            "sft": changed(self.sft, axis.sft, key=f"{key}.sft"),
            "prm": changed(self.prm, axis.prm, key=f"{key}.prm"),
            "grpo": changed(self.grpo, axis.grpo, key=f"{key}.grpo"),
        }

    def _run(self, part: str) -> RunConfig:
        return self.run.model_copy(update={"name": self.file_name(part)})

    def debates_config(self, cell: Cell) -> BuildTracesConfig:
        """What `build-traces` runs. No question is dropped for a test set here, so that another test set does not
        change the debates; `examples.test_sets` keeps them from the student."""
        return BuildTracesConfig(
            run=self._run(cell.debates),
            problems=self.train_sets[cell.train],
            teacher=self.teachers[cell.teacher].model,
            debate=self.debate_of(cell.teacher),
            engine=self.engine_of(cell.teacher),
            verification=self.verification,
            tracking=self.tracking,
        )

    def student_config(self, cell: Cell, *, debates: str) -> DistilConfig:
        """What `distil` runs; debates: fingerprint."""
        tests = [*self.examples.test_sets, *self.test_sets.values()]
        return DistilConfig(
            run=self._run(cell.trained),
            traces=[debates],
            student=self.students[cell.student].model,
            examples=self.examples.model_copy(update={"test_sets": tests}),
            strategies=list(cell.strategies),
            verification=self.verification,
            tracking=self.tracking,
            **self.training_of(cell.student),
        )

    def evaluation_config(self, cell: Cell, *, model: str) -> EvaluateConfig:
        """What `evaluate-model` runs; model: the directory of the distilled student."""
        base = self.students[cell.student].model
        return EvaluateConfig(
            run=self._run(cell.name),
            student=base.model_copy(update={"path": model, "revision": ""}),
            base=base,
            teacher=self.teachers[cell.teacher].model if self.sweep.teacher_rows else None,
            debate=self.debate_of(cell.teacher),
            engine=self.engine_of(cell.teacher),
            evaluation=self.evaluation.model_copy(update={"problems": self.test_sets[cell.test]}),
            verification=self.verification,
            tracking=self.tracking,
        )


T = TypeVar("T", bound=Section)


def changed(section: T, changes: Mapping[str, Any], *, key: str) -> T:
    """The section with some keys changed. ValueError names key where they do not fit."""
    try:
        return type(section).model_validate(_merged(section.model_dump(), changes))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key, *(str(part) for part in first["loc"])])
        raise ValueError(f"{where}: {first['msg']}") from None


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
