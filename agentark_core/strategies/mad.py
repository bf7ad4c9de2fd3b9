"""Multi-agent debate with two sides and a judge (MAD, Liang et al. 2023, arXiv 2305.19118).

Agent 1 (affirmative) answers, agent 2 (negative) opposes it; while they differ, the judge (agent 0) decides or lets
them go on, up to num_rounds. Deviation: equal answers end it without a judge. The arkling judge always decides.
"""

from __future__ import annotations

from agentark_core import prompts
from agentark_core.discussion import Discussion, Outcome, ShowText
from agentark_core.strategies import verdicts
from agentark_core.strategies.interface import strategy
from agentark_core.types import SUMMARISER, Message, Turn


@strategy
async def mad(discussion: Discussion) -> Outcome:
    """Two sides and a judge; num_agents has no effect."""
    question, wording = discussion.problem.question, discussion.wording
    said: dict[int, Turn] = {}

    def board(order: prompts.Order, agent: int, text: ShowText) -> list[list[Message]]:
        shown = {side: text(turn) for side, turn in said.items() if side != agent}
        answers = {side: said[side].answer for side in shown}
        return [prompts.examine(question, shown, answers=answers, order=order, wording=wording, agent=agent)]

    for round in range(1, discussion.config.num_rounds + 1):
        for side in (1, 2):
            (said[side],) = await discussion.ask(
                lambda text, side=side: (  # type: ignore[misc]
                    board("oppose", side, text) if said else [prompts.first_answer(question, wording=wording)]
                ),
                round=round,
                agents=[side],
            )
        if discussion.same(said[1].answer, said[2].answer):
            return Outcome(stop_reason="consensus", answer=said[1].answer)
        (judge,) = await discussion.ask(
            lambda text: board("decide", SUMMARISER, text), round=round, agents=[SUMMARISER], role="judge"
        )
        if (answer := verdicts.decided(judge)) is not None:
            return Outcome(stop_reason="judge", answer=answer)
    return Outcome(stop_reason="rounds", answer=discussion.vote([said[1], said[2]]))
