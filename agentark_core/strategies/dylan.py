"""Dynamic network of agents (DyLAN, Liu et al. 2023, arXiv 2310.02170).

Rounds as in a debate. From round 2 on a ranker (agent 0) orders the agents of a round, and only the better half, at
least two, speak in the next. It ends early once more than two thirds of the round's agents agree. Deviation: one team
for all questions, without the importance scores that the paper uses to choose a team for a task.
"""

from __future__ import annotations

from agentark_core import prompts
from agentark_core.discussion import Discussion, Outcome, ShowText
from agentark_core.strategies.interface import strategy
from agentark_core.strategies.verdicts import ranking
from agentark_core.types import SUMMARISER, Message, Turn

CONSENSUS = 2 / 3


@strategy
async def dylan(discussion: Discussion) -> Outcome:
    """num_agents agents, num_rounds rounds; quorum and summariser have no effect."""
    question, wording, config = discussion.problem.question, discussion.wording, discussion.config
    active = list(range(1, config.num_agents + 1))
    last: list[Turn] = []

    def answers() -> dict[int, str | None]:
        return {turn.agent: turn.answer for turn in last}

    def chats(text: ShowText) -> list[list[Message]]:
        if not last:
            return [prompts.first_answer(question, wording=wording) for _ in active]
        shown = {turn.agent: text(turn) for turn in last}
        return [
            prompts.debate_turn(question, [shown], answers=[answers()], agent=agent, layout="board", wording=wording)
            for agent in active
        ]

    def rank(text: ShowText) -> list[list[Message]]:
        shown = {turn.agent: text(turn) for turn in last}
        return [prompts.examine(question, shown, answers=answers(), order="rank", wording=wording)]

    for round in range(1, config.num_rounds + 1):
        last = await discussion.ask(chats, round=round, agents=active)
        if len(last) > 1 and discussion.agreement(last) > CONSENSUS:
            return Outcome(stop_reason="consensus", answer=discussion.vote(last))
        if 1 < round < config.num_rounds and len(active) > 2:
            (judge,) = await discussion.ask(rank, round=round, agents=[SUMMARISER], role="judge")
            best = ranking(discussion, judge, of=last)[: max(2, -(-len(last) // 2))]
            active = sorted(turn.agent for turn in best)
    return Outcome(stop_reason="rounds", answer=discussion.vote(last))
