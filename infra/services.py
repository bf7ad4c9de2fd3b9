"""`make up` and `make down`: Prefect, MLflow, Ray and a Prefect worker on this machine, all on loopback.

    python infra/services.py up|down [--home agentark-home]

Logs and the record of what runs are in <home>/services. A second `up` starts only what is missing. Each service leads
a session of its own; `down` asks the leader to stop, then kills what is left of the session.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from agentark_core.cluster.ray_cluster import RAY_ON_LOOPBACK
from agentark_core.errors import AgentArkError
from agentark_core.ports import Session, holders, ports, read_sessions, variable, write_sessions

REPOSITORY = Path(__file__).resolve().parents[1]
POOL = "agentark"
HEALTH_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0


class ServiceError(AgentArkError):
    """A service did not start; the message names its log or the port in the way."""

    exit_code = 5


def environment(home: Path) -> dict[str, str]:
    """What every service and the worker's flows get: addresses, no telemetry, no profile of the user's."""
    at = ports()
    return {
        **os.environ,
        "PWD": str(REPOSITORY),  # prefect.yaml names it
        "PREFECT_HOME": str(home / "services" / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{at['prefect']}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{at['mlflow']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "RAY_ADDRESS": f"127.0.0.1:{at['ray']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        **RAY_ON_LOOPBACK,
        "RAY_AUTH_MODE": "token",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def commands(home: Path) -> dict[str, list[str]]:
    """Command of each service, without the interpreter."""
    at = ports()
    return {
        "prefect": ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(at["prefect"])],
        "mlflow": [
            *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(at["mlflow"]), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
            *("--artifacts-destination", str(home / "mlartifacts")),
        ],
        "ray": [
            *("-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address", "127.0.0.1", "--port", str(at["ray"])),
            *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(at["ray-dashboard"])),
            *("--ray-client-server-port", str(at["ray-client"])),
            *("--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"),
        ],
        "worker": ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"],
    }


def up(home: Path) -> None:
    """Start what is missing, deploy the flows, print the addresses. ServiceError if something does not start."""
    at = ports()
    running = {name: session for name, session in read_sessions(home).items() if leader(session)}
    missing = [name for name in commands(home) if name not in running]
    if missing:
        stop(home, names=missing)  # what a leader that died may have left
        check_free(missing, sessions={session.id for session in running.values()})
        try:
            start_missing(home, missing=missing, running=running)
        except BaseException:
            stop(home, names=missing)
            raise
    print(f"""{"up" if missing else "already up"}; `make down` stops it
  Prefect  http://127.0.0.1:{at["prefect"]}
  MLflow   http://127.0.0.1:{at["mlflow"]}
  Ray      http://127.0.0.1:{at["ray-dashboard"]}  (token: .venv/bin/ray get-auth-token)
  logs     {home / "services"}
to use them from a shell:
  export PREFECT_API_URL=http://127.0.0.1:{at["prefect"]}/api MLFLOW_TRACKING_URI=http://127.0.0.1:{at["mlflow"]}
  export RAY_ADDRESS=127.0.0.1:{at["ray"]} RAY_AUTH_MODE=token RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0""")


def start_missing(home: Path, *, missing: list[str], running: dict[str, Session]) -> None:
    """Start the servers side by side, then the worker, which needs Prefect and its pool."""
    at = ports()
    if "ray" in missing:
        # Other users of this machine could otherwise run code in the cluster. The token is in the user's ~/.ray.
        run_quietly("-m", "ray.scripts.scripts", "get-auth-token", "--generate", home=home, log=Path(os.devnull))
    for name in missing:
        if name != "worker":
            start(name, home=home, running=running)
    pages = {
        "prefect": f"http://127.0.0.1:{at['prefect']}/api/health",
        "mlflow": f"http://127.0.0.1:{at['mlflow']}/health",
        "ray": f"http://127.0.0.1:{at['ray-dashboard']}/api/gcs_healthz",
    }
    for name, page in pages.items():
        wait(name, home=home, session=running[name], ready=partial(answers, page))
    pool = f"http://127.0.0.1:{at['prefect']}/api/work_pools/{POOL}"
    if not answers(pool):
        prefect_cli("work-pool", "create", POOL, "--type", "process", home=home)
    if (REPOSITORY / "prefect.yaml").exists():
        print("deploying the flows ...", flush=True)
        prefect_cli("--no-prompt", "deploy", "--all", home=home)
    if "worker" in missing:
        start("worker", home=home, running=running)
        wait("worker", home=home, session=running["worker"], ready=partial(worker_online, pool))


def start(name: str, *, home: Path, running: dict[str, Session]) -> None:
    """Start one service as leader of a new session and record it."""
    folder = home / "services"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *commands(home)[name]],
            cwd=REPOSITORY,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running[name] = Session(id=process.pid, created=psutil.Process(process.pid).create_time())
    write_sessions(home, sessions=running)


def wait(name: str, *, home: Path, session: Session, ready: Callable[[], bool]) -> None:
    """Wait until ready() with a line of progress; ServiceError with the log's name if the leader ends before that."""
    began = time.monotonic()
    print(f"starting {name} ", end="", flush=True)
    while not ready():
        seconds = time.monotonic() - began
        if seconds > HEALTH_TIMEOUT_S or not leader(session):
            print()
            raise ServiceError(f"{name} did not start within {seconds:.0f} s; see {home / 'services' / name}.log")
        print(".", end="", flush=True)
        time.sleep(1)
    print(f" {time.monotonic() - began:.0f} s", flush=True)


def answer(url: str, *, body: dict[str, Any] | None = None) -> Any:
    """The answer's text or JSON, None if there is none yet or it is an error. Never through a proxy."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            text = response.read().decode()
    except (OSError, urllib.error.HTTPError):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def answers(url: str) -> bool:
    """Whether the service behind url is healthy."""
    return answer(url) is not None


def worker_online(pool: str) -> bool:
    """Whether Prefect has heard from a worker of the pool."""
    return any(worker["status"] == "ONLINE" for worker in answer(f"{pool}/workers/filter", body={}) or [])


def prefect_cli(*arguments: str, home: Path) -> None:
    """Run one command of Prefect's."""
    run_quietly("-m", "prefect", *arguments, home=home, log=home / "services" / "prefect-cli.log")


def run_quietly(*arguments: str, home: Path, log: Path) -> None:
    """Run Python with the services' environment; ServiceError that names the log if it fails."""
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise ServiceError(f"python {' '.join(arguments)} failed; see the end of {log}")


def check_free(missing: list[str], *, sessions: set[int]) -> None:
    """ServiceError with one line for the first port of a missing service that someone else holds."""
    held = holders()
    for service, port in ports().items():
        holder = held.get(port)
        if service.partition("-")[0] in missing and holder and holder.session not in sessions:
            raise ServiceError(
                f"port {port} ({service}) is held by {holder.description}: stop it, or choose another port with "
                f"{variable(service)}=<port> make up"
            )


def down(home: Path) -> None:
    """Stop everything that `up` started in this home; harmless if nothing runs."""
    stopped = stop(home, names=list(commands(home)))
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def stop(home: Path, *, names: list[str]) -> list[str]:
    """Stop these services, the last started first, and return those that were running."""
    sessions = read_sessions(home)
    stopped = []
    for name in reversed([name for name in sessions if name in names]):
        session = sessions.pop(name)
        processes = members(session)
        if lead := leader(session):
            lead.terminate()
            psutil.wait_procs([lead], timeout=STOP_TIMEOUT_S)
        left = members(session)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=STOP_TIMEOUT_S)
        write_sessions(home, sessions=sessions)
        if processes:
            stopped.append(name)
    return stopped


def leader(session: Session) -> psutil.Process | None:
    """The process that started the session, if it still runs."""
    process = _first_process(session)
    return process if process and process.status() != psutil.STATUS_ZOMBIE else None


def _first_process(session: Session) -> psutil.Process | None:
    # The start time tells the leader, also as a zombie, from a later owner of its pid.
    try:
        process = psutil.Process(session.id)
    except psutil.NoSuchProcess:
        return None
    return process if abs(process.create_time() - session.created) < 5 else None


def members(session: Session) -> list[psutil.Process]:
    """The living processes of a session and their descendants. No pid is given anew while its session has members."""
    if psutil.pid_exists(session.id) and not _first_process(session):
        return []
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session.id and process.status() != psutil.STATUS_ZOMBIE:
                found |= {p.pid: p for p in (process, *process.children(recursive=True))}
        except (psutil.Error, ProcessLookupError):
            continue
    return list(found.values())


def main(arguments: list[str]) -> int:
    """Entry point of the Makefile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--home", type=Path, default=REPOSITORY / "agentark-home")
    options = parser.parse_args(arguments)
    try:
        {"up": up, "down": down}[options.action](options.home.resolve())
    except AgentArkError as error:
        print(f"agentark: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
