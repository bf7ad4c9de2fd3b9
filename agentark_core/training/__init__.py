"""Training jobs: each module is an entry point `--config resolved.json`, one process group each."""

from __future__ import annotations

from agentark_core.errors import AgentArkError


class TrainingError(AgentArkError):
    """A training process died, or the numbers are no longer finite (F09, F35)."""

    exit_code = 6
