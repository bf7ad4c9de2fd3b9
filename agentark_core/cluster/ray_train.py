"""Training jobs on the Ray cluster: Ray Train starts the process group in which DeepSpeed works.

One process on a laptop and eight GPUs on several nodes take the same path. Ray watches the processes: when one dies the
others are stopped, and the group is started once more from the last complete checkpoint (F09).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agentark_core.cluster.ray_cluster import check_resources
from agentark_core.errors import AgentArkError
from agentark_core.training import (
    TrainingError,
    checkpoints,
    grpo,
    grpo_plan,
    memory,
    prm,
    prm_plan,
    sft,
    sft_plan,
)

COLLECTIVE_TIMEOUT_S = 600
"""Longest wait of one rank for the others; a dead rank is noticed within seconds, this bounds a hanging one."""
RESTARTS = 1

Job = Literal["sft", "prm", "grpo"]

_JOBS: dict[Job, tuple[Callable[..., Any], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "sft": (sft_plan.plan, sft.train),
    "prm": (prm_plan.plan, prm.train),
    "grpo": (grpo_plan.plan, grpo.train),
}


def train(
    job: Job,
    resolved: dict[str, Any],
    *,
    num_workers: int,
    cpus_per_worker: float,
    gpus_per_worker: float,
    storage: Path,
) -> dict[str, Any]:
    """Run training.<job>.train in num_workers processes of the running Ray cluster and return its result.

    storage: folder for Ray Train's own records, seen by every node, as resolved["output"] must be. Raises the job's
    AgentArkError for a wrong config or data, TrainingError naming the rank if a process fails twice.
    """
    output = Path(resolved["output"]).resolve()
    resolved = {**resolved, "output": str(output)}
    plan, work = _JOBS[job]
    planned = plan(resolved, world_size=num_workers)
    if result := checkpoints.finished(output, run=planned.run):
        return result
    if gpus_per_worker:
        planned.check_memory(available=planned.config.gpu_memory_gib * memory.GIB)
    needed = {"CPU": num_workers * cpus_per_worker, "GPU": num_workers * gpus_per_worker}
    lower = {kind: f"{job}.num_workers or {job}.{kind.lower()}s_per_worker" for kind in needed}
    check_resources(f"{job}: the processes need", needed, lower=lower)

    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    on_gpu = gpus_per_worker > 0
    resources = {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if on_gpu else {})
    trainer = TorchTrainer(
        partial(_worker, work),
        train_loop_config=resolved,
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=on_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=f"{job}-{planned.digest}-{time.time_ns()}",
            storage_path=str(storage.resolve()),
            failure_config=FailureConfig(max_failures=RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _first_cause(error.worker_failures, num_workers=num_workers) from error
    result = checkpoints.finished(output, run=planned.run)
    if result is None:
        raise TrainingError(f"{output}: training ended without a result; is this folder shared by all nodes?")
    return result


def _worker(work: Callable[[dict[str, Any]], dict[str, Any]], resolved: dict[str, Any]) -> None:
    work(resolved)


def _first_cause(failures: dict[int, Exception], *, num_workers: int) -> AgentArkError:
    """One error for the group. The job's own error is the cause; ranks that lost their peer only follow from it."""
    causes = {rank: getattr(error, "_base_exc", error) for rank, error in failures.items()}
    for error in causes.values():
        if isinstance(error, AgentArkError):
            return error
    listed = "; ".join(
        f"rank {rank} of {num_workers}: {(str(error).strip() or repr(error)).splitlines()[0]}"
        for rank, error in sorted(causes.items(), key=lambda item: ("onnection" in str(item[1]), item[0]))
    )
    return TrainingError(f"training failed after {RESTARTS} restart: {listed}; start again to resume the checkpoint")
