"""Recorded generations of the ledger behind the `Engine` protocol: the pipeline without a model, for work on what comes
after a debate."""

from __future__ import annotations

from pathlib import Path

from agentark_core.engines.base import Prompt, Request
from agentark_core.errors import EngineError
from agentark_core.stored import read_debates
from agentark_core.types import Generation, Message, Turn

CONTEXT = 2**31


class ReplayEngine:
    """Answers with what was recorded for the same question, round and agent."""

    def __init__(self, home: Path, *, fingerprint: str) -> None:
        """Reads the whole run. Raises DataError if there is no such run."""
        self._fingerprint = fingerprint
        self._turns: dict[tuple[str, int, int], Turn] = {
            (turn.problem_id, turn.round, turn.agent): turn
            for debate in read_debates(home, fingerprint=fingerprint)
            for turn in debate.turns
        }

    @property
    def max_model_len(self) -> int:
        """Recorded prompts fitted when they were recorded."""
        return CONTEXT

    @property
    def tokens_made(self) -> int:
        """-1: there is nothing to watch."""
        return -1

    def prompt(self, messages: list[Message]) -> Prompt:
        """Counts nothing: the recorded count is used."""
        return Prompt(messages=tuple(messages), token_ids=None, length=0)

    async def generate(self, request: Request) -> Generation:
        """Raises EngineError if nothing was recorded for this turn."""
        turn = self._turns.get((request.problem_id, request.round, request.agent))
        if turn is None:
            raise EngineError(
                f"engine.replay {self._fingerprint}: no recorded turn of {request.problem_id}, round {request.round}, "
                f"agent {request.agent}; replay with the same questions, num_agents, num_rounds and strategy"
            )
        return Generation(
            text=turn.text,
            thinking=turn.thinking,
            prompt_tokens=max(0, turn.prompt_tokens),
            cached_tokens=max(0, turn.cached_tokens),
            completion_tokens=max(0, turn.completion_tokens),
            finish_reason=turn.finish_reason,
        )

    async def reset_prefix_cache(self) -> None:
        """There is none."""

    async def close(self) -> None:
        """Nothing to give back."""
