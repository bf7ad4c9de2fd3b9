"""The debates of a report: one committed and verified run, what its rounds did, and votes of different sizes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from agentark_core import problems, records
from agentark_core.answers import agreement
from agentark_core.dynamics import Dynamics, dynamics
from agentark_core.errors import DataError
from agentark_core.ledger import Store
from agentark_core.paired_tests import PairedTest, paired
from agentark_core.pass_at_k import Samples, samples_of
from agentark_core.rounds import RoundRow, flips, solutions, vote_label
from agentark_core.stored import debate_store, latest_verdict_store, read_debates
from agentark_core.types import Debate, Verdict, VerdictLabel, outcome_of

Verdicts = Mapping[records.TurnKey, Verdict]


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
class VoteSet:
    """Independent samples of the same questions. curve: majority vote of the first 1, 2, ... of them and the tokens of
    those alone. samples: of each question. confidence: of each question whose vote is decided, the share of all samples
    that gave the vote's answer; right: whether that is right."""

    title: str
    curve: list[CurvePoint]
    samples: list[Samples]
    confidence: list[float]
    right: list[bool]


def debate_set(home: Path, fingerprint: str, *, title: str) -> DebateSet:
    """The committed and verified debates of one run. Raises DataError if there are none."""
    store = debate_store(home, fingerprint)
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
    tokens: Counter[int] = Counter()  # by round, summaries left out
    for debate in debates():
        for turn in debate.turns:
            if turn.role == "agent":
                tokens[turn.round] += turn.completion_tokens
        rounds = solutions(debate)
        if rounds:
            first[debate.work_id] = outcome_of(vote_label(debate, next(iter(rounds.values())), verdicts))
            last[debate.work_id] = outcome_of(vote_label(debate, debate.final_turns, verdicts))
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
        cost=cost_of(store, shards=shards),
        licence=problems.licence_of(Store(home, stage="problems", fingerprint=store.config["problems"])),
        rounds=rows,
        dynamics=dynamics(debates(), verdicts),
        by_round=_by_round(rows, tokens),
        gain=gain,
    )


def verdicts_of(home: Path, one: DebateSet, *, shard: str) -> dict[records.TurnKey, Verdict]:
    """The verdicts on one shard."""
    return records.table_to_verdicts(latest_verdict_store(home, debates=one.fingerprint).read(shards=[shard]))


def vote_set(home: Path, fingerprint: str, *, title: str) -> VoteSet | None:
    """What the samples of one round say by vote; None if none is committed and verified."""
    store, verified = debate_store(home, fingerprint), latest_verdict_store(home, debates=fingerprint)
    shards = sorted(store.committed() & verified.committed())
    if not shards:
        return None
    verdicts = records.table_to_verdicts(verified.read(shards=shards))
    correct: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    confidence: list[float] = []
    right: list[bool] = []
    samples = []
    for debate in read_debates(home, fingerprint=fingerprint, shards=shards):
        samples.append(samples_of(debate, verdicts))
        label: VerdictLabel = "incorrect"
        for k, turn in enumerate(debate.final_turns, start=1):
            label = vote_label(debate, debate.final_turns[:k], verdicts)
            correct[k] += label == "correct"
            tokens[k] += turn.completion_tokens
        if label != "undecided":
            confidence.append(agreement([turn.answer for turn in debate.final_turns], task=debate.problem.task))
            right.append(label == "correct")
    n = len(samples)
    spent = dict(zip(sorted(tokens), accumulate(tokens[k] for k in sorted(tokens)), strict=True))
    return VoteSet(
        title=title,
        curve=[CurvePoint(at=k, correct=correct[k], n=n, tokens=spent[k] / n) for k in sorted(tokens)],
        samples=samples,
        confidence=confidence,
        right=right,
    )


def _by_round(rows: list[RoundRow], tokens: Mapping[int, int]) -> list[CurvePoint]:
    """Vote after each round against the completion tokens (by round) of the rounds up to it."""
    spent, points = 0, []
    for row in rows:
        spent += tokens[row.round]
        points.append(CurvePoint(at=row.round, correct=row.correct, n=row.questions, tokens=spent / row.questions))
    return points


def cost_of(store: Store, *, shards: tuple[str, ...] | None = None) -> dict[str, float]:
    """Sums of the manifest over (these) shards, and what a provider asked for them."""
    names = ("questions", "turns", "prompt_tokens", "cached_tokens", "completion_tokens", "saved_turns", "saved_tokens")
    metas = [entry.meta for shard, entry in store.entries().items() if shards is None or shard in shards]
    usage = [json.loads(path.read_bytes()) for path in (store.root / "usage").glob("*.json")]
    return {name: sum(meta.get(name, 0) for meta in metas) for name in names} | {
        "engine_seconds": sum(one.get("engine_seconds", 0.0) for one in usage),
        "cost": sum(one.get("cost", 0.0) for one in usage),
    }
