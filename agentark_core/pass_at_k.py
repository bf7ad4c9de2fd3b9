"""pass@k and maj@k from n recorded samples of each question, n >= k: exact expectations over all subsets of k.

    samples right, wrong, right of n = 3:  pass@1 = 2/3,  pass@2 = 1,  maj@3 = 1

A sample whose verdict is undecided is not right.

Both are values in [0, 1] of a question; the mean over questions has a bootstrap interval over questions, so that more
samples of few questions do not pass for more evidence. Shapes: _N samples of a question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

from agentark_core import answers
from agentark_core.errors import DataError
from agentark_core.records import TurnKey
from agentark_core.statistics import Estimate, mean
from agentark_core.types import Debate, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The samples of one question: groups of equal answers (None: no answer), which are right, tokens of them all.

    undecided: how many have no verdict; they are not right.
    """

    groups: Sequence[int | None]
    right: Sequence[bool]
    tokens: int
    undecided: int = 0


def samples_of(debate: Debate, verdicts: Mapping[TurnKey, Verdict]) -> Samples:
    """The samples of a question that was asked many times in one round."""
    turns = debate.final_turns
    labels = [verdicts[turn.key].label for turn in turns]
    return Samples(
        groups=answers.group([turn.answer for turn in turns], task=debate.problem.task),
        right=[label == "correct" for label in labels],
        tokens=sum(turn.completion_tokens for turn in turns),
        undecided=labels.count("undecided"),
    )


def pass_at_k(correct: Sequence[Sequence[bool]], k: int) -> Estimate:
    """Chance that one of k samples is right; correct[question][sample]. DataError if a question has fewer than k.

    Unbiased: 1 - C(n - c, k) / C(n, k) of c right samples of n (Chen et al. 2021, arXiv 2107.03374, Eq. 1).
    """
    _check([len(right_N) for right_N in correct], k)
    return mean([1 - comb(len(right_N) - sum(right_N), k) / comb(len(right_N), k) for right_N in correct])


def maj_at_k(groups: Sequence[Sequence[int | None]], correct: Sequence[Sequence[bool]], k: int) -> Estimate:
    """Chance that the majority vote of k samples is right; groups as `answers.group` numbers equivalent answers.

    None is no answer: it has no vote, and k samples without a vote are wrong. Of answers tied for the most votes each
    wins equally often, which is what "the answer given first" comes to over all orders. A group is right if its first
    sample is. DataError if a question has fewer than k samples.
    """
    _check([len(right_N) for right_N in correct], k)
    return mean([majority_chance(group_N, right_N, k) for group_N, right_N in zip(groups, correct, strict=True)])


def majority_chance(group_N: Sequence[int | None], right_N: Sequence[bool], k: int) -> float:
    """maj@k of one question: the share of subsets of k samples whose vote is right, ties counted in parts."""
    sizes = Counter(group for group in group_N if group is not None)
    silent = len(group_N) - sizes.total()
    won = 0.0
    for group, size in sizes.items():
        if right_N[list(group_N).index(group)]:
            others = [sizes[other] for other in sizes if other != group]
            won += sum(comb(size, votes) * _outvoted(others, silent, votes, k - votes) for votes in range(1, size + 1))
    return won / comb(len(group_N), k)


def _outvoted(others: Sequence[int], silent: int, votes: int, left: int) -> float:
    """Ways to draw the `left` other samples so that no other group has more than `votes`; a way with t ties counts as
    1 / (1 + t)."""
    ways = Counter({(taken, 0): comb(silent, taken) for taken in range(min(silent, left) + 1)})
    for size in others:
        more: Counter[tuple[int, int]] = Counter()
        for (drawn, ties), count in ways.items():
            for taken in range(min(size, votes, left - drawn) + 1):
                more[drawn + taken, ties + (taken == votes)] += count * comb(size, taken)
        ways = more
    return sum(count / (1 + ties) for (drawn, ties), count in ways.items() if drawn == left)


def _check(samples: Sequence[int], k: int) -> None:
    if not samples or k < 1 or min(samples) < k:
        fewest = min(samples, default=0)
        raise DataError(f"k = {k} needs as many samples of every question; the fewest here are {fewest}")
