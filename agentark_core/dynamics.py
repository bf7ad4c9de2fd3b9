"""How a group of agents reaches its answers: what an agent does next to how many peers who are right, and whether a
minority that is right survives.

Agents of one question are not independent, so questions are the unit: a share over agents has the 95 % interval of a
ratio estimator with questions as clusters (Cochran 1977, section 6); with 0 or all of them, Wilson's over questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from math import sqrt

from agentark_core.records import TurnKey
from agentark_core.rounds import solutions, vote_label
from agentark_core.statistics import wilson
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
    right agents with m right peers, those who were wrong one round later. to_right_in[r], to_wrong_in[r]: the same by
    the round r in which they wrote again. minority[k]: of the questions with exactly k right agents, fewer than half,
    in the first round, those whose vote was right in the end."""

    to_right: dict[int, Share]
    to_wrong: dict[int, Share]
    to_right_in: dict[int, Share]
    to_wrong_in: dict[int, Share]
    minority: dict[int, Share]


def self_correction(debates: Iterable[Debate], verdicts: Mapping[TurnKey, Verdict]) -> Share | None:
    """Of the agents who were wrong in a round before their last, those whose last solution is right.

    Undecided and unfinished solutions are left out. None if no agent was wrong before its last round. Every agent that
    answers again at T > 0 corrects some errors by chance: read it beside the agents that went wrong (to_wrong).
    """
    found = [0] * 6
    for debate in debates:
        judged: dict[int, list[bool]] = defaultdict(list)
        for turns in solutions(debate).values():
            for turn in turns:
                if turn.status == "ok" and (label := verdicts[turn.key].label) != "undecided":
                    judged[turn.agent].append(label == "correct")
        ended = [right[-1] for right in judged.values() if not all(right[:-1])]
        if ended:
            k, n = sum(ended), len(ended)
            _increase(found, [1, k, n, k * k, k * n, n * n])
    return _ratio(*found) if found[0] else None


Tally = dict[str, dict[str, list[int]]]
"""{"to_right": {"2": [questions, k, n, k², k n, n²], ...}, ...}: for every figure of Dynamics, sums over questions of
its k of n cases in each. Plain JSON; `add` sums it over shards."""


def dynamics(debates: Iterable[Debate], verdicts: Mapping[TurnKey, Verdict]) -> Dynamics:
    """Over all pairs of consecutive rounds with decided, ok solutions. verdicts must hold all agents' turns."""
    return shares(tally(debates, verdicts))


def tally(debates: Iterable[Debate], verdicts: Mapping[TurnKey, Verdict]) -> Tally:
    """What `shares` needs to know of these debates."""
    sums = _sums()
    for debate in debates:
        rounds = {
            number: {
                turn.agent: verdicts[turn.key].label == "correct"
                for turn in turns
                if turn.status == "ok" and verdicts[turn.key].label != "undecided"
            }
            for number, turns in solutions(debate).items()
        }
        cases: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        for (_, before), (number, after) in pairwise(rounds.items()):
            for agent in before.keys() & after.keys():
                was = before[agent]
                name = "to_wrong" if was else "to_right"
                for key in ((name, sum(before.values()) - was), (f"{name}_in", number)):
                    cases[key][0] += after[agent] != was
                    cases[key][1] += 1
        first = next(iter(rounds.values()), {})
        if len(rounds) > 1 and 0 < sum(first.values()) < len(first) / 2:
            won = vote_label(debate, debate.final_turns, verdicts) == "correct"
            cases["minority", sum(first.values())] = [int(won), 1]
        for (name, at), (k, n) in cases.items():
            _increase(sums[name][str(at)], [1, k, n, k * k, k * n, n * n])
    return _plain(sums)


def add(tallies: Iterable[Tally]) -> Tally:
    """The tally of all their debates."""
    sums = _sums()
    for tallied in tallies:
        for name, at in tallied.items():
            for key, numbers in at.items():
                _increase(sums[name][key], numbers)
    return _plain(sums)


def shares(tallied: Tally) -> Dynamics:
    """The shares and their intervals."""
    by_key = {name: {int(key): _ratio(*numbers) for key, numbers in at.items()} for name, at in tallied.items()}
    return Dynamics(**{name: dict(sorted(found.items())) for name, found in by_key.items()})


Sums = dict[str, defaultdict[str, list[int]]]


def _sums() -> Sums:
    return {field.name: defaultdict(lambda: [0] * 6) for field in fields(Dynamics)}


def _plain(sums: Sums) -> Tally:
    return {name: dict(at) for name, at in sums.items()}


def _increase(sums: list[int], numbers: list[int]) -> None:
    sums[:] = [a + b for a, b in zip(sums, numbers, strict=True)]


def _ratio(m: int, k: int, n: int, kk: int, kn: int, nn: int) -> Share:
    """Share over m questions; kk is the sum of k_i squared over them, kn of k_i n_i, nn of n_i squared."""
    share = k / n
    if 0 < k < n and m > 1:
        squares = max(0.0, kk - 2 * share * kn + share * share * nn)  # sum of (k_i - share n_i) squared
        half = _Z * sqrt(m / (m - 1) * squares) / n
        low, high = max(0.0, share - half), min(1.0, share + half)
    else:
        low, high = wilson(round(share * m), m)
    return Share(k=k, n=n, questions=m, share=share, low=low, high=high)
