"""What a report is made from: everything that a home knows of one run. What is missing is None or empty, never guessed.

RUN is the name of a run (`run.name` of a config) or the fingerprint of a debate run:

    reports/RUN/evaluation.json   accuracy, tests, yield, and which debates each method is scored on
    runs/RUN/distil.json          which debates the student learned from
    runs/RUN/student.json         what distil made of them
    reports/RUN/step-scores.json   scores of the process reward model (step_scores.py)
    ledger/debates-*              the debates
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core import evaluation, records
from agentark_core.errors import ConfigError, DataError
from agentark_core.evaluation import EvalReport
from agentark_core.load import summary
from agentark_core.load.summary import LoadReport
from agentark_core.report.debate_sets import CurvePoint, DebateSet, cost_of, debate_set, vote_curve
from agentark_core.stored import debate_runs, debate_store

StepScores = dict[records.TurnKey, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Which debates a row of the evaluation is scored on, and what they cost."""

    name: str
    fingerprint: str
    cost: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A row of the comparison with other runs of the home: greedy accuracy of another run's student."""

    run: str
    strategies: str
    row: evaluation.EvalRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A run. stated: evaluation.json as it is. made: student.json. votes: majority vote of the first k samples. load:
    latencies, None if none were measured."""

    name: str
    home: Path
    evaluation: EvalReport | None
    stated: dict[str, Any]
    methods: list[Method]
    made: dict[str, Any]
    learned: list[DebateSet]
    held_out: list[DebateSet]
    votes: list[CurvePoint]
    students: list[Student]
    cards: list[str]
    step_scores: StepScores
    load: LoadReport | None

    @property
    def sets(self) -> list[DebateSet]:
        """All debates of the report, held-out ones last."""
        return [*self.learned, *self.held_out]


def folder(home: Path, run: str) -> Path:
    """Where the report of a run lies."""
    return home / "reports" / run


def gather(home: Path, run: str) -> Facts:
    """Everything about one run. Raises ConfigError if the home does not know it."""
    stated = _json(folder(home, run) / "evaluation.json")
    distil = _json(home / "runs" / run / "distil.json")
    runs = debate_runs(home)
    if run in runs:
        learned = [debate_set(home, run, title="Debates")]
    elif stated or distil:
        traces = distil.get("traces", [])
        learned = [
            debate_set(home, of, title="Debates learned from" if len(traces) == 1 else f"Debates learned from, {of}")
            for of in traces
        ]
    else:
        raise ConfigError(
            f"{run}: no such run under {home}; runs with an evaluation: {_names(home, 'reports/*/evaluation.json')}; "
            f"distilled: {_names(home, 'runs/*/distil.json')}; debate runs: {', '.join(runs) or 'none'}"
        )
    debates: dict[str, str] = {name: of["debates"] for name, of in stated.get("made_from", {}).items()}
    return Facts(
        name=run,
        home=home,
        evaluation=evaluation.from_json(stated) if stated else None,
        stated=stated,
        methods=[
            Method(name=name, fingerprint=of, cost=cost_of(debate_store(home, of))) for name, of in debates.items()
        ],
        made=_json(home / "runs" / run / "student.json"),
        learned=learned,
        held_out=[
            debate_set(home, of, title=f"Held-out debates: {name}")
            for of, name in _first_names(debates).items()
            if _shape(home, of) == "debate"
        ],
        votes=[point for of in _first_names(debates) if _shape(home, of) == "vote" for point in vote_curve(home, of)],
        students=_students(home, run, stated) if stated else [],
        cards=sorted(
            str(page.relative_to(home)) for one in learned for page in home.glob(f"cards/{one.fingerprint}-*/card.html")
        ),
        step_scores=_step_scores(home, run),
        load=summary.from_json(stated["load"]) if "load" in stated else None,
    )


def scores_path(home: Path, run: str) -> Path:
    """Where step_scores.py keeps the scores of a run's steps."""
    return folder(home, run) / "step-scores.json"


def _step_scores(home: Path, run: str) -> StepScores:
    rows = _json(scores_path(home, run)).get("rows", [])
    return {(row["work_id"], row["round"], row["agent"]): row["scores"] for row in rows}


def _students(home: Path, run: str, stated: Mapping[str, Any]) -> list[Student]:
    """The greedy students of every run of the home that was evaluated on the same questions, this one first."""
    found = []
    for path in sorted(home.glob("reports/*/evaluation.json"), key=lambda path: (path.parent.name != run, path)):
        other = _json(path)
        if other.get("questions") is None or other["questions"] != stated.get("questions"):
            continue
        report = evaluation.from_json(other)
        made = _json(home / "runs" / path.parent.name / "student.json")
        strategies = " + ".join(one["strategy"] for one in made.get("stages", [])) or "not stated"
        for row in report.rows:
            if row.name == evaluation.STUDENT:
                found.append(Student(run=path.parent.name, strategies=strategies, row=row))
            elif row.name == evaluation.BASE and path.parent.name == run:
                found.append(Student(run=run, strategies="none (base student)", row=row))
    return found


def _shape(home: Path, fingerprint: str) -> str:
    """debate: agents saw each other's solutions; vote: several samples that did not; single: one."""
    how = debate_store(home, fingerprint).config.get("debate") or {}
    if how.get("num_agents", 1) == 1:
        return "single"
    return "vote" if how["num_rounds"] == 1 and how["strategy"] == "debate" else "debate"


def _first_names(debates: Mapping[str, str]) -> dict[str, str]:
    """The debates, each with the first method that is scored on them."""
    return {of: name for name, of in reversed(list(debates.items()))}


def _names(home: Path, pattern: str) -> str:
    return ", ".join(sorted(path.parent.name for path in home.glob(pattern))) or "none"


def _json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise DataError(f"{path}: not JSON; remove it and start the run again") from None
    return data
