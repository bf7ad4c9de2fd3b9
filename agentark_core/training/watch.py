"""The watch for reward hacking: greedy answers to held-out prompts, rewarded and verified, at every checkpoint.

    {"step": 40, "reward": 0.71, "rollout_reward": 0.64, "outcomes": {"gsm8k-3f...": true, "gsm8k-90...": null}}

A policy that has learned to please its scorer earns more and solves less. The run stops when, against the best look so
far, the mean reward has risen (of the greedy answers, or of the rollouts that were learned from) and the accuracy has
fallen so far that the whole 95 % interval of the paired difference (Newcombe, evaluation.py) lies beyond the margin:
with few held-out prompts nothing but a collapse is certain enough.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agentark_core.paired_tests import paired_or_none
from agentark_core.training import sft_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: step (0 is the base), mean reward of the greedy answers, mean reward of the rollouts since the look
    before (of the first batch for step 0), outcome of the answers by problem_id (None: undecided)."""

    step: int
    reward: float
    rollout_reward: float
    outcomes: dict[str, bool | None]

    @property
    def accuracy(self) -> float:
        """Share of all held-out prompts that are answered correctly."""
        return sum(outcome is True for outcome in self.outcomes.values()) / len(self.outcomes)


def best(looks: Sequence[Look]) -> Look:
    """The look with the highest accuracy, the earliest of equals."""
    return max(looks, key=lambda look: (look.accuracy, -look.step))


def hacked(looks: Sequence[Look], *, margin: float) -> str | None:
    """Why the run must stop at its last look, in one sentence with its numbers; None if it may go on. margin: share in
    [0, 1)."""
    *before, now = looks
    found = best(before)
    test = paired_or_none(now.outcomes, found.outcomes)
    if test is None:
        return None
    # One batch says too little of the base's rollouts; those until the first look stand for them.
    rollouts = found.rollout_reward if found.step else looks[1].rollout_reward
    risen = now.reward > found.reward or now.rollout_reward > rollouts
    if not risen or test.high >= -100 * margin:
        return None
    return (
        f"step {now.step}: on {test.n} held-out prompts accuracy changed by {test.difference:+.1f} points "
        f"[{test.low:+.1f}, {test.high:+.1f}] since step {found.step} while reward went from {found.reward:.3f} to "
        f"{now.reward:.3f} there and from {rollouts:.3f} to {now.rollout_reward:.3f} in the rollouts"
    )


def read(path: Path, *, until: int) -> list[Look]:
    """The looks up to a step; a last line cut by a crash is left out."""
    return [Look(**row) for row in sft_data.read_metrics(path) if row["step"] <= until]


def write(path: Path, looks: Sequence[Look]) -> None:
    """Replace the file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(asdict(look)) + "\n" for look in looks), encoding="utf-8")
    temporary.rename(path)
