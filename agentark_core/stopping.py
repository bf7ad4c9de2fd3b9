"""When debates end: from a sample held with n agents and up to K rounds, for other n and K.

Fewer agents: every question is replayed with subsets of its agents; a subset's debate ends in the first round in which
it agrees. Subsets whose debate the sample ended earlier are censored, so the chance that a debate in round k ends there
(the hazard) is a Kaplan-Meier estimate. What the subset would have written after seeing only its own solutions is
not known; that is the approximation.

More agents: the chance that m agents of a question agree is a moment E[p^m] of its agreement p over questions. Moments
of a beta distribution fall like a power of m, so the hazard is carried on with the power that m = n-1 and n show.
Rounds that the sample never held take the hazard of its last one.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agentark_core import answers, bill
from agentark_core.types import Debate

MAX_SUBSETS = 200
"""Subsets of agents a question; drawn at random where there are more."""

Groups = list[list[int | None]]
"""Groups of equivalent answers, by round and agent; None: no answer, which agrees with nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """ended[k-1]: share of questions whose debate ends with round k. split: share whose last round is not unanimous."""

    ended: tuple[float, ...]
    split: float


def groups_of(debate: Debate) -> Groups:
    """The groups of answers of one debate's agents."""
    rounds = []
    for number in range(1, debate.final_round + 1):
        turns = sorted((t for t in debate.turns if t.role == "agent" and t.round == number), key=lambda t: t.agent)
        rounds.append(answers.group([turn.answer for turn in turns], task=debate.problem.task))
    return rounds


def stopping(sample: Sequence[Groups], *, num_agents: int, num_rounds: int, quorum: float) -> Stopping:
    """The end of debates of num_agents and at most num_rounds, held under quorum (0: no early end)."""
    held_with = len(sample[0][0])
    if num_agents <= held_with:
        ends, unanimous = _hazards(sample, num_agents=num_agents, quorum=quorum)
    else:
        ends, unanimous = _hazards(sample, num_agents=held_with, quorum=quorum)
        if held_with > 2:
            fewer, fewer_unanimous = _hazards(sample, num_agents=held_with - 1, quorum=quorum)
            # With a small quorum all subsets may have agreed before the last round that n agents held.
            fewer, fewer_unanimous = fewer + ends[len(fewer) :], fewer_unanimous + unanimous[len(fewer) :]
            scale = math.log(num_agents / held_with) / math.log(held_with / (held_with - 1))
            unanimous = [_carried(a, b, scale) for a, b in zip(fewer_unanimous, unanimous, strict=True)]
            if quorum == 1:
                ends = [_carried(a, b, scale) for a, b in zip(fewer, ends, strict=True)]
        else:  # two agents do not show how agreement falls: no early end is the upper bound
            ends, unanimous = [0.0] * len(ends), [0.0] * len(ends)
    ends += ends[-1:] * (num_rounds - len(ends))
    unanimous += unanimous[-1:] * (num_rounds - len(unanimous))
    ended = bill.ended_by(ends[:num_rounds])
    if quorum == 0:
        return Stopping(ended=ended, split=1 - unanimous[num_rounds - 1])
    agreed = sum(share * u for share, u in zip(bill.held(ended), unanimous, strict=False))
    return Stopping(ended=ended, split=max(0.0, 1 - agreed))


def _hazards(sample: Sequence[Groups], *, num_agents: int, quorum: float) -> tuple[list[float], list[float]]:
    """By round: chance that a debate which is in it ends there, and that its agents are then unanimous."""
    rounds_held = max(map(len, sample))
    at_risk, ends, unanimous = [0.0] * rounds_held, [0.0] * rounds_held, [0.0] * rounds_held
    rng = random.Random(0)
    for rounds in sample:
        subsets = _subsets(len(rounds[0]), num_agents, rng)
        for subset in subsets:
            for number, groups in enumerate(rounds):
                agreement = _agreement([groups[agent] for agent in subset])
                at_risk[number] += 1 / len(subsets)
                unanimous[number] += (agreement == 1) / len(subsets)
                if num_agents > 1 and 0 < quorum <= agreement:
                    ends[number] += 1 / len(subsets)
                    break
    reached = [k for k in range(rounds_held) if at_risk[k]]
    return [ends[k] / at_risk[k] for k in reached], [unanimous[k] / at_risk[k] for k in reached]


def _subsets(agents: int, size: int, rng: random.Random) -> list[tuple[int, ...]]:
    if math.comb(agents, size) <= MAX_SUBSETS:
        return list(itertools.combinations(range(agents), size))
    return [tuple(rng.sample(range(agents), size)) for _ in range(MAX_SUBSETS)]


def _agreement(groups: Sequence[int | None]) -> float:
    sizes = Counter(group for group in groups if group is not None)
    return max(sizes.values(), default=0) / len(groups)


def _carried(fewer: float, all_: float, scale: float) -> float:
    """The power law through (n-1, fewer) and (n, all_), taken on to n * (n / (n-1)) ** scale agents."""
    return all_ * min(1.0, all_ / fewer) ** scale if fewer else 0.0
