"""One training job, measured: its settings, its data, and the run of the job's own code in this process.

Settings are those of the preset in deployments/students/ (its sections prm and grpo are the defaults). Changed are only
how long it runs, checkpoints, the watch and what samples (transformers), and of the process reward model's two stages
the second runs alone: the one in which all weights learn. Every row is full, which is what the estimate of memory
counts with: max_length tokens, for GRPO max_prompt_tokens and max_tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from agentark_core.chat import ChatFormat
from agentark_core.config import DistilConfig, GRPOConfig, PRMConfig, SFTConfig, load
from agentark_core.training import memory
from agentark_core.training.model_shape import Shape

from . import data

Job = Literal["sft", "prm", "grpo"]
JOBS: tuple[Job, ...] = ("sft", "prm", "grpo")
STEPS: dict[Job, tuple[int, int]] = {"sft": (2, 8), "prm": (2, 8), "grpo": (1, 3)}
"""Optimiser steps that warm up, and that are measured."""
CONFIGS: dict[Job, type[SFTConfig] | type[PRMConfig] | type[GRPOConfig]] = {
    "sft": SFTConfig,
    "prm": PRMConfig,
    "grpo": GRPOConfig,
}
DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"
TINY_SHAPE = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 1, "head_dim": 32, "vocab_size": 1000},
}
TINY: dict[Job, dict[str, Any]] = {
    "sft": {"batch_size": 4, "micro_batch_size": 2, "max_length": 128, "gradient_checkpointing": True},
    "prm": {"batch_size": 2, "micro_batch_size": 1, "max_length": 128},
    "grpo": {
        **{"prompts_per_step": 2, "group_size": 2, "micro_batch_size": 2},
        **{"max_prompt_tokens": 32, "max_tokens": 16},
    },
}


def described(preset: str, *, tiny: bool) -> dict[str, Any]:
    """config.json of the model that a preset names."""
    configs = json.loads((DEPLOYMENTS / "model_configs.json").read_text(encoding="utf-8"))
    return {**configs[_preset(preset).student.path], **(TINY_SHAPE if tiny else {})}


def settings(job: Job, preset: str, *, length: int | None, tiny: bool) -> dict[str, Any]:
    """The job's section. length: tokens of a row instead of the preset's max_length; GRPO keeps its own."""
    section = getattr(_preset(preset), job).model_dump(mode="json")
    changes = TINY[job] if tiny else {"max_length": length} if length and job != "grpo" else {}
    many = sum(STEPS[job]) + 1  # the run ends before its last step, so that it writes no checkpoint
    endless = {"stage1": {"epochs": 0}, "stage2": {"epochs": many}} if job == "prm" else {"epochs": many}
    # vLLM cannot be told to end a completion at its last token, as _watched does.
    sampled = {"watch_prompts": 0, "rollouts": "transformers"} if job == "grpo" else {}
    return {**section, **changes, **endless, **sampled, "save_steps": 10**6, "gpu_memory_gib": 0}


def _preset(name: str) -> DistilConfig:
    return load(DistilConfig, DEPLOYMENTS / "students" / f"{name}.yaml")


def run(job: Job, folder: Path, *, section: dict[str, Any]) -> dict[str, Any]:
    """Train the model in folder/model; the child's body.

    Returns {steps: [{seconds, parts}], tokens: [of each step], memory: {allocated, reserved} in bytes, estimate: {the
    same}}; memory is {} without a GPU.
    """
    from agentark_core.training import group

    group.join()
    group.prepare(cpus=1)
    from .clock import Clock

    config: Any = CONFIGS[job].model_validate(section)
    base, output = folder / "model", folder / job
    resolved = {"model": str(base), "output": str(output), job: section, **_data(job, folder, config=config)}
    warm_up, steps = STEPS[job]
    clock = Clock(warm_up=warm_up, steps=steps, parts=job != "sft")
    trainer_module = import_module(f"agentark_core.training.{job}_trainer")
    trainer_module.build_trainer = _watched(trainer_module.build_trainer, clock, full=job == "grpo")  # type: ignore[attr-defined]
    import_module(f"agentark_core.training.{job}").train(resolved)
    totals = [row["tokens"] for row in _metrics(output)]
    return {
        "steps": clock.rows,
        "tokens": [after - before for before, after in zip(totals[warm_up - 1 :], totals[warm_up:], strict=False)],
        "memory": clock.memory,
        "estimate": _estimate(base, config, scorer=folder / "scorer"),
    }


def _watched(build: Callable[..., Any], clock: Any, *, full: bool) -> Callable[..., Any]:
    """build_trainer, its trainer measured. full: it samples completions of exactly max_tokens tokens, the end among
    them, because what is cut off is not learned from, and a random model hardly ever ends by itself."""

    def built(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        clock.watch(trainer)
        if full:
            end = kwargs["chat"].stop_ids[-1]
            last = trainer.args.max_completion_length
            for changed in (trainer.generation_config.__dict__, trainer.generation_kwargs):
                changed.update({"min_new_tokens": last, "forced_eos_token_id": end})
        return trainer

    return built


def _data(job: Job, folder: Path, *, config: Any) -> dict[str, str]:
    """Write what the job reads; returns its keys of resolved.json. One batch of rows, which is trained on again."""
    chat, path = ChatFormat.load(folder / "model"), folder / f"{job}.parquet"
    if job == "grpo":
        data.write_prompts(chat, path, number=config.prompts_per_step, length=config.max_prompt_tokens)
        data.make_scorer(folder / "model", folder / "scorer")
        return {"prompts": str(path), "prm": str(folder / "scorer")}
    write = data.write_examples if job == "sft" else data.write_process
    write(chat, path, number=config.batch_size, length=config.max_length)
    return {"examples": str(path)}


def _metrics(output: Path) -> list[dict[str, Any]]:
    [path] = output.glob("**/metrics.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _estimate(base: Path, config: Any, *, scorer: Path) -> dict[str, float]:
    """What memory.py says that the process allocates, and with fragmentation reserves."""
    shape = Shape.of(base)
    assert shape is not None
    held = float(sum(file.stat().st_size for file in scorer.glob("*.safetensors")))
    needed = memory.estimate(shape, config, traces=data.TRACES, scorer=held)
    return {"allocated": needed.allocated, "reserved": memory.FRAGMENTATION * needed.allocated}
