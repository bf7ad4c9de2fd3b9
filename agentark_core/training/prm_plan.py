"""A checked PRM job: everything that can be wrong is found before a process group exists. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core.config import PRMConfig, PRMStage, parse
from agentark_core.errors import ConfigError
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import prm_data
from agentark_core.training.sft_plan import RESUMABLE_CHANGES, checked_base, tokenizer_digest

STAGES = ("stage1", "stage2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job. accumulation: forward passes per optimiser step in one process."""

    base: Path
    output: Path
    config: PRMConfig
    rows: list[prm_data.Row]
    revision: str
    digest: str
    accumulation: int
    world_size: int

    @property
    def run(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes from it must have in common."""
        settings = self.config.model_dump(mode="json", exclude={*RESUMABLE_CHANGES, "model"})
        return {
            "world_size": self.world_size,
            "base_revision": self.revision,
            "examples": self.digest,
            "tokenizer": tokenizer_digest(self.base),
            "splitter": STEPS_VERSION,
            **{f"prm.{key}": value for key, value in settings.items()},
        }

    @property
    def stages(self) -> list[tuple[str, PRMStage]]:
        """The stages to train, in order."""
        return [(name, stage) for name in STAGES if (stage := getattr(self.config, name)).epochs]


def plan(resolved: dict[str, Any], *, world_size: int) -> Plan:
    """Check everything that can be wrong before a process group exists. Raises an AgentArkError with the remedy."""
    keys = {"model", "examples", "output", "prm"}
    if names := ", ".join(sorted((keys - set(resolved)) | (set(resolved) - keys - {"revision"}))):
        raise ConfigError(f"resolved config: missing or unknown keys: {names}; see training/prm.py")
    config = parse(PRMConfig, resolved["prm"], origin="resolved config: prm")
    questions = config.micro_batch_size * world_size
    if config.batch_size % questions:
        raise ConfigError(
            f"prm.batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size} x "
            f"processes {world_size}; lower prm.micro_batch_size or change prm.batch_size"
        )
    base, revision = checked_base(resolved)
    paths = resolved["examples"]
    rows = prm_data.read_rows([paths] if isinstance(paths, str) else paths)
    return Plan(
        base=base,
        output=Path(resolved["output"]),
        config=config,
        rows=rows,
        revision=revision,
        digest=prm_data.digest(rows),
        accumulation=config.batch_size // questions,
        world_size=world_size,
    )
