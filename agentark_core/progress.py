"""How far debate runs are, read from the files that their engines write; nothing is locked or changed.

`<home>/ledger/debates-<fingerprint>/usage/<host>-<pid>-<random>.json`, one file per engine process and run, is written
once a second by usage.py and stays when the process ends. So sums over the files are totals over all starts of a run,
and files that change are engines that work. Which shards are committed is read from the manifest, and whether a flow
works on a run from its lease.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from agentark_core.ledger import Store
from agentark_core.statistics import wilson
from agentark_core.stored import RUN_LEASE, debate_store

MAX_FILE_BYTES = 1_000_000
"""A usage file takes some kB; anything larger is not ours."""

TOKENS_WINDOW_S = 60.0
QUESTIONS_WINDOW_S = 300.0
"""Questions end in bursts, so their rate is taken over a longer time than that of tokens."""

MIN_WINDOW_S = 3.0
HEART_STOPS_S = 60.0
SILENT_AFTER_S = 15.0
"""An engine whose file stood still this long is not counted as working: it is written once a second."""


class RoundUsage(BaseModel):
    """Generations of one round, replayed ones not counted; token counts in tokens, cached <= prompt."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    turns: NonNegativeInt = 0
    prompt_tokens: NonNegativeInt = 0
    cached_tokens: NonNegativeInt = 0
    completion_tokens: NonNegativeInt = 0


class Flips(BaseModel):
    """Agents whose answer became right, or wrong, from one round to the next."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    to_right: NonNegativeInt = 0
    to_wrong: NonNegativeInt = 0


class UsageFile(BaseModel):
    """One engine process on one run. Keys that are missing count as nothing; unknown ones are ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    ended: bool = False
    engine_seconds: NonNegativeFloat = 0.0
    slots: NonNegativeInt = 0
    running: NonNegativeInt = 0
    busy_slot_seconds: NonNegativeFloat = 0.0
    slot_seconds: NonNegativeFloat = 0.0
    questions: NonNegativeInt = 0
    turns: NonNegativeInt = 0
    statuses: dict[str, NonNegativeInt] = {}
    rounds: dict[NonNegativeInt, RoundUsage] = {}
    replayed_turns: NonNegativeInt = 0
    correct: NonNegativeInt = 0
    answered: NonNegativeInt = 0
    flips: dict[NonNegativeInt, Flips] = {}
    stop_reasons: dict[str, NonNegativeInt] = {}
    saved_turns: NonNegativeInt = 0
    saved_tokens: NonNegativeInt = 0
    cost: NonNegativeFloat = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at one or several debate runs, over all their starts.

    questions: finished, of total_questions. counted: those of them that the engines counted, the n of `correct` (their
    fast check against gold; an unanswered question is not correct). running of slots: requests in the engines that work
    now. lost: engines that fell silent under the reader's eyes without having ended. tokens_per_s (completion tokens)
    and questions_per_s: over the last minutes, None before there is a rate. seconds_left: None if nothing says.
    rounds and flips: by round. unreadable: files that are not usage files.
    """

    total_questions: int
    questions: int
    counted: int
    total_shards: int
    shards: int
    engines: int
    lost: int
    running: int
    slots: int
    tokens_per_s: float | None
    questions_per_s: float | None
    seconds_left: float | None
    engine_seconds: float
    busy_slot_seconds: float
    slot_seconds: float
    turns: int
    replayed_turns: int
    correct: int
    answered: int
    saved_turns: int
    saved_tokens: int
    cost: float
    unreadable: int
    statuses: dict[str, int] = field(default_factory=dict)
    stop_reasons: dict[str, int] = field(default_factory=dict)
    rounds: dict[int, RoundUsage] = field(default_factory=dict)
    flips: dict[int, Flips] = field(default_factory=dict)

    @property
    def occupancy(self) -> float | None:
        """Share (0..1) of the engines' slots that were busy while questions waited; None if none has waited yet."""
        return min(1.0, self.busy_slot_seconds / self.slot_seconds) if self.slot_seconds else None

    @property
    def accuracy(self) -> float | None:
        """Share of the counted questions with a right decision; None of no question."""
        return self.correct / self.counted if self.counted else None

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson)."""
        return wilson(self.correct, self.counted)

    @property
    def cache_hits(self) -> dict[int, float]:
        """By round: share of the prompt tokens that were in the prefix cache."""
        return {
            number: min(1.0, tokens.cached_tokens / tokens.prompt_tokens)
            for number, tokens in self.rounds.items()
            if tokens.prompt_tokens
        }

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far."""
        return sum(tokens.completion_tokens for tokens in self.rounds.values())

    @property
    def finished(self) -> bool:
        """Whether every shard is committed."""
        return self.shards == self.total_shards


def metrics(progress: Progress) -> dict[str, float]:
    """The figures for MLflow; those that are not known yet are left out."""
    figures = {
        "questions": progress.questions,
        "tokens_per_s": progress.tokens_per_s,
        "occupancy": progress.occupancy,
        "accuracy_so_far": progress.accuracy,
        "replayed_turns": progress.replayed_turns,
        "saved_turns": progress.saved_turns,
        "engine_seconds": progress.engine_seconds,
        "cost": progress.cost,
        **{f"cache_hit_round_{number}": share for number, share in progress.cache_hits.items()},
    }
    return {f"debate/{name}": float(value) for name, value in figures.items() if value is not None}


class ProgressReader:
    """Looks at debate runs again and again; keeps what rates need. clock: seconds, monotonic."""

    def __init__(self, home: Path, fingerprints: Iterable[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises DataError for a run that is not in the ledger."""
        self._clock = clock
        self._stores = [debate_store(home, name) for name in fingerprints]
        self._questions_of = [_questions_by_shard(home, store) for store in self._stores]
        self._files: dict[Path, _File] = {}
        self._beats: dict[Path, tuple[str, float]] = {}
        self._samples: deque[tuple[float, int, int]] = deque()

    def read(self) -> Progress:
        """Read what changed since the last look."""
        now = self._clock()
        total = questions = total_shards = shards = 0
        usages: list[UsageFile] = []
        working: list[tuple[str, UsageFile]] = []
        unreadable = lost = 0
        for store, questions_of in zip(self._stores, self._questions_of, strict=True):
            committed = store.committed() & questions_of.keys()
            counted = 0
            for path in sorted((store.root / "usage").glob("*.json")):
                file = self._look(path, now=now)
                if file.usage is None:
                    unreadable += 1
                    continue
                counted += file.usage.questions
                usages.append(file.usage)
                if file.usage.ended or file.changed_at is None:
                    continue
                if now - file.changed_at < SILENT_AFTER_S:
                    working.append((path.stem.rpartition("-")[0], file.usage))
                else:
                    lost += 1
            rows = sum(questions_of.values())
            total += rows
            # Counts of a killed process lack its last second; a shard that is made again is counted twice.
            questions += min(rows, max(counted, sum(questions_of[shard] for shard in committed)))
            total_shards += len(questions_of)
            shards += len(committed)
        rounds = _rounds(usages)
        made = sum(tokens.completion_tokens for tokens in rounds.values())
        tokens_per_s, questions_per_s = self._rates(now, tokens=made, questions=questions)
        left = total - questions
        return Progress(
            total_questions=total,
            questions=questions,
            counted=sum(usage.questions for usage in usages),
            total_shards=total_shards,
            shards=shards,
            engines=len({process for process, _ in working}),
            lost=lost,
            running=sum(usage.running for _, usage in working),
            # An engine that works on several runs has a file for each, all with the same slots.
            slots=sum({process: usage.slots for process, usage in working}.values()),
            tokens_per_s=tokens_per_s,
            questions_per_s=questions_per_s,
            seconds_left=left / questions_per_s if questions_per_s else (0.0 if left == 0 else None),
            engine_seconds=sum(usage.engine_seconds for usage in usages),
            busy_slot_seconds=sum(usage.busy_slot_seconds for usage in usages),
            slot_seconds=sum(usage.slot_seconds for usage in usages),
            turns=sum(usage.turns for usage in usages),
            replayed_turns=sum(usage.replayed_turns for usage in usages),
            correct=sum(min(usage.correct, usage.questions) for usage in usages),
            answered=sum(usage.answered for usage in usages),
            saved_turns=sum(usage.saved_turns for usage in usages),
            saved_tokens=sum(usage.saved_tokens for usage in usages),
            cost=sum(usage.cost for usage in usages),
            unreadable=unreadable,
            statuses=_sum(usage.statuses for usage in usages),
            stop_reasons=_sum(usage.stop_reasons for usage in usages),
            rounds=rounds,
            flips=_flips(usages),
        )

    def alive(self) -> bool:
        """Whether a flow works on one of the runs: it holds their lease, and its heart has beaten within a minute."""
        now = self._clock()
        for store in self._stores:
            beat = store.heartbeat(RUN_LEASE)
            if beat is None:
                self._beats.pop(store.root, None)
            elif store.root not in self._beats or self._beats[store.root][0] != beat:
                self._beats[store.root] = (beat, now)
        return any(now - seen_at < HEART_STOPS_S for _, seen_at in self._beats.values())

    def _look(self, path: Path, *, now: float) -> _File:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return _File(state=(0, 0, 0), usage=None)
        state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = self._files.get(path)
        if known is None or known.state != state:
            # The first look at a file does not tell whether somebody still writes it.
            changed_at = now if known is not None or self._samples else None
            known = self._files[path] = _File(state=state, usage=_parse(path, size=stat.st_size), changed_at=changed_at)
        return known

    def _rates(self, now: float, *, tokens: int, questions: int) -> tuple[float | None, float | None]:
        """(completion tokens, questions) per second over their windows."""
        self._samples.append((now, tokens, questions))
        while now - self._samples[0][0] > QUESTIONS_WINDOW_S:
            self._samples.popleft()
        recent = next(sample for sample in self._samples if now - sample[0] <= TOKENS_WINDOW_S)
        oldest = self._samples[0]
        return _rate(tokens - recent[1], now - recent[0]), _rate(questions - oldest[2], now - oldest[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A usage file as it was last read. changed_at: when this reader saw it change, on its own clock."""

    state: tuple[int, int, int]
    usage: UsageFile | None
    changed_at: float | None = None


def _questions_by_shard(home: Path, store: Store) -> dict[str, int]:
    problems = Store(home, stage="problems", fingerprint=store.config["problems"])
    return {shard: entry.rows for shard, entry in problems.entries().items()}


def _parse(path: Path, *, size: int) -> UsageFile | None:
    if size > MAX_FILE_BYTES:
        return None
    try:
        return UsageFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _rate(difference: int, seconds: float) -> float | None:
    return max(0, difference) / seconds if seconds >= MIN_WINDOW_S else None


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for numbers in counts:
        total.update(numbers)
    return dict(sorted(total.items()))


def _rounds(usages: list[UsageFile]) -> dict[int, RoundUsage]:
    numbers = sorted({number for usage in usages for number in usage.rounds})
    return {
        number: RoundUsage(**_sum(usage.rounds[number].model_dump() for usage in usages if number in usage.rounds))
        for number in numbers
    }


def _flips(usages: list[UsageFile]) -> dict[int, Flips]:
    numbers = sorted({number for usage in usages for number in usage.flips})
    return {
        number: Flips(**_sum(usage.flips[number].model_dump() for usage in usages if number in usage.flips))
        for number in numbers
    }
