"""Training jobs on the Ray cluster. A finished output is returned at once, a started one goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core import model_files
from agentark_core.config import GRPOConfig, ModelConfig, PRMConfig, SFTConfig
from agentark_core.ledger import atomic_write_text, fingerprint
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import checkpoints, planning
from agentark_core.training.grpo import GRPO_VERSION
from agentark_core.training.prm import PRM_VERSION
from agentark_core.training.sft import SFT_VERSION
from tasks.extract_tasks import ExampleSet
from tasks.trace_tasks import user_errors_are_final

TRAINING: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 1,
    "retry_delay_seconds": 5,
    "retry_condition_fn": user_errors_are_final,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that a job made: its directory in hub layout, content revision, and what it was made from.

    output: the job's folder, with metrics.jsonl.
    """

    fingerprint: str
    output: Path
    revision: str
    base_revision: str
    metrics: dict[str, Any]

    @property
    def path(self) -> Path:
        """The model directory."""
        return self.output / "model"


@task(task_run_name="{strategy} {model.path}", **TRAINING)
def train_sft(
    model: ModelConfig,
    *,
    strategy: Literal["sft_answer", "rsft", "da"],
    examples: ExampleSet,
    sft: SFTConfig,
    home: Path,
) -> Trained:
    """SFT of `model` on answers alone, on reasoning (Eq. 1) or on weighted augmented traces (Eq. 2)."""
    made_of = {"examples": [str(path) for path in examples.paths], "held_out": examples.held_out}
    key = {"examples": examples.digest, "code_schema": SFT_VERSION}
    return _train("sft", strategy, model=model, config=sft, made_of=made_of, key=key, home=home)


@task(task_run_name="prm {student.path}", **TRAINING)
def train_prm(student: ModelConfig, *, examples: ExampleSet, prm: PRMConfig, home: Path) -> Trained:
    """A process reward model (Eq. 7) from prm.model, or else the student, on examples of the kind `process`."""
    made_of = {"examples": [str(path) for path in examples.paths], "held_out": examples.held_out}
    key = {"examples": examples.digest, "code_schema": [PRM_VERSION, STEPS_VERSION]}
    return _train("prm", "prm", model=prm.model or student, config=prm, made_of=made_of, key=key, home=home)


@task(task_run_name="grpo {model.path}", **TRAINING)
def train_grpo(model: ModelConfig, *, prompts: ExampleSet, prm: Path | None, grpo: GRPOConfig, home: Path) -> Trained:
    """GRPO (Eq. 3-5) of `model` on the prompts, rewarded by the process reward model in `prm` (None: by what the config
    names)."""
    made_of = {"prompts": [str(path) for path in prompts.paths], "prm": str(prm or "")}
    key = {
        "prompts": prompts.digest,
        "prm": model_files.revision(prm) if prm else "",
        "code_schema": [GRPO_VERSION, STEPS_VERSION],
    }
    return _train("grpo", "grpo", model=model, config=grpo, made_of=made_of, key=key, home=home)


def _train(
    job: Literal["sft", "prm", "grpo"],
    name: str,
    *,
    model: ModelConfig,
    config: SFTConfig | PRMConfig | GRPOConfig,
    made_of: dict[str, Any],
    key: dict[str, Any],
    home: Path,
) -> Trained:
    """Run one job, unless its output is finished. made_of: what the job reads; key: what of that identifies its output,
    beside the model and the config."""
    from agentark_core.cluster import ray_cluster, ray_train

    model_dir = model_files.resolve(model)
    base_revision = model_files.revision(model_dir)
    settings = config.model_dump(mode="json")
    # What a run may change when it goes on does not make it another one; a world size does.
    kept = config.model_dump(mode="json", exclude=planning.RESUMABLE_CHANGES - {"num_workers"})
    identity = fingerprint(name, base=base_revision, settings=kept, **key)
    output = home / "models" / f"{name}-{identity}"
    resolved = {
        "model": str(model_dir),
        "revision": base_revision,
        **made_of,
        "output": str(output),
        job: settings,
    }
    if checkpoints.read_marker(output) is None:
        atomic_write_text(output / "resolved.json", json.dumps(resolved, indent=2, sort_keys=True))
        ray_cluster.connect()
        ray_train.train(
            job,
            resolved,
            num_workers=config.num_workers,
            cpus_per_worker=config.cpus_per_worker,
            gpus_per_worker=config.gpus_per_worker,
            storage=output / "ray",
        )
    record = output / "model" / ("prm.json" if job == "prm" else "agentark.json")
    return Trained(
        fingerprint=identity,
        output=output,
        revision=model_files.revision(output / "model"),
        base_revision=base_revision,
        metrics=json.loads(record.read_text(encoding="utf-8")),
    )
