"""What a debate costs on paper, in tokens a question: the formulas of method.md section 1, for any n and K.

    sizes = Sizes(question=150, trace=1000, shown=1000, suffix=40)
    question_bill("board", num_agents=5, ended=(0, 0, 1), sizes=sizes)
    Bill(turns=16.0, prompt=58440.0, prefill=15590.0, decode=16000.0)

`prompt` counts every token of every prompt: what an engine computes without a prefix cache. `prefill` is what a perfect
prefix cache leaves of it: each distinct prefix is computed once, a block is one token, nothing is ever evicted, and an
agent's own text stays where it was decoded. A real cache lies between the two.

Layouts are those of prompts.py, and `authors`: the chat of the paper's authors, which repeats the question in every
message and whose summariser shares no prefix with the debate.

    n agents, K rounds; q = question, v = shown solution, T = trace, s = suffix
    prompt of round k > 1   peers q + (n-1)v + s     history q + (k-1)(nv + s)     board q + nv + s
                            authors kq + (k-1)(nv + s)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Layout = Literal["peers", "history", "board", "authors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Mean lengths in tokens.

    question: a prompt of round 1. trace: one completion, thinking included. shown: what one solution takes in a later
    prompt, heading included. suffix: the rest of a later prompt (the task at its end, the private tail).
    """

    question: float
    trace: float
    shown: float
    suffix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Generations, and tokens: of all prompts, of them those that a perfect prefix cache leaves, of all completions."""

    turns: float
    prompt: float
    prefill: float
    decode: float

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            turns=self.turns + other.turns,
            prompt=self.prompt + other.prompt,
            prefill=self.prefill + other.prefill,
            decode=self.decode + other.decode,
        )

    def __mul__(self, share: float) -> Bill:
        return Bill(
            turns=self.turns * share,
            prompt=self.prompt * share,
            prefill=self.prefill * share,
            decode=self.decode * share,
        )


def prompt_tokens(layout: Layout, *, round: int, num_agents: int, sizes: Sizes) -> float:
    """Length of one agent's prompt in a round (1-based)."""
    q, v, s, n = sizes.question, sizes.shown, sizes.suffix, num_agents
    if round == 1:
        return q
    match layout:
        case "peers":
            return q + (n - 1) * v + s
        case "history":
            return q + (round - 1) * (n * v + s)
        case "board":
            return q + n * v + s
        case "authors":
            return round * q + (round - 1) * (n * v + s)


def round_bill(layout: Layout, *, round: int, num_agents: int, sizes: Sizes) -> Bill:
    """All agents of one round (1-based) of one question."""
    q, v, s, n = sizes.question, sizes.shown, sizes.suffix, num_agents
    if round == 1:
        prefill = q
    else:
        match layout:
            case "peers":
                # A tree: agent n sees traces 1..n-1; agent i shares the first i-1 of them and adds i+1..n.
                prefill = (n - 1) * (n + 2) / 2 * v + n * s
            case "history":
                prefill = n * ((n - 1) * v + s)
            case "board":
                prefill = n * v + n * s
            case "authors":
                prefill = n * ((n - 1) * v + q + s)
    prompt = prompt_tokens(layout, round=round, num_agents=n, sizes=sizes)
    return Bill(turns=n, prompt=n * prompt, prefill=prefill, decode=n * sizes.trace)


def summary_bill(layout: Layout, *, num_agents: int, sizes: Sizes) -> Bill:
    """The summariser: the question and the n solutions of the last round, which no earlier prompt held."""
    shown = num_agents * sizes.shown + sizes.suffix
    own_question = sizes.question if layout == "authors" else 0.0
    return Bill(turns=1, prompt=sizes.question + shown, prefill=own_question + shown, decode=sizes.trace)


def question_bill(
    layout: Layout, *, num_agents: int, ended: Sequence[float], sizes: Sizes, summariser: float = 1.0
) -> Bill:
    """Expected bill of one question.

    ended[k-1]: share of the questions whose debate ends with round k; the shares add up to 1, and (0, ..., 0, 1) is a
    debate that never stops early. summariser: share of the questions on which a summariser speaks.
    """
    total = summary_bill(layout, num_agents=num_agents, sizes=sizes) * summariser
    for round, share in enumerate(held(ended), start=1):
        total += round_bill(layout, round=round, num_agents=num_agents, sizes=sizes) * share
    return total


def held(ended: Sequence[float]) -> list[float]:
    """Share of the questions that hold round 1, 2, ... K. Raises ValueError unless the shares add up to 1."""
    if not ended or min(ended) < 0 or abs(sum(ended) - 1) > 1e-9:
        raise ValueError(f"shares of questions by last round: {list(ended)} do not add up to 1")
    return [1 - gone for gone in accumulate(ended[:-1], initial=0.0)]


def expected_rounds(ended: Sequence[float]) -> float:
    """Mean number of rounds of a debate."""
    return sum(held(ended))


def ended_by(hazards: Sequence[float]) -> tuple[float, ...]:
    """Shares of the questions by last round; hazards[k-1] is the chance that a debate in round k ends there.

    The last round ends every debate whatever its hazard.
    """
    ended, left = [], 1.0
    for hazard in hazards[:-1]:
        ended.append(left * hazard)
        left -= ended[-1]
    return (*ended, left)


def context_tokens(layout: Layout, *, num_agents: int, num_rounds: int, sizes: Sizes) -> float:
    """Length of the longest prompt of a debate, the summariser's included; its completion comes on top."""
    longest = prompt_tokens(layout, round=num_rounds, num_agents=num_agents, sizes=sizes)
    return max(longest, summary_bill(layout, num_agents=num_agents, sizes=sizes).prompt)
