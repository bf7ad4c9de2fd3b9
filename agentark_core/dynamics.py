"""How a group of agents reaches its answers: what an agent does next to how many peers who are right, and whether a
minority that is right survives.

Agents of one question are not independent, so questions are the unit: a share over agents has the 95 % interval of a
ratio estimator with questions as clusters (Cochran 1977, section 6); with 0 or all of them, Wilson's over questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

from agentark_core.evaluation import wilson
from agentark_core.records import TurnKey
from agentark_core.rounds import solutions, vote_label
from agentark_core.types import Debate, Verdict

_Z = 1.959963984540054  # 97.5 % point of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """k of n cases in so many questions: share k / n with its 95 % interval, all in [0, 1]."""

    k: int
    n: int
    questions: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """to_right[m]: of the wrong agents with m right peers, those who were right one round later. to_wrong[m]: of the
    right agents with m right peers, those who were wrong one round later. minority[k]: of the questions with exactly k
    right agents, fewer than half, in the first round, those whose vote was right in the end."""

    to_right: dict[int, Share]
    to_wrong: dict[int, Share]
    minority: dict[int, Share]


def dynamics(debates: Iterable[Debate], verdicts: Mapping[TurnKey, Verdict]) -> Dynamics:
    """Over all pairs of consecutive rounds with decided, ok solutions. verdicts must hold all agents' turns."""
    changed: dict[tuple[bool, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    survived: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for debate in debates:
        rounds = [
            {
                turn.agent: verdicts[turn.key].label == "correct"
                for turn in turns
                if turn.status == "ok" and verdicts[turn.key].label != "undecided"
            }
            for turns in solutions(debate).values()
        ]
        for before, after in zip(rounds, rounds[1:], strict=False):
            for agent in before.keys() & after.keys():
                was = before[agent]
                count = changed[was, sum(before.values()) - was][debate.work_id]
                count[0] += after[agent] != was
                count[1] += 1
        right = sum(rounds[0].values()) if rounds else 0
        if len(rounds) > 1 and 0 < right < len(rounds[0]) / 2:
            survived[right][0] += vote_label(debate, debate.final_turns, verdicts) == "correct"
            survived[right][1] += 1
    shares = {key: _ratio([(k, n) for k, n in counts.values()]) for key, counts in sorted(changed.items())}
    return Dynamics(
        to_right={peers: share for (was, peers), share in shares.items() if not was},
        to_wrong={peers: share for (was, peers), share in shares.items() if was},
        minority={right: _ratio([(1, 1)] * k + [(0, 1)] * (n - k)) for right, (k, n) in sorted(survived.items())},
    )


def _ratio(clusters: list[tuple[int, int]]) -> Share:
    """Share over clusters of (k, n)."""
    k, n, m = sum(k for k, _ in clusters), sum(n for _, n in clusters), len(clusters)
    share = k / n
    if 0 < k < n and m > 1:
        half = _Z * sqrt(m / (m - 1) * sum((k_i - share * n_i) ** 2 for k_i, n_i in clusters)) / n
        low, high = max(0.0, share - half), min(1.0, share + half)
    else:
        low, high = wilson(round(share * m), m)
    return Share(k=k, n=n, questions=m, share=share, low=low, high=high)
