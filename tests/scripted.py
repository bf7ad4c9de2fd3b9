"""A scripted engine for tests of control flow: answers by (round, agent), keeps the prompts, one token a character."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from agentark_core import strategies
from agentark_core.config import DebateConfig
from agentark_core.discussion import Discussion, Plan
from agentark_core.engines.base import Prompt, Request
from agentark_core.types import Debate, Generation, Message, Problem, Turn

PROBLEM = Problem(problem_id="p-1", dataset="t", task="number", question="What is 6 * 7?", gold="42")


class Scripted:
    """answer(round, agent) -> text. Later agents finish first."""

    def __init__(
        self, answer: Callable[[int, int], str], *, finish: str = "stop", thinking: str = "", context: int = 100_000
    ) -> None:
        self.answer, self.finish, self.thinking, self.max_model_len = answer, finish, thinking, context
        self.shown: dict[tuple[int, int], str] = {}
        self.tokens_made = 0

    def prompt(self, messages: list[Message]) -> Prompt:
        text = json.dumps(messages) if len(messages) > 1 else messages[0]["content"]
        return Prompt(messages=tuple(messages), token_ids=tuple(map(ord, text)), length=len(text))

    async def generate(self, request: Request) -> Generation:
        key = (request.round, request.agent)
        assert key not in self.shown, "no turn is asked for twice"
        self.shown[key] = request.prompt.messages[-1]["content"]
        await asyncio.sleep(0.001 * max(0, 10 - request.agent))
        text = self.answer(*key)
        self.tokens_made += len(text)
        return Generation(
            text=text,
            thinking=self.thinking,
            prompt_tokens=request.prompt.length,
            cached_tokens=0,
            completion_tokens=len(text),
            finish_reason=self.finish,
        )

    async def close(self) -> None:
        pass


def run(engine: Scripted, *, recorded: dict[tuple[int, int], Turn] | None = None, **config: object) -> Debate:
    """Discuss PROBLEM; every turn is journaled exactly once unless it was recorded before."""
    new: list[Turn] = []
    plan = Plan(config=DebateConfig.model_validate(config), wording="general", base_seed=0)
    discussion = Discussion(PROBLEM, work_id="w", plan=plan, engine=engine, recorded=recorded or {}, on_turn=new.append)
    result = discussion.debate(asyncio.run(strategies.load(plan.config.strategy)(discussion)))
    keys = [(turn.round, turn.agent) for turn in result.turns]
    assert len(keys) == len(set(keys))
    assert {(t.round, t.agent) for t in new} == set(keys) - set(recorded or {})
    return result


def boxed(value: object) -> str:
    return f"So it is \\boxed{{{value}}}."


def split(round: int, agent: int) -> str:
    """Every agent has its own answer."""
    return boxed(agent)
