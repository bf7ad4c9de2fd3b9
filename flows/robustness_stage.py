"""The student on other questions: perturbed ones (failures against the gate) and out of distribution (drop)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agentark_core.config import EvaluateConfig
from agentark_core.paired_tests import Outcomes
from agentark_core.robustness import failures
from agentark_core.stored import JudgeKey
from flows import stage
from tasks.evaluation_tasks import score
from tasks.robustness_tasks import PerturbedSet, perturb_problems
from tasks.trace_tasks import DebateSpec

OOD = "out of distribution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is to be asked. sets: every perturbation; by_name: the answers to be made, by name of its questions."""

    sets: tuple[PerturbedSet, ...] = ()
    by_name: dict[str, DebateSpec] = field(default_factory=dict)

    @property
    def specs(self) -> Sequence[DebateSpec]:
        """All answers to be made."""
        return list(self.by_name.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """What came of it. ood: accuracy there minus accuracy on the clean questions."""

    rows: tuple[failures.Failures, ...] = ()
    ood: failures.Drop | None = None

    @property
    def data(self) -> dict[str, Any]:
        """For evaluation.json; empty if nothing was asked."""
        found: dict[str, Any] = {"robustness": [asdict(row) for row in self.rows]} if self.rows else {}
        return found | ({"ood_drop": asdict(self.ood)} if self.ood else {})

    @property
    def text(self) -> str:
        """For a terminal; empty if nothing was asked."""
        return "\n\n".join([*([failures.render_text(self.rows)] if self.rows else []), *self._ood_line()])

    @property
    def markdown(self) -> str:
        """For evaluation.md; empty if nothing was asked."""
        return "\n".join([*([failures.render_markdown(self.rows)] if self.rows else []), *self._ood_line()])

    def _ood_line(self) -> list[str]:
        if self.ood is None:
            return []
        return [f"{OOD}: {failures.drop_text(self.ood)}\n"]


def prepare(student: DebateSpec, *, config: EvaluateConfig, home: Path) -> Prepared:
    """Commit the other questions; student: how the clean ones are answered."""
    asked = config.evaluation
    sets = tuple(
        perturb_problems(
            name,
            problems=student.problems,
            model=student.model,
            home=home,
            seed=config.run.seed,
            shard_size=config.engine.shard_size,
        )
        for name in dict.fromkeys(asked.robustness)
    )
    questions = {made.name: made.problems for made in sets if made.problems is not None}
    if asked.ood is not None:
        questions[OOD] = stage.load_held_out(asked.ood, config=config, home=home)
    by_name = {
        name: replace(student, name=f"{student.name}, {name}", problems=problems)
        for name, problems in questions.items()
    }
    return Prepared(sets=sets, by_name=by_name)


def score_all(prepared: Prepared, *, clean: Outcomes, home: Path, judge: JudgeKey | None) -> Robustness:
    """Failures and drop, from committed and verified answers."""
    found = {
        name: score(spec.name, spec=spec, answer="vote", home=home, judge=judge).outcomes
        for name, spec in prepared.by_name.items()
    }
    rows = failures.table(
        clean,
        [
            failures.Asked(
                name=made.name,
                outcomes={made.of[key]: outcome for key, outcome in found.get(made.name, {}).items()},
                left_out=made.left_out,
            )
            for made in prepared.sets
        ],
    )
    return Robustness(rows=tuple(rows), ood=failures.drop(clean, found[OOD]) if OOD in found else None)
