"""Process reward models when processes die: kill -9 and resume; the process group on Ray, and its task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prm_helpers import resolved, write_process

from agentark_core.config import ModelConfig, PRMConfig
from agentark_core.errors import ConfigError
from agentark_core.steps import STEPS_VERSION
from tasks.extract_tasks import ExampleSet

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_process(tmp_path_factory.mktemp("data") / "process.parquet")


def start(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agentark_core.training.prm", "--config", str(config)]
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
    return subprocess.Popen(command, cwd=ROOT, env=inherited, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_in_either_stage_ends_with_the_same_final_loss(data: Path, tmp_path: Path) -> None:
    outputs = {name: tmp_path / name for name in ("unbroken", "broken")}
    configs = {}
    for name, output in outputs.items():
        configs[name] = tmp_path / f"{name}.json"
        configs[name].write_text(json.dumps(resolved(data, output, save_steps=2)))
    process = start(configs["unbroken"])
    out, err = process.communicate()
    assert process.returncode == 0, err
    expected = json.loads(out.splitlines()[-1])

    broken = outputs["broken"]
    moments = [
        lambda: (broken / "stage1" / "checkpoints" / "checkpoint-2" / "model.safetensors").exists(),  # no optimizer yet
        lambda: (broken / "stage2" / "checkpoints" / "checkpoint-4" / "COMPLETE").exists(),
        lambda: (broken / "model.tmp").exists(),
    ]
    for reached in moments:
        process = start(configs["broken"])
        while process.poll() is None and not reached():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (broken / "COMPLETE").exists()
    process = start(configs["broken"])
    out, err = process.communicate()
    assert process.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    for name, stage in expected["stages"].items():
        assert result["stages"][name]["final_loss"] == pytest.approx(stage["final_loss"], rel=1e-4)
        assert (result["stages"][name]["steps"], result["stages"][name]["tokens"]) == (stage["steps"], stage["tokens"])


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
def test_two_processes_under_zero2_on_ray_learn_what_one_process_learns(data: Path, tmp_path: Path) -> None:
    from agentark_core.cluster.ray_train import train
    from tasks import training_tasks

    settings = resolved(data, tmp_path)["prm"]
    examples = ExampleSet(paths=(data,), digest="d", rows=48, counts={})
    student, config = ModelConfig(path="arkling:student"), PRMConfig.model_validate(settings)
    alone = training_tasks.train_prm.fn(student, examples=examples, prm=config, home=tmp_path)
    assert alone.path.parent.name == f"prm-{alone.fingerprint}" and alone.metrics["splitter"] == STEPS_VERSION
    assert training_tasks.train_prm.fn(student, examples=examples, prm=config, home=tmp_path) == alone

    job = resolved(data, tmp_path / "two", micro_batch_size=2)
    train("prm", job, num_workers=2, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")
    one, two = (
        [json.loads(row)["loss"] for row in (output / "stage2" / "metrics.jsonl").read_text().splitlines()]
        for output in (alone.path.parent, tmp_path / "two")
    )
    # Differences of rounding in stage one go on through AdamW.
    assert two == pytest.approx(one, rel=2e-2)
    with pytest.raises(ConfigError, match="prm: the processes need 4 CPU, the Ray cluster has 2; lower prm"):
        job = resolved(data, tmp_path / "many", micro_batch_size=1)
        train("prm", job, num_workers=4, cpus_per_worker=1, gpus_per_worker=0, storage=tmp_path / "ray")
