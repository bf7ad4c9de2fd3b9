"""The debate of method.md section 1: n agents, up to K rounds, then perhaps a summariser.

Round 1: every agent answers alone. Round k > 1: every agent sees the solutions of round k-1 (or, in the layout
`history`, its whole chat). It ends at round K, or as soon as at least `quorum` of the agents agree by the verifier's
equivalence. A round waits for its own agents only: there is no barrier between questions.
"""

from __future__ import annotations

from agentark_core import prompts
from agentark_core.discussion import Discussion, Outcome, ShowText
from agentark_core.strategies.interface import strategy
from agentark_core.types import SUMMARISER, Message, Turn


@strategy
async def debate(discussion: Discussion) -> Outcome:
    """Agents 1..n in rounds 1..K; the summariser is agent 0 in the round after the last."""
    config, question, wording = discussion.config, discussion.problem.question, discussion.wording
    agents = range(1, config.num_agents + 1)
    rounds: list[list[Turn]] = []
    stop_reason = "rounds"

    def chats(text: ShowText) -> list[list[Message]]:
        if not rounds:
            return [prompts.first_answer(question, wording=wording) for _ in agents]
        shown = [{turn.agent: text(turn) for turn in turns} for turns in rounds]
        answers = [{turn.agent: turn.answer for turn in turns} for turns in rounds]
        return [
            prompts.debate_turn(question, shown, answers=answers, agent=agent, layout=config.layout, wording=wording)
            for agent in agents
        ]

    for round in range(1, config.num_rounds + 1):
        rounds.append(await discussion.ask(chats, round=round, agents=agents))
        if config.num_agents > 1 and config.quorum > 0 and discussion.agreement(rounds[-1]) >= config.quorum:
            stop_reason = "consensus"
            break
    last = rounds[-1]
    decision = discussion.vote(last)
    unanimous = discussion.agreement(last) == 1.0
    if config.summariser == "always" or (config.summariser == "when_split" and not unanimous):
        answers = {turn.agent: turn.answer for turn in last}
        (summary,) = await discussion.ask(
            lambda text: [
                prompts.summary(question, {t.agent: text(t) for t in last}, answers=answers, wording=wording)
            ],
            round=len(rounds) + 1,
            agents=[SUMMARISER],
            role="summariser",
        )
        decision = decision if summary.answer is None else summary.answer
    return Outcome(stop_reason=stop_reason, answer=decision)
