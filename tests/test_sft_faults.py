"""R-SFT when processes die: kill -9 and resume, and the process group on Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from sft_helpers import metrics, resolved, weighted_examples, write_examples

from agentark_core import model_files
from agentark_core.errors import ConfigError
from agentark_core.training import TrainingError, checkpoints

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("qwen3", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "examples.parquet")


def start(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agentark_core.training.sft", "--config", str(config)]
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
    return subprocess.Popen(command, cwd=ROOT, env=inherited, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[str], reached: Any) -> None:
    while process.poll() is None and not reached():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_at_any_moment_costs_no_more_than_the_steps_since_the_checkpoint(
    base: Path, data: Path, tmp_path: Path
) -> None:
    outputs = {name: tmp_path / name for name in ("unbroken", "broken")}
    configs = {}
    for name, output in outputs.items():
        configs[name] = tmp_path / f"{name}.json"
        configs[name].write_text(json.dumps(resolved(base, data, output, epochs=4, save_steps=3)))
    process = start(configs["unbroken"])
    out, err = process.communicate()
    assert process.returncode == 0, err
    expected = json.loads(out.splitlines()[-1])

    folder = outputs["broken"] / "checkpoints"
    log = outputs["broken"] / "metrics.jsonl"
    moments = [
        lambda: log.exists() and len(log.read_text().splitlines()) >= 5,  # between checkpoints
        lambda: (folder / "checkpoint-6").exists(),  # the save has just begun
        lambda: (folder / "checkpoint-12" / "model.safetensors").exists(),  # weights there, optimizer not yet
        lambda: (outputs["broken"] / "model.tmp").exists(),  # final save
    ]
    for reached in moments:
        kill_when(start(configs["broken"]), reached)
        assert not (outputs["broken"] / "COMPLETE").exists()
    process = start(configs["broken"])
    out, err = process.communicate()
    assert process.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["final_loss"] == pytest.approx(expected["final_loss"], rel=1e-4)
    assert [row["step"] for row in metrics(outputs["broken"])] == list(range(1, expected["steps"] + 1))
    assert (result["steps"], result["tokens"]) == (expected["steps"], expected["tokens"])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=2**27,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("cluster")
def test_two_processes_under_zero2_on_ray_learn_what_one_process_learns(base: Path, tmp_path: Path) -> None:
    from agentark_core.cluster.ray_train import train

    weighted = write_examples(tmp_path / "weighted.parquet", weighted_examples(40))
    losses = {}
    for workers in (1, 2):
        output = tmp_path / str(workers)
        settings = {"epochs": 1, "zero_stage": 2, "micro_batch_size": 8 // workers, "packing": True}
        job = resolved(base, weighted, output, **settings)
        result = train("sft", job, num_workers=workers, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")
        model_files.check_model_dir(Path(result["model"]))
        parts = ("loss", "loss_reasoning", "loss_answer", "tokens")
        losses[workers] = [row[part] for row in metrics(output) for part in parts]
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(ConfigError, match="the processes need 8 CPU, the Ray cluster has 2"):
        job = resolved(base, weighted, tmp_path / "many", micro_batch_size=1)
        train("sft", job, num_workers=8, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("cluster")
def test_a_rank_that_dies_twice_is_one_error_naming_it_and_a_new_start_resumes(
    base: Path, data: Path, tmp_path: Path
) -> None:
    import threading

    import psutil

    from agentark_core.cluster.ray_train import train

    output = tmp_path / "out"
    job = resolved(base, data, output, epochs=20, save_steps=5, micro_batch_size=4)
    arguments: dict[str, Any] = {"num_workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0}

    def kill_two() -> None:
        """Kill one training process when new steps appear, in the first group and in the restarted one."""
        killed: set[int] = set()
        steps = 0
        while len(killed) < 2:
            time.sleep(0.05)
            written = metrics(output)[-1]["step"] if (output / "metrics.jsonl").exists() and metrics(output) else 0
            if written <= steps + 6:
                continue
            workers = [p for p in psutil.Process().children(recursive=True) if "TrainWorker" in " ".join(p.cmdline())]
            if workers and not killed & {worker.pid for worker in workers}:
                killed.add(workers[-1].pid)
                workers[-1].kill()
                steps = written

    killer = threading.Thread(target=kill_two, daemon=True)
    killer.start()
    with pytest.raises(TrainingError, match=r"training failed after 1 restart: rank [01] of 2: "):
        train("sft", job, storage=tmp_path / "ray", **arguments)
    killer.join(timeout=10)
    assert checkpoints.latest(output / "checkpoints")
    result = train("sft", job, storage=tmp_path / "ray", **arguments)
    assert [row["step"] for row in metrics(output)] == list(range(1, result["steps"] + 1))
