"""Imported once by the server that training processes are forked from (training_jobs.py): they start in a second."""

from __future__ import annotations

from agentark_core.training import group

group.prepare(cpus=1)

import agentark_core.training.grpo_trainer  # noqa: E402
import agentark_core.training.prm_trainer  # noqa: E402
import agentark_core.training.sft_trainer  # noqa: E402, F401
