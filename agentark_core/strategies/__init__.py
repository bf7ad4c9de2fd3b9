"""Ways of discussing a question: async functions of a Discussion that return an Outcome.

`debate.strategy` names a built-in one or the user's own as `package.module:function`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Awaitable, Callable

from agentark_core.discussion import Discussion, Outcome
from agentark_core.errors import ConfigError

Strategy = Callable[[Discussion], Awaitable[Outcome]]

BUILT_IN = {"debate": "agentark_core.strategies.debate:debate"}


def load(name: str) -> Strategy:
    """The strategy of that name. ConfigError if there is none."""
    target = BUILT_IN.get(name, name)
    module, separator, function = target.partition(":")
    if not separator:
        raise ConfigError(
            f"debate.strategy {name!r}: unknown; use one of {', '.join(BUILT_IN)}, "
            "or your own as package.module:function"
        )
    try:
        strategy = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"debate.strategy {name!r}: {error}; put its folder on PYTHONPATH or fix the name") from None
    if not inspect.iscoroutinefunction(strategy):
        raise ConfigError(f"debate.strategy {name!r}: is not an `async def` that takes a Discussion")
    return strategy


def source_hash(name: str) -> str:
    """Part of the work key: empty for built-in strategies, else the hash of the module's source text.

    So a change of a user's strategy is new work, as a change of a prompt is.
    """
    if name in BUILT_IN:
        return ""
    source = inspect.getsource(inspect.getmodule(load(name)))  # type: ignore[arg-type]
    return hashlib.sha256(source.encode()).hexdigest()[:16]
