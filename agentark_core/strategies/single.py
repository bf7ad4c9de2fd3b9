"""One agent answers once (chain of thought, Wei et al. 2022), or n agents answer once each and the majority decides
(self-consistency, Wang et al. 2022)."""

from __future__ import annotations

from agentark_core import prompts
from agentark_core.discussion import Discussion, Outcome
from agentark_core.strategies.interface import strategy


@strategy
async def single(discussion: Discussion) -> Outcome:
    """One answer of agent 1; num_agents and num_rounds have no effect."""
    return await _samples(discussion, number=1)


@strategy
async def self_consistency(discussion: Discussion) -> Outcome:
    """num_agents independent answers and their majority."""
    return await _samples(discussion, number=discussion.config.num_agents)


async def _samples(discussion: Discussion, *, number: int) -> Outcome:
    chat = prompts.first_answer(discussion.problem.question, wording=discussion.wording)
    turns = await discussion.ask(lambda text: [chat] * number, round=1, agents=range(1, number + 1))
    return Outcome(stop_reason="rounds", answer=discussion.vote(turns))
