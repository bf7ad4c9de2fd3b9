"""Recruit, solve, criticise, evaluate (AgentVerse, Chen et al. 2023, arXiv 2308.10848).

A recruiter (agent num_agents + 1) names an expert for each agent; agent 1 drafts a solution; the others criticise it;
it ends when more than half of the critics approve, else agent 1 revises, up to num_rounds drafts. Deviations: the
critics' votes are the evaluation, and experts are recruited once. With arkling models nobody is recruited (they know no
roles) and a critic solves again.
"""

from __future__ import annotations

from agentark_core import prompts
from agentark_core.discussion import Discussion, Outcome, ShowText
from agentark_core.strategies.interface import strategy
from agentark_core.strategies.verdicts import approves
from agentark_core.types import Message, Turn

MAX_EXPERT = 80
"""Characters of an expert's name that are used: it is text of a model."""


@strategy
async def agentverse(discussion: Discussion) -> Outcome:
    """One solver and num_agents - 1 critics; quorum and summariser have no effect."""
    question, wording, config = discussion.problem.question, discussion.wording, discussion.config
    experts = await _recruited(discussion)
    critics = range(2, config.num_agents + 1)
    draft: Turn | None = None
    critiques: list[Turn] = []

    def solve(text: ShowText) -> list[list[Message]]:
        if draft is None:
            return [prompts.expert_answer(question, expert=experts[0], wording=wording)]
        notes = {turn.agent: text(turn) for turn in critiques}
        known = {turn.agent: turn.answer for turn in (draft, *critiques)}
        return [prompts.revise(question, text(draft), notes, answers=known, wording=wording)]

    def criticise(text: ShowText) -> list[list[Message]]:
        assert draft is not None
        shown, known = {1: text(draft)}, {1: draft.answer}
        aspects = [f"what an expert in {expert} would see" if expert else "" for expert in experts[1:]]
        return [
            prompts.examine(question, shown, answers=known, order="criticise", wording=wording, aspect=aspect)
            for aspect in aspects
        ]

    for round in range(1, config.num_rounds + 1):
        (draft,) = await discussion.ask(solve, round=round, agents=[1])
        critiques = await discussion.ask(criticise, round=round, agents=critics, role="critic")
        if sum(approves(discussion, critique, of=draft) for critique in critiques) * 2 > len(critiques):
            return Outcome(stop_reason="approved", answer=draft.answer)
    return Outcome(stop_reason="rounds", answer=draft.answer if draft else None)


async def _recruited(discussion: Discussion) -> list[str]:
    """One expert's field for each agent; empty where there is none."""
    number = discussion.config.num_agents
    if discussion.wording == "arkling":
        return [""] * number
    chat = prompts.recruit(discussion.problem.question, number=number)
    (turn,) = await discussion.ask(lambda text: [chat], round=1, agents=[number + 1], role="critic")
    lines = [line.strip(" -*.0123456789")[:MAX_EXPERT] for line in turn.text.splitlines()]
    experts = [line for line in lines if line][:number]
    return experts + [""] * (number - len(experts))
