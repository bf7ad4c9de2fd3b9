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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core import evaluation, problems, records
from agentark_core.dynamics import Dynamics, dynamics
from agentark_core.errors import ConfigError, DataError
from agentark_core.evaluation import EvalReport, PairedTest, paired
from agentark_core.ledger import Store
from agentark_core.rounds import RoundRow, flips, solutions, vote_label
from agentark_core.stored import debate_runs, latest_verdict_store, read_debates
from agentark_core.types import Debate, Verdict, VerdictLabel

Verdicts = Mapping[records.TurnKey, Verdict]
StepScores = dict[records.TurnKey, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Majority vote at one size: its label, outcomes over all n questions, completion tokens a question."""

    at: int
    correct: int
    n: int
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DebateSet:
    """One committed, verified debate run and what its rounds did.

    title: what it is to this run. shards: committed and verified ones. cost: sums of the manifest's counts. by_round:
    after how many rounds which accuracy, at how many completion tokens. gain: vote after the last round minus vote
    after the first.
    """

    title: str
    fingerprint: str
    config: dict[str, Any]
    shards: tuple[str, ...]
    cost: dict[str, float]
    licence: str
    rounds: list[RoundRow]
    dynamics: Dynamics
    by_round: list[CurvePoint]
    gain: PairedTest | None

    @property
    def questions(self) -> int:
        return int(self.cost["questions"])


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
    """A run. stated: evaluation.json as it is. made: student.json. votes: majority vote of the first k samples."""

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
        learned = [debate_set(home, name, title="Debates learned from") for name in distil.get("traces", [])]
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
        methods=[Method(name=name, fingerprint=of, cost=_cost(_debates(home, of))) for name, of in debates.items()],
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
    )


def debate_set(home: Path, fingerprint: str, *, title: str) -> DebateSet:
    """The committed and verified debates of one run. Raises DataError if there are none."""
    store = _debates(home, fingerprint)
    verified = latest_verdict_store(home, debates=fingerprint)
    shards = tuple(sorted(store.committed() & verified.committed()))
    if not shards:
        raise DataError(
            f"debates {fingerprint}: none is committed and verified yet; start the run again, or "
            "verify them with agentark run extract"
        )
    verdicts = records.table_to_verdicts(verified.read(shards=shards))

    def debates() -> Iterator[Debate]:
        return read_debates(home, fingerprint=fingerprint, shards=shards)

    first: dict[str, bool | None] = {}
    last: dict[str, bool | None] = {}
    for debate in debates():
        rounds = solutions(debate)
        if rounds:
            first[debate.work_id] = _outcome(vote_label(debate, next(iter(rounds.values())), verdicts))
            last[debate.work_id] = _outcome(vote_label(debate, debate.final_turns, verdicts))
    rows = flips(debates(), verdicts)
    try:
        gain = paired(last, first) if len(rows) > 1 else None
    except DataError:
        gain = None
    return DebateSet(
        title=title,
        fingerprint=fingerprint,
        config=store.config,
        shards=shards,
        cost=_cost(store, shards=shards),
        licence=problems.licence_of(Store(home, stage="problems", fingerprint=store.config["problems"])),
        rounds=rows,
        dynamics=dynamics(debates(), verdicts),
        by_round=_by_round(rows, debates()),
        gain=gain,
    )


def verdicts_of(home: Path, one: DebateSet, *, shard: str) -> dict[records.TurnKey, Verdict]:
    """The verdicts on one shard."""
    return records.table_to_verdicts(latest_verdict_store(home, debates=one.fingerprint).read(shards=[shard]))


def vote_curve(home: Path, fingerprint: str) -> list[CurvePoint]:
    """Majority vote of the first 1, 2, ... n samples of one round; tokens of those samples alone."""
    store, verified = _debates(home, fingerprint), latest_verdict_store(home, debates=fingerprint)
    shards = sorted(store.committed() & verified.committed())
    if not shards:
        return []
    verdicts = records.table_to_verdicts(verified.read(shards=shards))
    correct: dict[int, int] = {}
    tokens: dict[int, int] = {}
    n = 0
    for debate in read_debates(home, fingerprint=fingerprint, shards=shards):
        n += 1
        for k in range(1, len(debate.final_turns) + 1):
            shown = debate.final_turns[:k]
            correct[k] = correct.get(k, 0) + (vote_label(debate, shown, verdicts) == "correct")
            tokens[k] = tokens.get(k, 0) + sum(turn.completion_tokens for turn in shown)
    return [CurvePoint(at=k, correct=correct[k], n=n, tokens=tokens[k] / n) for k in sorted(correct)]


def scores_path(home: Path, run: str) -> Path:
    """Where step_scores.py keeps the scores of a run's steps."""
    return folder(home, run) / "step-scores.json"


def _step_scores(home: Path, run: str) -> StepScores:
    rows = _json(scores_path(home, run)).get("rows", [])
    return {(row["work_id"], row["round"], row["agent"]): row["scores"] for row in rows}


def _by_round(rows: list[RoundRow], debates: Iterator[Debate]) -> list[CurvePoint]:
    """Vote after each round against the completion tokens of the rounds up to it (summaries left out)."""
    tokens: dict[int, int] = {}
    for debate in debates:
        for turn in debate.turns:
            if turn.role == "agent":
                tokens[turn.round] = tokens.get(turn.round, 0) + turn.completion_tokens
    spent, points = 0, []
    for row in rows:
        spent += tokens[row.round]
        points.append(CurvePoint(at=row.round, correct=row.correct, n=row.questions, tokens=spent / row.questions))
    return points


def _cost(store: Store, *, shards: tuple[str, ...] | None = None) -> dict[str, float]:
    """Sums of the manifest over (these) shards, and what a provider asked for them."""
    names = ("questions", "turns", "prompt_tokens", "cached_tokens", "completion_tokens", "saved_turns", "saved_tokens")
    metas = [entry.meta for shard, entry in store.entries().items() if shards is None or shard in shards]
    usage = [json.loads(path.read_bytes()) for path in (store.root / "usage").glob("*.json")]
    return {name: sum(meta.get(name, 0) for meta in metas) for name in names} | {
        "engine_seconds": sum(one.get("engine_seconds", 0.0) for one in usage),
        "cost": sum(one.get("cost", 0.0) for one in usage),
    }


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
            if row.name == "distilled student greedy":
                found.append(Student(run=path.parent.name, strategies=strategies, row=row))
            elif row.name == "base student greedy" and path.parent.name == run:
                found.append(Student(run=run, strategies="none (base student)", row=row))
    return found


def _outcome(label: VerdictLabel) -> bool | None:
    return None if label == "undecided" else label == "correct"


def _shape(home: Path, fingerprint: str) -> str:
    """debate: agents saw each other's solutions; vote: several samples that did not; single: one."""
    how = _debates(home, fingerprint).config.get("debate") or {}
    if how.get("num_agents", 1) == 1:
        return "single"
    return "vote" if how["num_rounds"] == 1 and how["strategy"] == "debate" else "debate"


def _first_names(debates: Mapping[str, str]) -> dict[str, str]:
    """The debates, each with the first method that is scored on them."""
    return {of: name for name, of in reversed(debates.items())}


def _debates(home: Path, fingerprint: str) -> Store:
    return Store(home, stage="debates", fingerprint=fingerprint)


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
