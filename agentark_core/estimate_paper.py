"""The bill of other numbers of agents, rounds and layouts, on paper, from what a sample of debates shows.

Measured on the sample: lengths in tokens, and when its debates ended. Taken from it for other configurations: the
lengths, unchanged, and the ends by stopping.py. The bill is that of bill.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from agentark_core import bill, prompts, stopping
from agentark_core.config import DebateConfig
from agentark_core.types import Debate

LAYOUTS: tuple[prompts.Layout, ...] = ("peers", "history", "board")
AGENTS, ROUNDS = (3, 5, 10, 20), (1, 2, 3, 4)


def paper(sample: Sequence[Debate], *, debate: DebateConfig, wording: prompts.Wording) -> dict[str, Any] | None:
    """Sizes and stopping of the sample, and the bill of other configurations; None if no debate was held."""
    if debate.strategy != "debate" or debate.num_agents < 2:
        return None
    sizes = measured_sizes(sample, debate=debate, wording=wording)
    groups = [stopping.groups_of(each) for each in sample]
    rows = []
    for num_agents in sorted({*AGENTS, debate.num_agents}):
        for num_rounds in sorted({*ROUNDS, debate.num_rounds}):
            end = stopping.stopping(groups, num_agents=num_agents, num_rounds=num_rounds, quorum=debate.quorum)
            speaks = {"always": 1.0, "when_split": end.split, "never": 0.0}[debate.summariser]
            for layout in LAYOUTS:
                per_question = bill.question_bill(
                    layout, num_agents=num_agents, ended=end.ended, sizes=sizes, summariser=speaks
                )
                context = bill.context_tokens(layout, num_agents=num_agents, num_rounds=num_rounds, sizes=sizes)
                rows.append(
                    {
                        "num_agents": num_agents,
                        "num_rounds": num_rounds,
                        "layout": layout,
                        "rounds_held": bill.expected_rounds(end.ended),
                        "summariser": speaks,
                        "context": context + debate.sampling.max_tokens,
                        **asdict(per_question),
                    }
                )
    own = stopping.stopping(groups, num_agents=debate.num_agents, num_rounds=debate.num_rounds, quorum=debate.quorum)
    return {"sizes": asdict(sizes), "ended": list(own.ended), "split": own.split, "paper": rows}


def measured_sizes(sample: Sequence[Debate], *, debate: DebateConfig, wording: prompts.Wording) -> bill.Sizes:
    """Mean lengths in tokens. What prompts of later rounds add to the question is known as a sum only; the suffix's
    part of it is taken from its characters, at the tokens a character of the questions."""
    first = [turn for each in sample for turn in each.turns if turn.role == "agent" and turn.round == 1]
    question_of = {turn.problem_id: turn.prompt_tokens for turn in first}
    question = fmean(question_of.values())
    per_character = question / fmean(len(_first_chars(each, wording=wording)) for each in sample)
    suffix = per_character * fmean(_suffix_chars(each, wording=wording) for each in sample)
    agents = debate.num_agents
    shown = []
    for turn in (turn for each in sample for turn in each.turns if turn.status != "over_context"):
        added = turn.prompt_tokens - question_of[turn.problem_id]
        if turn.role == "summariser":
            shown.append((added - suffix) / agents)
        elif turn.role == "agent" and turn.round > 1:
            solutions = {
                "peers": agents - 1,
                "board": agents,
                "history": (turn.round - 1) * agents,
            }[debate.layout]
            suffixes = turn.round - 1 if debate.layout == "history" else 1
            shown.append((added - suffixes * suffix) / solutions)
    trace = fmean(turn.completion_tokens for each in sample for turn in each.turns)
    return bill.Sizes(question=question, trace=trace, shown=fmean(shown) if shown else trace, suffix=suffix)


def _first_chars(debate: Debate, *, wording: prompts.Wording) -> str:
    return prompts.first_answer(debate.problem.question, wording=wording)[0]["content"]


def _suffix_chars(debate: Debate, *, wording: prompts.Wording) -> int:
    """Characters of a board prompt beside the question and the solutions."""
    question = debate.problem.question
    (message,) = prompts.debate_turn(question, [{}], answers=[{}], agent=1, layout="board", wording=wording)
    return len(message["content"]) - len(question)
