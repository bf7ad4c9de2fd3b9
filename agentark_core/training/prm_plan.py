"""A checked PRM job: everything that can be wrong is found before a process group exists. Imports nothing heavy."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core.config import PRMConfig, PRMStage, parse
from agentark_core.errors import ConfigError
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import memory, planning, prm_data

STAGES = ("stage1", "stage2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job. held_out: traces that are not learned from, their questions being a later watch's; accumulation:
    forward passes per optimiser step in one process."""

    base: Path
    output: Path
    config: PRMConfig
    rows: list[prm_data.Row]
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
            "splitter": STEPS_VERSION,
            **planning.kept_settings("prm", self.config, beside=frozenset({"model"})),
        }

    def check_memory(self, *, available: float) -> None:
        """Log the memory per GPU; ConfigError with what would help if it exceeds available bytes (0: not known)."""
        config = self.config.model_copy(update={"num_workers": self.world_size})
        most = max(Counter(row["problem_id"] for row in self.rows).values())
        memory.check(self.base, config, available=available, traces=most)

    @property
    def stages(self) -> list[tuple[str, PRMStage]]:
        """The stages to train, in order."""
        return [(name, stage) for name in STAGES if (stage := getattr(self.config, name)).epochs]


def check_base(base: Path) -> None:
    """ConfigError if no reward model can start from a model directory: transformers puts no head on every token of
    one with an image encoder."""
    described = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if "vision_config" in described:
        raise ConfigError(
            f"{base}: a reward model cannot start from {described.get('model_type')}, which has an image encoder; name "
            "a text model of any size in prm.model, or leave pad out of strategies"
        )


def plan(resolved: dict[str, Any], *, world_size: int) -> Plan:
    """Check everything that can be wrong before a process group exists. Raises an AgentArkError with the remedy."""
    needed = {"model", "examples", "output", "prm"}
    planning.check_keys(resolved, job="prm", needed=needed, optional={"revision", "held_out"})
    config = parse(PRMConfig, resolved["prm"], origin="resolved config: prm")
    accumulation = planning.accumulation(
        "prm", batch_size=config.batch_size, micro_batch_size=config.micro_batch_size, world_size=world_size
    )
    base, revision = planning.checked_base(resolved)
    check_base(base)
    found = prm_data.read_rows(planning.listed(resolved["examples"]))
    rows, held_out = planning.without_held_out(found, resolved=resolved, problem_id=lambda row: str(row["problem_id"]))
    return Plan(
        base=base,
        output=Path(resolved["output"]),
        config=config,
        rows=rows,
        held_out=held_out,
        revision=revision,
        digest=prm_data.digest(rows),
        accumulation=accumulation,
        world_size=world_size,
    )
