"""A load measurement on the Ray cluster: a fresh process where an engine would run, with its CPUs and GPUs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agentark_core.cluster.ray_cluster import check_resources, connect
from agentark_core.config import EngineConfig
from agentark_core.errors import EngineError
from agentark_core.load.process import FAILED


def measure(job: Path, *, engine: EngineConfig) -> None:
    """Run agentark_core.load.process on a job file that all nodes see, on one engine's share of the cluster.

    Call it in a thread that stays (see ray_cluster.connect). Its output goes to the job's name with the ending .log.
    Raises ConfigError if no node has the room, EngineError with its last words if the process fails.
    """
    connect()
    import ray

    needed = {"CPU": engine.num_cpus, "GPU": engine.num_gpus}
    lower = {kind: f"engine.num_{kind.lower()}s" for kind in needed}
    check_resources("engine: one engine needs", needed, lower=lower)
    work = ray.remote(_run).options(num_cpus=engine.num_cpus, num_gpus=engine.num_gpus, max_retries=0)
    try:
        status, words = ray.get(work.remote(str(job)))
    except ray.exceptions.WorkerCrashedError as error:
        raise EngineError(f"{job.with_suffix('.log')}: the process that held the load measurement died") from error
    if status == FAILED:
        raise EngineError(words)
    if status:
        raise EngineError(f"the load measurement ended with status {status}: {words}; see {job.with_suffix('.log')}")


def _run(job: str) -> tuple[int, str]:
    """(exit status, last line of output)."""
    log = Path(job).with_suffix(".log")
    with log.open("wb") as out:
        command = [sys.executable, "-m", "agentark_core.load.process", job]
        # It reads its input until this process is gone, and then ends.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT) as process:
            status = process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return status, lines[-1][:500] if lines else ""
