"""What judge.py, selector.py, qualities.py and rollouts.py share: a model of their own is asked, many cases at once.

Replies are hostile text: engines enforce a schema where they can, and `read_json` reads a whole finished reply or
nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from agentark_core.config import EngineConfig, ModelConfig
from agentark_core.discussion import Generates
from agentark_core.engines.base import Prompt
from agentark_core.types import Generation, Message

MAX_OPEN = 512
"""Cases that are asked about at once."""

MAX_REPLY = 200
"""Characters of a reply; a longer one is unreadable."""

Case = TypeVar("Case", bound=Hashable)
Answer = TypeVar("Answer")


def engine_of(
    model: ModelConfig, own: EngineConfig | None, *, flow: EngineConfig | None, teacher: ModelConfig | None
) -> EngineConfig:
    """The engines of a model beside a flow whose section `engine` (flow) runs `teacher`.

    Without a section of its own it takes the flow's: the very same where it is the teacher, so that one start serves
    both, else in this process.
    """
    flow = flow or EngineConfig()
    same = model == teacher and flow.kind != "replay"
    return own or (flow if same else flow.in_process())


def fitting_prompt(messages: Sequence[Message], *, engine: Generates, max_tokens: int) -> Prompt | None:
    """The prompt; None if it and max_tokens are more than the context."""
    # UTF-8, as tokenizers want it: text of a model may hold one half of a surrogate pair.
    clean: list[Message] = [
        {**message, "content": message["content"].encode("utf-8", "replace").decode()} for message in messages
    ]
    prompt = engine.prompt(clean)
    return prompt if prompt.length + max_tokens <= engine.max_model_len else None


def quoted(text: str) -> str:
    """The text with `> ` before every line, so that none can look like the prompt's own."""
    return "\n".join(f"> {line}" for line in text.splitlines())


async def ask_each(cases: Sequence[Case], ask: Callable[[Case], Awaitable[Answer]]) -> list[Answer]:
    """ask(case) of each, in order; equal cases are asked once. Whatever `ask` raises ends all of it."""
    room = asyncio.Semaphore(MAX_OPEN)

    async def one(case: Case) -> Answer:
        async with room:
            return await ask(case)

    distinct = list(dict.fromkeys(cases))
    tasks = [asyncio.create_task(one(case)) for case in distinct]
    try:
        answers = dict(zip(distinct, await asyncio.gather(*tasks), strict=True))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [answers[case] for case in cases]


def read_json(reply: Generation) -> Any:
    """The JSON of a whole reply; None if it is unfinished, too long or no JSON.

    An object becomes a list of (key, value) tuples, so that a key given twice shows.
    """
    if reply.finish_reason != "stop" or len(reply.text) > MAX_REPLY:
        return None
    try:
        return json.loads(reply.text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
