"""A checked R-SFT job: everything that can be wrong is found before a process group exists.

Imports nothing heavy, so the flow that submits a job checks it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core.config import SFTConfig, parse
from agentark_core.training import memory, planning, sft_data
from agentark_core.types import SFTExample


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job. held_out: examples that are not learned from, their questions being a later watch's; accumulation:
    forward passes per optimiser step in one process."""

    base: Path
    output: Path
    config: SFTConfig
    examples: list[SFTExample]
    held_out: int
    revision: str
    digest: str
    accumulation: int
    world_size: int

    @property
    def run(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes from it must have in common."""
        return {
            "world_size": self.world_size,
            "base_revision": self.revision,
            "examples": self.digest,
            "tokenizer": planning.tokenizer_digest(self.base),
            **planning.kept_settings("sft", self.config),
        }

    def check_memory(self, *, available: float) -> None:
        """Log the memory per GPU; ConfigError with what would help if it exceeds available bytes (0: not known)."""
        config = self.config.model_copy(update={"num_workers": self.world_size})
        memory.check(self.base, config, available=available)


def plan(resolved: dict[str, Any], *, world_size: int) -> Plan:
    """Check everything that can be wrong before a process group exists. Raises an AgentArkError with the remedy."""
    needed = {"model", "examples", "output", "sft"}
    planning.check_keys(resolved, job="sft", needed=needed, optional={"revision", "held_out"})
    config = parse(SFTConfig, resolved["sft"], origin="resolved config: sft")
    accumulation = planning.accumulation(
        "sft", batch_size=config.batch_size, micro_batch_size=config.micro_batch_size, world_size=world_size
    )
    base, revision = planning.checked_base(resolved)
    found = sft_data.read_examples(planning.listed(resolved["examples"]))
    examples, held_out = planning.without_held_out(found, resolved=resolved, problem_id=lambda one: one.problem_id)
    return Plan(
        base=base,
        output=Path(resolved["output"]),
        config=config,
        examples=examples,
        held_out=held_out,
        revision=revision,
        digest=sft_data.digest(examples),
        accumulation=accumulation,
        world_size=world_size,
    )
