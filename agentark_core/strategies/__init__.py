"""Ways of discussing a question: async functions of a Discussion that return an Outcome.

`debate.strategy` names a built-in one or the user's own as `package.module:function`, marked with @strategy.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys

from agentark_core.config import DebateConfig
from agentark_core.errors import ConfigError
from agentark_core.strategies.interface import Strategy, strategy
from agentark_core.strategies.mav import ASPECTS

__all__ = ["BUILT_IN", "Strategy", "load", "max_calls", "source_hash", "strategy"]

BUILT_IN = {
    "debate": "agentark_core.strategies.debate:debate",
    "single": "agentark_core.strategies.single:single",
    "self_consistency": "agentark_core.strategies.single:self_consistency",
    "mad": "agentark_core.strategies.mad:mad",
    "mav": "agentark_core.strategies.mav:mav",
    "dylan": "agentark_core.strategies.dylan:dylan",
    "agentverse": "agentark_core.strategies.agentverse:agentverse",
}


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
        found: Strategy = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"debate.strategy {name!r}: {error}; put its folder on PYTHONPATH or fix the name") from None
    if not getattr(found, "is_strategy", False):
        raise ConfigError(f"debate.strategy {name!r}: is not marked as a strategy; put @strategy above its async def")
    return found


def source_hash(name: str) -> str:
    """Part of the work key: empty for built-in strategies, else the hash of the module's source text.

    So a change of a user's strategy is new work, as a change of a prompt is.
    """
    if name in BUILT_IN:
        return ""
    source = inspect.getsource(sys.modules[load(name).__module__])
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def max_calls(config: DebateConfig) -> int:
    """Generations a question at most, to compare at equal calls and to estimate. ConfigError for a user's own."""
    n, k = config.num_agents, config.num_rounds
    calls = {
        "debate": n * k + (config.summariser != "never"),
        "single": 1,
        "self_consistency": n,
        "mad": 3 * k,
        "mav": n + n * len(ASPECTS),
        "dylan": n * k + max(0, k - 2),
        "agentverse": n * k + 1,
    }
    if config.strategy not in calls:
        raise ConfigError(
            f"debate.strategy {config.strategy!r}: its number of calls is not known; set evaluation.majority_samples"
        )
    return calls[config.strategy]
