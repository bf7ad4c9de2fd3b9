"""What a report is made from: everything that a home knows of one run. What is missing is None or empty, never guessed.

RUN is the name of a run (`run.name` of a config) or the fingerprint of a debate run:

    reports/RUN/evaluation.json   accuracy, tests, yield, and which debates each method is scored on
    runs/RUN/distil.json          which debates the student learned from
    runs/RUN/student.json         what distil made of them
    reports/RUN/scores.json       scores of prose (text_scores.py)
    reports/RUN/step-scores.json   scores of the process reward model (step_scores.py)
    reports/OF/reasoning.json     perplexity and judged qualities of the debates OF (reasoning.py)
    ledger/debates-*              the debates
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentark_core import evaluation, paired_tests, reasoning, records, text_scores
from agentark_core.errors import ConfigError, DataError
from agentark_core.evaluation import EvalReport
from agentark_core.load import summary
from agentark_core.load.summary import LoadReport
from agentark_core.paired_tests import PairedTest
from agentark_core.reasoning import Reasoning
from agentark_core.report import pairing
from agentark_core.report.debate_sets import DebateSet, VoteSet, cost_of, debate_set, vote_set
from agentark_core.report.pairing import Against
from agentark_core.stored import debate_runs, debate_store
from agentark_core.text_scores import Prose

StepScores = dict[records.TurnKey, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Which debates a row of the evaluation is scored on, and what they cost."""

    name: str
    fingerprint: str
    cost: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A row of the comparison with other runs of the home: greedy accuracy of another run's student. test: this run's
    student minus it, on the same questions; None of itself, and where no debates are known."""

    run: str
    strategies: str
    row: evaluation.EvalRow
    test: PairedTest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A run. stated: evaluation.json as it is. made: student.json. votes: independent samples. reasoning: what
    `agentark perplexity` and `agentark qualities` found, by method; without an evaluation by set of debates.
    load: latencies, prose: scores of prose; None if there are none."""

    name: str
    home: Path
    evaluation: EvalReport | None
    stated: dict[str, Any]
    methods: list[Method]
    made: dict[str, Any]
    learned: list[DebateSet]
    held_out: list[DebateSet]
    votes: list[VoteSet]
    reasoning: dict[str, Reasoning]
    students: list[Student]
    cards: list[str]
    step_scores: StepScores
    load: LoadReport | None
    prose: Prose | None = None
    against: Against | None = None

    @property
    def sets(self) -> list[DebateSet]:
        """All debates of the report, held-out ones last."""
        return [*self.learned, *self.held_out]


def folder(home: Path, run: str) -> Path:
    """Where the report of a run lies."""
    return home / "reports" / run


def gather(home: Path, run: str, *, against: str = "") -> Facts:
    """Everything about one run; against: another evaluated run, to be paired with it. Raises ConfigError if the home
    does not know one of them, DataError if they cannot be paired."""
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
        votes=[
            made
            for of, name in _first_names(debates).items()
            if _shape(home, of) == "vote" and (made := vote_set(home, of, title=name.split(" majority@")[0]))
        ],
        reasoning={name: found for of, name in _first_names(debates).items() if (found := reasoning.read(home, of))}
        or {one.title: found for one in learned if (found := reasoning.read(home, one.fingerprint))},
        students=_students(home, run, stated) if stated else [],
        cards=sorted(
            str(page.relative_to(home)) for one in learned for page in home.glob(f"cards/{one.fingerprint}-*/card.html")
        ),
        step_scores=_step_scores(home, run),
        against=_against(home, against, stated) if against else None,
        load=summary.from_json(stated["load"]) if "load" in stated else None,
        prose=text_scores.read(folder(home, run)),
    )


def _against(home: Path, run: str, here: Mapping[str, Any]) -> Against:
    there = _json(folder(home, run) / "evaluation.json")
    if not (here and there):
        known = _names(home, "reports/*/evaluation.json")
        raise ConfigError(f"--against {run}: both runs need an evaluation; runs with one: {known}")
    return pairing.against(home, run=run, here=here, there=there)


def scores_path(home: Path, run: str) -> Path:
    """Where step_scores.py keeps the scores of a run's steps."""
    return folder(home, run) / "step-scores.json"


def _step_scores(home: Path, run: str) -> StepScores:
    rows = _json(scores_path(home, run)).get("rows", [])
    return {(row["work_id"], row["round"], row["agent"]): row["scores"] for row in rows}


def _students(home: Path, run: str, stated: Mapping[str, Any]) -> list[Student]:
    """The greedy students of every run of the home that was evaluated on the same questions, this one first."""
    found = []
    own = pairing.method_outcomes(home, stated, evaluation.STUDENT)
    for path in sorted(home.glob("reports/*/evaluation.json"), key=lambda path: (path.parent.name != run, path)):
        other = _json(path)
        if other.get("questions") is None or other["questions"] != stated.get("questions"):
            continue
        report = evaluation.from_json(other)
        of_other = {} if path.parent.name == run else pairing.method_outcomes(home, other, evaluation.STUDENT)
        made = _json(home / "runs" / path.parent.name / "student.json")
        strategies = " + ".join(one["strategy"] for one in made.get("stages", [])) or "not stated"
        for row in report.rows:
            if row.name == evaluation.STUDENT:
                test = paired_tests.paired_or_none(own, of_other)
                found.append(Student(run=path.parent.name, strategies=strategies, row=row, test=test))
            elif row.name == evaluation.BASE and path.parent.name == run:
                found.append(Student(run=run, strategies="none (base student)", row=row))
    tests = paired_tests.in_family([one.test for one in found])
    return [replace(one, test=test) for one, test in zip(found, tests, strict=True)]


def _shape(home: Path, fingerprint: str) -> str:
    """debate: agents saw each other's solutions; vote: several samples that did not; single: one."""
    how = debate_store(home, fingerprint).config.get("debate") or {}
    if how.get("num_agents", 1) == 1:
        return "single"
    return "vote" if how["num_rounds"] == 1 and how["strategy"] == "debate" else "debate"


def _first_names(debates: Mapping[str, str]) -> dict[str, str]:
    """The debates in the order of the methods, each with the first that is scored on them."""
    first: dict[str, str] = {}
    for name, of in debates.items():
        first.setdefault(of, name)
    return first


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
