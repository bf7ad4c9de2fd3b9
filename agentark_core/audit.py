"""How far can the verdicts be trusted? A seeded sample of them, decided again by an independent checker.

    audit_run(home, "f00d...", sample=200, seed=0, judge=None)
        -> Audit(strata=(Stratum("correct", population=812, drawn=100, decided=98, disagree=1), ...), noise=...)

Half of the sample comes from the `correct` verdicts and half from the `incorrect` ones (more from one stratum where the
other is small). The second checker is Math-Verify with its own search for the answer in the whole response, for
choices a second reader of letters; or an LLM judge. Where it has no opinion (nothing parsed, a time limit) the case
counts neither as agreement nor as disagreement.

Label noise is the share of all verdicts that the second checker would change: the shares of the strata, weighted by
their sizes. Its 95 % interval joins the strata's Wilson intervals (MOVER; Zou and Donner 2008), without a correction
for a population that is drawn nearly whole. It is no error rate of the verdicts: the second checker errs too, so the
disagreeing cases are there to be read; and what both get wrong does not show. Both take the gold from the data, and
Math-Verify also compares the few answers that the rules leave to it.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from agentark_core import records
from agentark_core.answer_forms import letter
from agentark_core.answers import MAX_TEXT, kind_of
from agentark_core.errors import ConfigError, EmptyDataset
from agentark_core.judge import judge_case
from agentark_core.ledger import Store
from agentark_core.local_judge import LocalJudge
from agentark_core.statistics import wilson
from agentark_core.stored import debate_runs, debate_store, latest_verdict_store, read_debates
from agentark_core.types import Verdict
from agentark_core.verify import Case, Verifier, read_cases
from agentark_core.verify_pool import WorkerPool
from agentark_core.verify_rules import answer_and_gold

Label = Literal["correct", "incorrect"]
LABELS: tuple[Label, ...] = ("correct", "incorrect")

KEY = ("work_id", "round", "agent")
BATCH = 2_000
WHOLE = ("ok", "no_answer")
"""Statuses of turns whose text is a whole solution; the others are incorrect whatever they say, and not audited."""

_STATED = re.compile(r"answer.{0,60}?(?<![A-Za-z'])([A-H])(?![A-Za-z'])", re.IGNORECASE | re.DOTALL)
_OPTION = re.compile(r"(?<![A-Za-z'])([A-H])(?=[).:\]}*\"]|\s*$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One verdict to audit, with what it was given on."""

    name: str
    case: Case
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """The second checker's word on an item. label is None where it has no opinion; note says how it decided."""

    label: Label | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """The verdicts of one label. population: all of them; decided: those drawn on which the second checker has an
    opinion; disagree: those of them with another one."""

    label: Label
    population: int
    drawn: int
    decided: int
    disagree: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The result. noise: (estimate, low, high) in [0, 1] at 95 %, None where a stratum has no second opinion at all.

    not_audited counts what was not drawn from, by reason. disagreements are in the order of the strata.
    """

    source: str
    checker: str
    seed: int
    strata: tuple[Stratum, ...]
    noise: tuple[float, float, float] | None
    not_audited: dict[str, int]
    disagreements: tuple[tuple[Item, Opinion], ...]


T = TypeVar("T")


class Reservoir(Generic[T]):
    """A uniform sample of at most `size` of everything that is offered (Vitter's algorithm R).

    Attributes: kept; offered (their number).
    """

    def __init__(self, size: int, *, rng: random.Random) -> None:
        self.kept: list[T] = []
        self.offered = 0
        self._size, self._rng = size, rng

    def offer(self, item: T) -> None:
        """Count one more, and keep it by chance."""
        self.offered += 1
        if len(self.kept) < self._size:
            self.kept.append(item)
        elif (place := self._rng.randrange(self.offered)) < self._size:
            self.kept[place] = item


def audit_cases(path: Path, *, sample: int, seed: int, judge: LocalJudge | None = None) -> Audit:
    """Verify a file of cases by the rules and audit the verdicts. Raises DataError, EmptyDataset."""
    rng = random.Random(seed)
    drawn: dict[Label, Reservoir[Item]] = {label: Reservoir(sample, rng=rng) for label in LABELS}
    left: Counter[str] = Counter()
    with Verifier(workers=_workers()) as verifier:
        for batch in _batches(read_cases(path)):
            cases = [case for _, case in batch if case is not None]
            names = [name for name, case in batch if case is not None]
            left["bad rows"] += len(batch) - len(cases)
            for name, case, verdict in zip(names, cases, verifier.verify_many(cases), strict=True):
                if verdict.label == "undecided":
                    left["undecided"] += 1
                else:
                    drawn[verdict.label].offer(Item(name=name, case=case, verdict=verdict))
    return _audit(_allocate(drawn, sample=sample, rng=rng), drawn, source=str(path), seed=seed, left=left, judge=judge)


def audit_run(home: Path, run: str, *, sample: int, seed: int, judge: LocalJudge | None = None) -> Audit:
    """Audit the newest committed verdicts on one debate run. Raises ConfigError, EmptyDataset."""
    if run not in debate_runs(home):
        raise ConfigError(f"{run}: no such debate run under {home}/ledger; list them with `agentark debates`")
    rng = random.Random(seed)
    keys: dict[Label, Reservoir[tuple[str, records.TurnKey]]] = {label: Reservoir(sample, rng=rng) for label in LABELS}
    left: Counter[str] = Counter()
    debates, verdicts = debate_store(home, run), latest_verdict_store(home, debates=run)
    for shard in sorted(verdicts.committed() & debates.committed()):
        rows = debates.read(shards=[shard], columns=[*KEY, "status"]).to_pylist()
        status = {tuple(row[name] for name in KEY): row["status"] for row in rows}
        for row in verdicts.read(shards=[shard], columns=[*KEY, "label"]).to_pylist():
            key = (row["work_id"], row["round"], row["agent"])
            if status[key] not in WHOLE:
                left["no whole solution"] += 1
            elif row["label"] == "undecided":
                left["undecided"] += 1
            else:
                keys[row["label"]].offer((shard, key))
    chosen = _allocate(keys, sample=sample, rng=rng)
    items = _read_items(home, run, chosen=chosen, verdicts=verdicts)
    return _audit(items, keys, source=f"debates {run}, {verdicts.root.name}", seed=seed, left=left, judge=judge)


def _read_items(
    home: Path, run: str, *, chosen: Mapping[Label, Sequence[tuple[str, records.TurnKey]]], verdicts: Store
) -> dict[Label, list[Item]]:
    """The drawn turns as items; only their shards are read, one at a time."""
    wanted = {key: shard for kept in chosen.values() for shard, key in kept}
    found: dict[records.TurnKey, Item] = {}
    for shard in sorted(set(wanted.values())):
        table = records.table_to_verdicts(verdicts.read(shards=[shard]))
        for debate in read_debates(home, fingerprint=run, shards=[shard]):
            problem = debate.problem
            for turn in debate.turns:
                key = (turn.work_id, turn.round, turn.agent)
                if key in wanted:
                    case = Case(response=turn.text, gold=problem.gold, task=problem.task, question=problem.question)
                    name = f"{problem.problem_id} round {turn.round} agent {turn.agent}"
                    found[key] = Item(name=name, case=case, verdict=table[key])
    return {label: [found[key] for _, key in kept] for label, kept in chosen.items()}


def _allocate(drawn: Mapping[Label, Reservoir[T]], *, sample: int, rng: random.Random) -> dict[Label, list[T]]:
    """Half of the sample from each stratum; what one stratum lacks, the other gives. Raises EmptyDataset."""
    right, wrong = (len(drawn[label].kept) for label in LABELS)
    if right + wrong == 0:
        raise EmptyDataset("nothing to audit: no verdict is correct or incorrect; verify first, or check the input")
    first = min(right, max(sample - sample // 2, sample - wrong))
    sizes = {"correct": first, "incorrect": min(wrong, sample - first)}
    # A reservoir's order is not by chance, so its part is drawn.
    return {label: rng.sample(drawn[label].kept, sizes[label]) for label in LABELS}


def _audit(
    items: Mapping[Label, Sequence[Item]],
    drawn: Mapping[Label, Reservoir[Any]],
    *,
    source: str,
    seed: int,
    left: Mapping[str, int],
    judge: LocalJudge | None,
) -> Audit:
    flat = [item for label in LABELS for item in items[label]]
    opinions = _judge_opinions(flat, judge=judge) if judge else second_opinions(flat)
    pairs = list(zip(flat, opinions, strict=True))
    disagreements = tuple((i, o) for i, o in pairs if o.label is not None and o.label != i.verdict.label)
    strata = tuple(
        Stratum(
            label=label,
            population=drawn[label].offered,
            drawn=len(items[label]),
            decided=sum(i.verdict.label == label and o.label is not None for i, o in pairs),
            disagree=sum(i.verdict.label == label for i, _ in disagreements),
        )
        for label in LABELS
    )
    checker = f"judge {judge.setup.config.model.path}" if judge else "Math-Verify on the whole response, second letters"
    return Audit(
        source=source,
        checker=checker,
        seed=seed,
        strata=strata,
        noise=label_noise(strata),
        not_audited={name: number for name, number in left.items() if number},
        disagreements=disagreements,
    )


def label_noise(strata: Sequence[Stratum]) -> tuple[float, float, float] | None:
    """(estimate, low, high) of the share of all verdicts that the second checker would change; see the module."""
    filled = [stratum for stratum in strata if stratum.population]
    if not filled or not all(stratum.decided for stratum in filled):
        return None
    total = sum(stratum.population for stratum in filled)
    estimate = below = above = 0.0
    for stratum in filled:
        weight, share = stratum.population / total, stratum.disagree / stratum.decided
        low, high = wilson(stratum.disagree, stratum.decided)
        estimate += weight * share
        below += (weight * (share - low)) ** 2
        above += (weight * (high - share)) ** 2
    return estimate, max(0.0, estimate - sqrt(below)), min(1.0, estimate + sqrt(above))


def second_opinions(items: Sequence[Item]) -> list[Opinion]:
    """The independent rule path: it searches for the answer by itself and knows no rules of form."""
    opinions: dict[int, Opinion] = {}
    pairs: dict[int, tuple[str, str]] = {}
    for index, item in enumerate(items):
        case, kind = item.case, kind_of(item.case.task)
        _, gold = answer_and_gold(case.response, gold=case.gold, task=case.task)
        if kind == "choice":
            opinions[index] = _compare_letters(second_letter(case.response), gold=letter(gold))
        elif kind == "text":
            opinions[index] = Opinion(label=None, note="no second rule path for text; use a judge")
        else:
            pairs[index] = (gold, case.response[-MAX_TEXT:])
    with WorkerPool(workers=_workers(), time_limit_s=5.0, memory_limit_bytes=2**30) as pool:
        for index, outcome in zip(pairs, pool.compare(list(pairs.values()), reader="response"), strict=True):
            label: Label | None = {"equal": LABELS[0], "different": LABELS[1]}.get(outcome)
            opinions[index] = Opinion(label=label, note=f"Math-Verify on the whole response: {outcome}")
    return [opinions[index] for index in range(len(items))]


def second_letter(response: str) -> str | None:
    """The last letter A-H that stands after the word "answer", else the last that looks like an option."""
    text = response[-MAX_TEXT:]
    found = _STATED.findall(text) or _OPTION.findall(text)
    return found[-1] if found else None


def _compare_letters(found: str | None, *, gold: str | None) -> Opinion:
    if found is None or gold is None:
        return Opinion(label=None, note="no letter found" if found is None else "the gold names no letter")
    return Opinion(label="correct" if found == gold else "incorrect", note=f"second reader of letters: {found}")


def _judge_opinions(items: Sequence[Item], *, judge: LocalJudge) -> list[Opinion]:
    seen = {index: case for index, item in enumerate(items) if (case := judge_case(item.case)) is not None}
    verdicts = dict(zip(seen, judge.judge(list(seen.values())), strict=True))
    opinions = []
    for index in range(len(items)):
        verdict = verdicts.get(index)
        if verdict is None:
            opinions.append(Opinion(label=None, note="no answer to judge"))
        else:
            label = None if verdict.label == "undecided" else verdict.label
            opinions.append(Opinion(label=label, note=f"judge: {verdict.reason}"))
    return opinions


def _batches(rows: Iterator[tuple[str, Case | None]]) -> Iterator[list[tuple[str, Case | None]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _workers() -> int:
    return min(4, os.cpu_count() or 1)
