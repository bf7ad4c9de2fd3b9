"""What makes a function a strategy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agentark_core.discussion import Discussion, Outcome

Strategy = Callable[[Discussion], Awaitable[Outcome]]


def strategy(function: Strategy) -> Strategy:
    """Mark an `async def` as a strategy, so that a config can name it; nothing else can be called by a config."""
    function.is_strategy = True  # type: ignore[attr-defined]
    return function
