"""What k samples of a model hold: pass@k and maj@k from the samples of its votes, exact over all subsets of k."""

from __future__ import annotations

from dataclasses import dataclass

from agentark_core.page import Section, Table
from agentark_core.pass_at_k import maj_at_k, pass_at_k
from agentark_core.report import charts
from agentark_core.report.debate_sets import VoteSet
from agentark_core.report.gather import Facts
from agentark_core.statistics import Estimate

NOTE = (
    "pass@k: chance that one of k samples is right, 1 - C(n - c, k) / C(n, k) of c right ones in n drawn (Chen et al. "
    "2021); maj@k: chance that their majority vote is, ties counted in parts. Both over all subsets of those "
    "drawn, so maj@k is not the vote of the first k. An undecided sample is not right. Intervals: bootstrap over "
    "questions."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtK:
    """Both figures at k."""

    k: int
    passed: Estimate
    voted: Estimate


def section(facts: Facts) -> Section | None:
    """pass@k and maj@k of every model that was sampled several times; None if none was."""
    found = {one.title: at_each_k(one) for one in facts.votes if one.right}
    if not found:
        return None
    rows = [
        (title, str(at.k), f"{at.passed.n:,}", charts.percent(at.passed), charts.percent(at.voted))
        for title, points in found.items()
        for at in points
    ]
    undecided = {one.title: sum(of.undecided for of in one.samples) for one in facts.votes}
    return Section(
        title="Samples: pass@k and maj@k",
        points=[
            f"{one.title}: {undecided[one.title]:,} of {sum(len(of.right) for of in one.samples):,} samples undecided."
            for one in facts.votes
            if undecided[one.title]
        ],
        figures=[charts.at_k({title: [(p.k, p.passed, p.voted) for p in of] for title, of in found.items()})],
        tables=[
            Table(headers=("model", "k", "questions", "pass@k, % [95 %]", "maj@k, % [95 %]"), rows=rows, note=NOTE)
        ],
    )


def at_each_k(one: VoteSet) -> list[AtK]:
    """k = 1, 2, 4, ... and as many as every question has."""
    groups, right = [of.groups for of in one.samples], [of.right for of in one.samples]
    most = min(len(of) for of in right)
    sizes = sorted({most} | {2**power for power in range(most.bit_length()) if 2**power <= most})
    return [AtK(k=k, passed=pass_at_k(right, k), voted=maj_at_k(groups, right, k)) for k in sizes]
