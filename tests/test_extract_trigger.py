"""Debates are committed, Prefect starts the deployment extract/after-debates on its own: server, automation, worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import REPOSITORY
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_runs import config

from agentark_core.stored import debate_runs

Cli = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@contextmanager
def worker(environment: dict[str, str], *, log: Path) -> Iterator[None]:
    """The deployments of prefect.yaml on the server, and a worker that runs them, as `make up` has it."""

    def prefect(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "prefect", *arguments]

    at_home = {"env": environment, "cwd": REPOSITORY}
    subprocess.run(prefect("work-pool", "create", "agentark", "--type", "process"), check=True, **at_home)
    subprocess.run(prefect("--no-prompt", "deploy", "--name", "after-debates"), check=True, **at_home)
    with log.open("wb") as out:
        process = subprocess.Popen(
            prefect("worker", "start", "--pool", "agentark", "--type", "process"), stdout=out, stderr=out, **at_home
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def extract_runs(api: str) -> list[FlowRun]:
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["extract"])))


def test_committed_debates_are_extracted_by_the_deployment(
    agentark: Cli, flow_environment: dict[str, str], tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "worker.log"
    environment = flow_environment | {"PWD": str(REPOSITORY)}
    with worker(environment, log=log):
        agentark("run", "build-traces", config(home, questions=12))
        deadline = time.monotonic() + 120
        while not (runs := extract_runs(flow_environment["PREFECT_API_URL"])) or not runs[0].state.is_final():
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(1)
    assert len(runs) == 1 and runs[0].state.is_completed(), log.read_text()[-4000:]
    assert runs[0].parameters["config"]["traces"] == debate_runs(home)
    assert list(home.glob("ledger/rsft-*/manifest/00000.json")) and list(home.glob("ledger/process-*/manifest/*"))
