"""A checked R-SFT job: everything that can be wrong is found before a process group exists.

Imports nothing heavy, so the flow that submits a job checks it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core import model_files
from agentark_core.config import SFTConfig, parse
from agentark_core.errors import ConfigError, ModelError
from agentark_core.training import checkpoints, sft_data
from agentark_core.types import SFTExample

RESUMABLE_CHANGES = {
    "save_steps",
    "keep_checkpoints",
    "cpus_per_worker",
    "gpus_per_worker",
    "gpu_memory_gib",
    "num_workers",
    "gradient_checkpointing",
}
"""Settings that may differ between a checkpoint and its resumption; the world size is compared by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job. accumulation: forward passes per optimiser step in one process."""

    base: Path
    output: Path
    config: SFTConfig
    examples: list[SFTExample]
    revision: str
    digest: str
    accumulation: int
    world_size: int

    @property
    def run(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes from it must have in common."""
        settings = {f"sft.{k}": v for k, v in self.config.model_dump().items() if k not in RESUMABLE_CHANGES}
        return {
            "world_size": self.world_size,
            "base_revision": self.revision,
            "examples": self.digest,
            "tokenizer": tokenizer_digest(self.base),
            **settings,
        }


def plan(resolved: dict[str, Any], *, world_size: int) -> Plan:
    """Check everything that can be wrong before a process group exists. Raises an AgentArkError with the remedy."""
    missing = {"model", "examples", "output", "sft"} - set(resolved)
    unknown = set(resolved) - {"model", "examples", "output", "sft", "revision"}
    if missing or unknown:
        names = ", ".join(sorted(missing | unknown))
        raise ConfigError(f"resolved config: missing or unknown keys: {names}; see training/sft.py")
    config = parse(SFTConfig, resolved["sft"], origin="resolved config: sft")
    rows = config.micro_batch_size * world_size
    if config.batch_size % rows:
        raise ConfigError(
            f"sft.batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size} x "
            f"processes {world_size}; lower sft.micro_batch_size or change sft.batch_size"
        )
    base, revision = checked_base(resolved)
    paths = resolved["examples"]
    examples = sft_data.read_examples([paths] if isinstance(paths, str) else paths)
    return Plan(
        base=base,
        output=Path(resolved["output"]),
        config=config,
        examples=examples,
        revision=revision,
        digest=sft_data.digest(examples),
        accumulation=config.batch_size // rows,
        world_size=world_size,
    )


def finished(job: Plan) -> dict[str, Any] | None:
    """The result of a run that has ended, None if there is none. ConfigError if it was another run."""
    return checkpoints.finished(job.output, run=job.run)


def checked_base(resolved: dict[str, Any]) -> tuple[Path, str]:
    """The base's directory and content hash; ModelError if it may not be used or is not the one that was planned."""
    base = Path(resolved["model"])
    model_files.check_model_dir(base)
    revision = model_files.revision(base)
    if resolved.get("revision") and resolved["revision"] != revision:
        raise ModelError(
            f"{base}: its content hash is {revision}, the config names {resolved['revision']}; "
            "restore the model or plan the run again"
        )
    return base, revision


def tokenizer_files(base: Path) -> list[Path]:
    """Everything beside weights, configs and notes: tokenizer, vocabulary, merges, chat template, image processor."""
    text = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template", "tekken")
    stems = (*text, "processor_config", "preprocessor_config", "video_preprocessor_config")
    return [file for file in base.iterdir() if file.is_file() and file.name.startswith(stems)]


def tokenizer_digest(base: Path) -> dict[str, str]:
    """File name -> sha256 (16 hex digits) of the tokenizer files."""
    return {file.name: model_files.file_sha256(file)[:16] for file in sorted(tokenizer_files(base))}
