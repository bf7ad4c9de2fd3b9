"""Shared fixtures: one Prefect server for all tests that run flows, and the command line as a subprocess."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import yaml

if TYPE_CHECKING:
    from training_jobs import Job

hypothesis.settings.register_profile("untimed", deadline=None)  # an example may take long on a busy machine
hypothesis.settings.load_profile("untimed")

REPOSITORY = Path(__file__).resolve().parents[1]
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def flow_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of processes that run flows, with a real Prefect server of the tests' own."""
    folder = tmp_path_factory.mktemp("prefect")
    port = free_port()
    environment = {
        **os.environ,
        **QUIET,
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles"),
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.5)
        yield {**environment, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def agentark(flow_environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line: agentark("doctor"); a dict argument is written as a config file and named in its place."""

    def run(*arguments: object, expect: int = 0, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command_line(arguments, folder=tmp_path),
            env=flow_environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=tmp_path,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    return run


def command_line(arguments: tuple[object, ...], *, folder: Path) -> list[str]:
    words = [sys.executable, "-m", "agentark_core.cli"]
    for argument in arguments:
        if isinstance(argument, dict):
            config = folder / f"config-{len(list(folder.glob('config-*.yaml')))}.yaml"
            config.write_text(yaml.safe_dump(argument))
            words += ["--config", str(config)]
        else:
            words.append(str(argument))
    return words


def group_of_one(patch: pytest.MonkeyPatch) -> None:
    """The environment of a process group of one, until the patch is undone."""
    group = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in group.items():
        patch.setenv(name, str(value))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process group of one, forgotten afterwards."""
    group_of_one(monkeypatch)


@pytest.fixture(scope="session", params=["sft", "prm", "grpo"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Each of the training jobs."""
    import training_jobs

    return training_jobs.make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray cluster of two CPUs in this process."""
    import ray

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB; `mount -o remount,size=64m` makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def enlarge(disk: Path, *, size: str = "64m") -> None:
    """Space returns to a small_disk."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
