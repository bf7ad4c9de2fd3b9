"""What a discussion needs of an engine: vLLM in this process, an endpoint, or recorded generations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from agentark_core.config import SamplingConfig
from agentark_core.types import Generation, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A chat prompt as an engine will send it.

    length is in tokens. token_ids is None where the server applies the chat template itself; length is then an upper
    estimate.
    """

    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] | None
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One generation to make: its prompt, its key (work_id, round, agent), and its place in the queue.

    A lower priority number goes first: it is the order in which questions were admitted. json_schema: the completion
    shall be JSON of this schema; engines enforce it where they can, so whoever reads it parses strictly all the same.
    """

    prompt: Prompt
    sampling: SamplingConfig
    seed: int
    work_id: str
    problem_id: str
    round: int
    agent: int
    priority: int = 0
    json_schema: dict[str, Any] | None = None

    @property
    def request_id(self) -> str:
        """Unique within a run."""
        return f"{self.work_id}-{self.round}-{self.agent}"


class Engine(Protocol):
    """One model that completes prompts."""

    @property
    def max_model_len(self) -> int:
        """Context of the model in tokens (prompt and completion)."""
        ...

    @property
    def tokens_made(self) -> int:
        """Completion tokens seen so far, of unfinished requests too: the watchdog's sign of life. -1: not watched."""
        ...

    def prompt(self, messages: list[Message]) -> Prompt:
        """Count, and where possible tokenise, a chat prompt; text of data never becomes a special token.

        A last message of the assistant is what the completion goes on from. Raises ConfigError if a server cannot.
        """
        ...

    async def generate(self, request: Request) -> Generation:
        """Complete one prompt. EngineDied if the engine behind it is gone."""
        ...

    async def reset_prefix_cache(self) -> None:
        """Forget all prompts, so that one measurement starts as another did. Call it while nothing is generated; a
        server's cache is not ours to empty."""
        ...

    async def close(self) -> None:
        """Give back connections, processes and memory."""
        ...


class EngineView:
    """An engine as one of its users has it: its context and its prompts; a subclass says how it generates."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def max_model_len(self) -> int:
        """Context in tokens."""
        return self._engine.max_model_len

    def prompt(self, messages: list[Message]) -> Prompt:
        """See Engine."""
        return self._engine.prompt(messages)
