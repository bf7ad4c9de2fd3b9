"""A checked GRPO job: everything that can be wrong is found before a process group exists. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core import model_files
from agentark_core.arkling.generator import GENERATOR_VERSION, parse_question
from agentark_core.config import GRPOConfig, parse
from agentark_core.errors import ConfigError
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import grpo_data, memory, planning
from agentark_core.training.rewards import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job. prm: directory of the process reward model (None: none is used); accumulation: forward passes per
    optimiser step in one process."""

    base: Path
    output: Path
    config: GRPOConfig
    prompts: list[Asked]
    prm: Path | None
    revision: str
    digest: str
    scorer: str
    accumulation: int
    world_size: int

    @property
    def run(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes from it must have in common."""
        return {
            "world_size": self.world_size,
            "base_revision": self.revision,
            "prompts": self.digest,
            "tokenizer": planning.tokenizer_digest(self.base),
            "scorer": self.scorer,
            **planning.kept_settings("grpo", self.config),
        }

    def check_memory(self, *, available: float) -> None:
        """Log the memory per GPU; ConfigError with what would help if it exceeds available bytes (0: not known)."""
        memory.check(self.base, self.config, available=available, prm=self.prm)


def plan(resolved: dict[str, Any], *, world_size: int) -> Plan:
    """Check everything that can be wrong before a process group exists. Raises an AgentArkError with the remedy."""
    needed = {"model", "prompts", "output", "grpo"}
    planning.check_keys(resolved, job="grpo", needed=needed, optional={"revision", "prm"})
    config = parse(GRPOConfig, {**resolved["grpo"], "num_workers": world_size}, origin="resolved config: grpo")
    base, revision = planning.checked_base(resolved)
    prompts = grpo_data.read_prompts(planning.listed(resolved["prompts"]))
    prm = Path(resolved["prm"]) if resolved.get("prm") else None
    scorer = _scorer_identity(config, prm=prm)
    if scorer.startswith("exact"):
        for asked in prompts:
            parse_question(asked.prompt[-1]["content"])
    return Plan(
        base=base,
        output=Path(resolved["output"]),
        config=config,
        prompts=prompts,
        prm=prm,
        revision=revision,
        digest=grpo_data.digest(prompts),
        scorer=scorer,
        accumulation=config.prompts_per_step * config.group_size // (config.micro_batch_size * world_size),
        world_size=world_size,
    )


def _check_context(config: GRPOConfig, *, prm: Path) -> None:
    """ConfigError if the longest solution is longer than what the process reward model reads. One that is too long only
    together with its prompt is an unscored group."""
    described = json.loads((prm / "config.json").read_text(encoding="utf-8"))
    context = described.get("text_config", described).get("max_position_embeddings")
    if context and config.max_tokens >= context:
        raise ConfigError(
            f"{prm}: the process reward model reads {context} tokens with the prompt, and grpo.max_tokens is "
            f"{config.max_tokens}; lower it, or take a model of longer context"
        )


def _scorer_identity(config: GRPOConfig, *, prm: Path | None) -> str:
    """What the rewards depend on besides the config: kind, contents and step splitter. Raises an AgentArkError."""
    if not config.process_weight:
        return "none"
    if config.scorer == "exact":
        return f"exact, arkling {GENERATOR_VERSION}, {STEPS_VERSION}"
    if prm is None:
        raise ConfigError("grpo.scorer is prm but no model is named: set `prm` to the directory of a trained one")
    model_files.check_model_dir(prm)
    _check_context(config, prm=prm)
    return f"prm {model_files.revision(prm)}, {STEPS_VERSION}"
