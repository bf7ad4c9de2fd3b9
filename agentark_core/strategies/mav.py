"""Best of n by several verifiers, each with one aspect (MAV, Lifshitz et al. 2025, arXiv 2502.20379).

num_agents candidates in round 1. In round 2 every aspect's verifier approves or rejects one candidate of each group of
equivalent answers; the group with most approvals wins, the larger one at a tie. Deviation: one verification a group,
not one a candidate. With arkling models a verifier solves again and approves an answer equal to its own.
"""

from __future__ import annotations

from agentark_core import answers, prompts
from agentark_core.discussion import Discussion, Outcome
from agentark_core.strategies.interface import strategy
from agentark_core.strategies.verdicts import approves
from agentark_core.types import Turn

ASPECTS = (
    "every calculation",
    "whether all facts of the question are used rightly",
    "whether it answers what is asked",
)


@strategy
async def mav(discussion: Discussion) -> Outcome:
    """Candidates, then verifiers; num_rounds has no effect."""
    question, wording, number = discussion.problem.question, discussion.wording, discussion.config.num_agents
    chat = prompts.first_answer(question, wording=wording)
    candidates = await discussion.ask(lambda text: [chat] * number, round=1, agents=range(1, number + 1))
    groups: dict[int, list[Turn]] = {}
    clusters = answers.group([turn.answer for turn in candidates], task=discussion.problem.task)
    for turn, cluster in zip(candidates, clusters, strict=True):
        if cluster is not None:
            groups.setdefault(cluster, []).append(turn)
    if len(groups) < 2:
        return Outcome(stop_reason="consensus", answer=discussion.vote(candidates))
    checks = [(group[0], aspect) for group in groups.values() for aspect in ASPECTS]
    verdicts = await discussion.ask(
        lambda text: [
            prompts.examine(
                question,
                {1: text(turn)},
                answers={1: turn.answer},
                order="criticise",
                wording=wording,
                aspect=aspect,
            )
            for turn, aspect in checks
        ],
        round=2,
        agents=range(1, len(checks) + 1),
        role="judge",
    )
    approvals = {cluster: 0 for cluster in groups}
    for cluster, position in zip((c for c in groups for _ in ASPECTS), range(len(checks)), strict=True):
        approvals[cluster] += approves(discussion, verdicts[position], of=checks[position][0])
    best = max(groups, key=lambda cluster: (approvals[cluster], len(groups[cluster])))
    return Outcome(stop_reason="verified", answer=groups[best][0].answer)
