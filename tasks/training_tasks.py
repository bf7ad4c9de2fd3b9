"""Training jobs on the Ray cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core import model_files
from agentark_core.config import GRPOConfig, ModelConfig, PRMConfig, SFTConfig
from agentark_core.ledger import atomic_write_text, fingerprint
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import checkpoints
from agentark_core.training.grpo import GRPO_VERSION
from agentark_core.training.prm import PRM_VERSION
from agentark_core.training.sft import SFT_VERSION
from tasks.extract_tasks import ExampleSet
from tasks.trace_tasks import user_errors_are_final


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A trained student: its directory in hub layout, content revision, and what it was made from."""

    fingerprint: str
    path: Path
    revision: str
    base_revision: str
    metrics: dict[str, Any]


@task(
    task_run_name="R-SFT {model.path}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def train_student(model: ModelConfig, *, examples: ExampleSet, sft: SFTConfig, home: Path) -> Student:
    """R-SFT of `model` on the examples. A finished output is returned at once, a started one goes on."""
    from agentark_core.cluster import ray_pool, ray_train

    model_dir = model_files.resolve(model)
    base_revision = model_files.revision(model_dir)
    key = fingerprint(
        "rsft",
        base=base_revision,
        examples=examples.digest,
        sft=sft.model_dump(mode="json"),
        code_schema=SFT_VERSION,
    )
    output = home / "models" / f"rsft-{key}"
    resolved = {
        "model": str(model_dir),
        "examples": [str(path) for path in examples.paths],
        "output": str(output),
        "sft": sft.model_dump(mode="json"),
        "revision": base_revision,
    }
    if checkpoints.read_marker(output) is None:
        atomic_write_text(output / "resolved.json", json.dumps(resolved, indent=2, sort_keys=True))
        ray_pool.connect()
        ray_train.train_sft(
            resolved,
            num_workers=sft.num_workers,
            cpus_per_worker=sft.cpus_per_worker,
            gpus_per_worker=sft.gpus_per_worker,
            storage=output / "ray",
        )
    return _student(key, output=output, base_revision=base_revision)


@task(
    task_run_name="GRPO {model.path}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def train_grpo(model: ModelConfig, *, prompts: ExampleSet, prm: Path | None, grpo: GRPOConfig, home: Path) -> Student:
    """GRPO of `model` on the prompts, rewarded by the process reward model in `prm` (None: by what the config names).

    A finished output is returned at once, a started one goes on.
    """
    from agentark_core.cluster import ray_pool, ray_train

    model_dir = model_files.resolve(model)
    base_revision = model_files.revision(model_dir)
    key = fingerprint(
        "grpo",
        base=base_revision,
        prompts=prompts.digest,
        prm=model_files.revision(prm) if prm else "",
        grpo=grpo.model_dump(mode="json"),
        code_schema=GRPO_VERSION,
    )
    output = home / "models" / f"grpo-{key}"
    resolved = {
        "model": str(model_dir),
        "prompts": [str(path) for path in prompts.paths],
        "prm": str(prm or ""),
        "output": str(output),
        "grpo": grpo.model_dump(mode="json"),
        "revision": base_revision,
    }
    if checkpoints.read_marker(output) is None:
        atomic_write_text(output / "resolved.json", json.dumps(resolved, indent=2, sort_keys=True))
        ray_pool.connect()
        ray_train.train_grpo(
            resolved,
            num_workers=grpo.num_workers,
            cpus_per_worker=grpo.cpus_per_worker,
            gpus_per_worker=grpo.gpus_per_worker,
            storage=output / "ray",
        )
    return _student(key, output=output, base_revision=base_revision)


def _student(key: str, *, output: Path, base_revision: str) -> Student:
    return Student(
        fingerprint=key,
        path=output / "model",
        revision=model_files.revision(output / "model"),
        base_revision=base_revision,
        metrics=json.loads((output / "model" / "agentark.json").read_text(encoding="utf-8")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """A trained process reward model: its directory, content revision, and what it was made from (prm.json)."""

    fingerprint: str
    path: Path
    revision: str
    base_revision: str
    metrics: dict[str, Any]


@task(
    task_run_name="PRM {student.path}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def train_prm(student: ModelConfig, *, examples: ExampleSet, prm: PRMConfig, home: Path) -> RewardModel:
    """A process reward model from prm.model, or else the student, on examples of the kind `process`.

    A finished output is returned at once, a started one goes on.
    """
    from agentark_core.cluster import ray_pool, ray_train

    model_dir = model_files.resolve(prm.model or student)
    base_revision = model_files.revision(model_dir)
    settings = prm.model_dump(mode="json")
    key = fingerprint(
        "prm",
        base=base_revision,
        examples=examples.digest,
        prm=settings,
        code_schema=[PRM_VERSION, STEPS_VERSION],
    )
    output = home / "models" / f"prm-{key}"
    resolved = {
        "model": str(model_dir),
        "examples": [str(path) for path in examples.paths],
        "output": str(output),
        "prm": settings,
        "revision": base_revision,
    }
    if checkpoints.read_marker(output) is None:
        atomic_write_text(output / "resolved.json", json.dumps(resolved, indent=2, sort_keys=True))
        ray_pool.connect()
        ray_train.train_prm(
            resolved,
            num_workers=prm.num_workers,
            cpus_per_worker=prm.cpus_per_worker,
            gpus_per_worker=prm.gpus_per_worker,
            storage=output / "ray",
        )
    return RewardModel(
        fingerprint=key,
        path=output / "model",
        revision=model_files.revision(output / "model"),
        base_revision=base_revision,
        metrics=json.loads((output / "model" / "prm.json").read_text(encoding="utf-8")),
    )
