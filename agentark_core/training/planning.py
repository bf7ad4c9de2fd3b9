"""What the plans of all training jobs share: checks of resolved.json, of the base, and of what a resumed run keeps.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from agentark_core import model_files
from agentark_core.errors import ConfigError, EmptyDataset, ModelError

RESUMABLE_CHANGES = {
    *("save_steps", "keep_checkpoints", "cpus_per_worker", "gpus_per_worker", "num_workers"),
    *("gpu_memory_gib", "gradient_checkpointing"),
    *("vllm_memory", "vllm_url", "engine_difference"),
}
"""Settings that may differ between a checkpoint and its resumption; the world size is compared by itself."""

T = TypeVar("T")


def check_keys(resolved: dict[str, Any], *, job: str, needed: set[str], optional: set[str]) -> None:
    """ConfigError if resolved.json lacks a key or has one that the job does not know."""
    if names := ", ".join(sorted((needed - set(resolved)) | (set(resolved) - needed - optional))):
        raise ConfigError(f"resolved config: missing or unknown keys: {names}; see training/{job}.py")


def accumulation(section: str, *, batch_size: int, micro_batch_size: int, world_size: int) -> int:
    """Forward passes per optimiser step in one process. ConfigError if that is no whole number."""
    together = micro_batch_size * world_size
    if batch_size % together:
        raise ConfigError(
            f"{section}.batch_size {batch_size} is not a multiple of micro_batch_size {micro_batch_size} x "
            f"processes {world_size}; lower {section}.micro_batch_size or change {section}.batch_size"
        )
    return batch_size // together


def kept_settings(section: str, config: BaseModel, *, beside: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The settings that a resumed run must have in common with its checkpoint, as `sft.epochs`. beside: identified
    elsewhere."""
    settings = config.model_dump(mode="json", exclude=RESUMABLE_CHANGES | beside)
    return {f"{section}.{key}": value for key, value in settings.items()}


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


def without_held_out(
    examples: Sequence[T], *, resolved: dict[str, Any], problem_id: Callable[[T], str]
) -> tuple[list[T], int]:
    """The examples of questions that resolved.json does not list in `held_out`, and how many that leaves out.

    Raises EmptyDataset if none remains."""
    held_out = set(resolved.get("held_out", ()))
    kept = [example for example in examples if problem_id(example) not in held_out]
    if not kept:
        raise EmptyDataset(
            f"all {len(examples)} examples are of the {len(held_out)} questions that the watch of a later GRPO or PPO "
            "asks; lower grpo.watch_prompts or extract more"
        )
    return kept, len(examples) - len(kept)


def listed(paths: str | list[str]) -> list[str]:
    """One file or a list of them, as resolved.json may have it."""
    return [paths] if isinstance(paths, str) else paths


def tokenizer_files(base: Path) -> list[Path]:
    """Everything beside weights, configs and notes: tokenizer, vocabulary, merges, chat template, image processor."""
    text = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template", "tekken")
    stems = (*text, "processor_config", "preprocessor_config", "video_preprocessor_config")
    return [file for file in base.iterdir() if file.is_file() and file.name.startswith(stems)]


def tokenizer_digest(base: Path) -> dict[str, str]:
    """File name -> sha256 (16 hex digits) of the tokenizer files."""
    return {file.name: model_files.file_sha256(file)[:16] for file in sorted(tokenizer_files(base))}
