"""What one engine actor spent on one debate run, written once a second to `<run>/usage/<process>.json`.

The files of earlier starts stay, so their sum is what a run has cost over all its starts: the live view, the caps and
the comparison with the estimate all read it. A killed process loses at most the last second of its counts; the debates
themselves are in the journal.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentark_core import answers
from agentark_core.errors import NoAnswers
from agentark_core.ledger import atomic_write_json
from agentark_core.types import Debate, Generation, Turn

FIRST_QUESTIONS = 200
MAX_FAILED_SHARE = 0.5


def usage_folder(run_root: Path) -> Path:
    """Where the usage files of a debate run lie."""
    return run_root / "usage"


def spent(run_root: Path, *, of: str = "") -> tuple[int, float]:
    """(prompt and completion tokens, engine seconds) of a run over all its starts so far.

    of: only of the processes whose owner (see Usage) starts like this.
    """
    tokens, seconds = 0, 0.0
    for path in usage_folder(run_root).glob(f"{of}*.json"):
        data = json.loads(path.read_bytes())
        seconds += data["engine_seconds"]
        tokens += sum(r["prompt_tokens"] + r["completion_tokens"] for r in data["rounds"].values())
    return tokens, seconds


class Usage:
    """Counters of one run in this process.

    Attributes: tokens (prompt and completion, generated here), engine_seconds, running (requests in the engine now),
    full_tokens (completion tokens made while questions waited for a seat: over slot_seconds / slots, the speed of a
    full batch).
    """

    def __init__(self, run_root: Path, *, owner: str = "") -> None:
        """owner: begins the name of the file, and says whose counts these are."""
        self._path = usage_folder(run_root) / f"{owner}{uuid.uuid4().hex[:8]}.json"
        self._saving = threading.Lock()
        self._snapshots = self._saved = 0
        self._started_at = _now()
        self.tokens = 0
        self.engine_seconds = 0.0
        self.running = 0
        self.slots = 0
        self.busy_slot_seconds = 0.0
        self.slot_seconds = 0.0
        self.full_tokens = 0.0
        self.cost = 0.0
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._stop_reasons: Counter[str] = Counter()
        self._rounds: dict[int, Counter[str]] = {}
        self._flips: dict[int, Counter[str]] = {}
        self._failed: list[str] = []

    def add_generation(self, generation: Generation, *, round: int) -> None:
        """Count a generation that an engine made."""
        tokens = self._rounds.setdefault(round, Counter())
        tokens.update(
            turns=1,
            prompt_tokens=generation.prompt_tokens,
            cached_tokens=generation.cached_tokens,
            completion_tokens=generation.completion_tokens,
        )
        self.tokens += generation.prompt_tokens + generation.completion_tokens
        self.cost += generation.cost

    def add_debate(self, debate: Debate, *, replayed: int, saved: tuple[int, int]) -> None:
        """Count a finished question, and how many of its turns were replayed.

        Raises NoAnswers once more than half of the first 200 ended without an answer (F27).
        """
        self._counts.update(replayed_turns=replayed)
        if replayed == len(debate.turns):
            return  # an earlier start counted it
        self._counts.update(questions=1, turns=len(debate.turns), saved_turns=saved[0], saved_tokens=saved[1])
        self._statuses.update(turn.status for turn in debate.turns)
        self._stop_reasons[debate.stop_reason] += 1
        gold, task = debate.problem.gold, debate.problem.task
        right = {(t.round, t.agent): _right(t, gold=gold, task=task) for t in debate.turns if t.role == "agent"}
        for (round, agent), now in right.items():
            before = right.get((round - 1, agent))
            if before is not None:
                flips = self._flips.setdefault(round, Counter())
                flips.update(to_right=int(now and not before), to_wrong=int(before and not now))
        if debate.answer is not None:
            self._counts.update(answered=1, correct=int(answers.equivalent(debate.answer, gold, task=task)))
        self._watch_answers(debate)

    def _watch_answers(self, debate: Debate) -> None:
        if debate.stop_reason == "failed":
            last = debate.final_turns[-1] if debate.final_turns else debate.turns[-1]
            self._failed.append(f"{debate.problem.problem_id} ({last.status}): ...{last.text[-160:]!r}")
        if self._counts["questions"] == FIRST_QUESTIONS and len(self._failed) > MAX_FAILED_SHARE * FIRST_QUESTIONS:
            raise NoAnswers(
                f"{len(self._failed)} of the first {FIRST_QUESTIONS} questions ended without any answer; look at "
                "debate.sampling.max_tokens, teacher.prompts and the chat template. Three of them: "
                + " | ".join(self._failed[:3])
            )
        if self._counts["questions"] >= FIRST_QUESTIONS:
            self._failed.clear()

    def save(self, snapshot: dict[str, Any]) -> None:
        """Replace the file of this process, unless a later snapshot is already there."""
        with self._saving:
            if snapshot["snapshot"] > self._saved:
                atomic_write_json(self._path, snapshot)
                self._saved = snapshot["snapshot"]

    def snapshot(self, *, ended: bool = False) -> dict[str, Any]:
        """The counters as plain data."""
        self._snapshots += 1
        names = ("questions", "turns", "replayed_turns", "correct", "answered", "saved_turns", "saved_tokens")
        return {
            "snapshot": self._snapshots,
            "started_at": self._started_at,
            "updated_at": _now(),
            "ended": ended,
            "engine_seconds": round(self.engine_seconds, 3),
            "slots": self.slots,
            "running": self.running,
            "busy_slot_seconds": round(self.busy_slot_seconds, 3),
            "slot_seconds": round(self.slot_seconds, 3),
            "full_tokens": round(self.full_tokens),
            "cost": self.cost,
            "statuses": dict(self._statuses),
            "stop_reasons": dict(self._stop_reasons),
            "rounds": {str(number): dict(counts) for number, counts in sorted(self._rounds.items())},
            "flips": {str(number): dict(counts) for number, counts in sorted(self._flips.items())},
            **{name: self._counts[name] for name in names},
        }


def _right(turn: Turn, *, gold: str, task: str) -> bool:
    return turn.answer is not None and answers.equivalent(turn.answer, gold, task=task)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
