"""Process groups: DeepSpeed's stages and offload on one node and on two, Ray's group, and a rank that dies (F09)."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpo_helpers
import pytest
from conftest import REPOSITORY
from prm_helpers import resolved as prm_resolved
from sft_helpers import metrics, resolved, weighted_examples, write_examples
from training_jobs import Job, Process, start_group

from agentark_core import model_files
from agentark_core.config import ModelConfig, PRMConfig
from agentark_core.errors import ConfigError
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import TrainingError, checkpoints
from tasks.extract_tasks import ExampleSet

SHORT: dict[str, dict[str, Any]] = {
    "sft": {"epochs": 0.8, "micro_batch_size": 4, "save_steps": 2},
    "prm": {
        **{"stage1": {"epochs": 0.3}, "stage2": {"epochs": 1}, "micro_batch_size": 2, "save_steps": 2},
        "head": "likelihood",
    },
    "grpo": {
        **{"epochs": 0.5, "iterations": 2, "micro_batch_size": 8, "save_steps": 2, "watch_prompts": 4},
        "advantage": "value",
    },
}
SAVING: dict[str, dict[str, Any]] = {
    "sft": {"offload": "all"},
    "prm": {"offload": "optimizer", "gradient_checkpointing": True},
    "grpo": {"gradient_checkpointing": True},
}
"""Of GPU memory, at no change of what is learned."""


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray cluster of two nodes with a CPU each, joined through RAY_ADDRESS."""
    import ray
    from ray.cluster_utils import Cluster

    from agentark_core.cluster import ray_cluster

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    node = {"num_cpus": 1, "object_store_memory": 2**27, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    nodes.add_node(num_cpus=1, object_store_memory=2**27)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    monkeypatch.setattr(ray_cluster, "_watch_head", lambda address: None)  # would end the tests with their cluster
    ray_cluster.connect()
    assert len(ray.nodes()) == 2
    yield
    ray.shutdown()
    nodes.shutdown()


def tensors(model: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_under_zero3_train_resume_and_publish_the_whole_model(job: Job, tmp_path: Path) -> None:
    """Rank 0 dies in its second save; both start again. sft: each on a node of its own; prm: likelihoods; grpo: PPO."""
    nodes = 2 if job.section == "sft" else 1
    unbroken = job.resolved(tmp_path / "unbroken", **SHORT[job.section])
    if job.section == "grpo":  # what a rank samples depends on its number
        expected = start_group(job, unbroken, log=tmp_path / "unbroken")[0].result()
    else:
        expected = Process(job, unbroken, log=tmp_path / "unbroken").result()
    two = job.resolved(tmp_path / "two", **SHORT[job.section], zero_stage=3, **SAVING[job.section])
    ranks = start_group(job, two, log=tmp_path / "killed", nodes=nodes, die_in=(1, 2000))
    assert ranks[0].wait() == -9, ranks[0].output[-4000:]
    ranks[1].kill()
    assert checkpoints.latest(job.checkpoints(tmp_path / "two")), "the first save is whole"
    ranks = start_group(job, two, log=tmp_path / "again", nodes=nodes)
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].output[-4000:]
    assert job.metrics(tmp_path / "two")[-1]["loss"] == pytest.approx(
        job.metrics(tmp_path / "unbroken")[-1]["loss"], rel=2e-2, abs=1e-3
    )
    model = Path(ranks[0].result()["model"])
    model_files.check_model_dir(model)
    alone, together = tensors(Path(expected["model"])), tensors(model)
    assert {name: (w.shape, w.dtype) for name, w in together.items()} == {
        name: (w.shape, w.dtype) for name, w in alone.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("job", ["sft"], indirect=True)
def test_offload_changes_where_the_optimizer_works_and_not_what_it_learns(job: Job, tmp_path: Path) -> None:
    losses = {}
    for offload, stage in {"none": 2, "optimizer": 2, "all": 3}.items():
        output = tmp_path / offload
        job_resolved = job.resolved(output, epochs=1, zero_stage=stage, offload=offload)
        Process(job, job_resolved, log=tmp_path / offload).result()
        losses[offload] = [row["loss"] for row in metrics(output)]
    assert losses["optimizer"] == pytest.approx(losses["none"], rel=1e-4)
    assert losses["all"] == pytest.approx(losses["none"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["sft"], indirect=True)
def test_two_processes_in_bfloat16_under_zero3_learn_what_one_learns_in_float32(job: Job, tmp_path: Path) -> None:
    """What the presets of 7 and 8 billion parameters ask for."""
    settings: dict[str, Any] = {"epochs": 1, "micro_batch_size": 4}
    Process(job, job.resolved(tmp_path / "one", **settings), log=tmp_path / "one").result()
    half = job.resolved(tmp_path / "two", **settings, zero_stage=3, dtype="bfloat16", gradient_checkpointing=True)
    ranks = start_group(job, half, log=tmp_path / "two")
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].output[-4000:]
    losses = [[row["loss"] for row in metrics(tmp_path / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2) and losses[0][-1] < 0.9 * losses[0][0]
    published, base = tensors(Path(ranks[0].result()["model"])), tensors(job.base)
    assert {name: weight.dtype for name, weight in published.items()} == {n: w.dtype for n, w in base.items()}


@pytest.mark.slow
@pytest.mark.parametrize("job", ["sft"], indirect=True)
def test_adapters_under_zero3_on_two_processes_are_published_merged_as_by_one(job: Job, tmp_path: Path) -> None:
    import torch

    settings: dict[str, Any] = {"epochs": 1, "micro_batch_size": 4, "lora": {"rank": 4, "alpha": 8}}
    one = Process(job, job.resolved(tmp_path / "one", **settings), log=tmp_path / "one").result()
    ranks = start_group(job, job.resolved(tmp_path / "two", **settings, zero_stage=3), log=tmp_path / "two")
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].output[-4000:]
    base, expected, found = tensors(job.base), tensors(Path(one["model"])), tensors(Path(ranks[0].result()["model"]))
    assert found.keys() == expected.keys() == base.keys()
    changed = {name for name, weight in expected.items() if not torch.equal(weight, base[name])}
    assert changed and all(name.endswith("proj.weight") for name in changed)
    for name, weight in expected.items():
        moved = (weight.float() - base[name].float()).norm()
        assert (found[name].float() - weight.float()).norm() <= 0.05 * moved + 1e-4, name


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize("job", ["sft"], indirect=True)
def test_two_processes_on_two_nodes_of_ray_learn_under_zero2_what_one_process_learns(job: Job, tmp_path: Path) -> None:
    from agentark_core.cluster.ray_train import train

    weighted = write_examples(tmp_path / "weighted.parquet", weighted_examples(40))
    losses = {}
    for workers in (1, 2):
        output = tmp_path / str(workers)
        settings = {"epochs": 1, "zero_stage": 2, "micro_batch_size": 8 // workers, "packing": True}
        result = train(
            "sft",
            resolved(job.base, weighted, output, **settings),
            num_workers=workers,
            cpus_per_worker=1,
            gpus_per_worker=0,
            storage=tmp_path / "ray",
        )
        model_files.check_model_dir(Path(result["model"]))
        parts = ("loss", "loss_reasoning", "loss_answer", "tokens")
        losses[workers] = [row[part] for row in metrics(output) for part in parts]
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(ConfigError, match="the processes need 8 CPU, the Ray cluster has 2"):
        many = resolved(job.base, weighted, tmp_path / "many", micro_batch_size=1)
        train("sft", many, num_workers=8, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("job", ["prm"], indirect=True)
def test_the_task_trains_a_reward_model_once_two_processes_learn_the_same_and_policies_from_it(
    job: Job, tmp_path: Path
) -> None:
    from agentark_core.cluster.ray_train import train
    from tasks import training_tasks

    settings = prm_resolved(job.data, tmp_path)["prm"]
    examples = ExampleSet(paths=(job.data,), digest="d", rows=48, counts={})
    student, config = ModelConfig(path="arkling:student"), PRMConfig.model_validate(settings)
    alone = training_tasks.train_prm.fn(student, examples=examples, prm=config, home=tmp_path)
    assert alone.path.parent.name == f"prm-{alone.fingerprint}" and alone.metrics["splitter"] == STEPS_VERSION
    again = config.model_copy(update={"save_steps": 7, "gradient_checkpointing": True})  # what a run may change
    assert training_tasks.train_prm.fn(student, examples=examples, prm=again, home=tmp_path) == alone

    two = prm_resolved(job.data, tmp_path / "two", micro_batch_size=2)
    train("prm", two, num_workers=2, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")
    losses = [
        [json.loads(row)["loss"] for row in (output / "stage2" / "metrics.jsonl").read_text().splitlines()]
        for output in (alone.path.parent, tmp_path / "two")
    ]
    # Differences of rounding in stage one go on through AdamW.
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    with pytest.raises(ConfigError, match="prm: the processes need 4 CPU, the Ray cluster has 2; lower prm"):
        many = prm_resolved(job.data, tmp_path / "many", micro_batch_size=1)
        train("prm", many, num_workers=4, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")

    asked = grpo_helpers.write_prompts(tmp_path / "prompts.parquet", number=20)
    settings = {"scorer": "prm", "epochs": 0.5, "micro_batch_size": 8, "watch_prompts": 4}
    rewarded = {**grpo_helpers.resolved(asked, tmp_path / "policy", **settings), "prm": str(alone.path)}
    policy = train("grpo", rewarded, num_workers=2, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")
    model_files.check_model_dir(Path(policy["model"]))
    rows = metrics(tmp_path / "policy")
    assert len(rows) == policy["steps"] == 2
    assert all(0 < row["reward"] < 1 and row["unscored"] == 0 for row in rows), "each rank scores its own with it"
    assert [look["step"] for look in policy["watch"]] == [0, 2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("job", ["sft"], indirect=True)
def test_a_rank_that_dies_twice_is_one_error_naming_it_and_a_new_start_resumes(job: Job, tmp_path: Path) -> None:
    import psutil

    from agentark_core.cluster.ray_train import COLLECTIVE_TIMEOUT_S, train

    output = tmp_path / "out"
    two = job.resolved(output, epochs=20, save_steps=5, micro_batch_size=4)
    arguments: dict[str, Any] = {"num_workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0}

    def training() -> list[psutil.Process]:
        alive = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
                if "TrainWorker" in " ".join(process.cmdline()):
                    alive.append(process)
        return alive

    def kill_two() -> None:
        """Kill one training process when new steps appear, in the first group and in the restarted one."""
        killed: set[int] = set()
        steps = 0
        while len(killed) < 2:
            time.sleep(0.05)
            written = metrics(output)[-1]["step"] if (output / "metrics.jsonl").exists() and metrics(output) else 0
            if written <= steps + 6:
                continue
            workers = training()
            if workers and not killed & {worker.pid for worker in workers}:
                killed.add(workers[-1].pid)
                workers[-1].kill()
                steps = written

    killer = threading.Thread(target=kill_two, daemon=True)
    killer.start()
    start = time.monotonic()
    with pytest.raises(TrainingError, match=r"training failed after 1 restart: rank [01] of 2: "):
        train("sft", two, storage=tmp_path / "ray", **arguments)
    assert time.monotonic() - start < COLLECTIVE_TIMEOUT_S and not training(), "the other rank is stopped too"
    killer.join(timeout=10)
    assert checkpoints.latest(output / "checkpoints")
    result = train("sft", two, storage=tmp_path / "ray", **arguments)
    assert [row["step"] for row in metrics(output)] == list(range(1, result["steps"] + 1))
