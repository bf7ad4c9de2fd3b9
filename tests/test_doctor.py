"""The doctor's checks on this machine, and `make up` / `make down` for real in a temporary home."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import mlflow
import psutil
import pytest

from agentark_core import doctor, ports
from agentark_core.stored import debate_runs, read_debates

ROOT = Path(__file__).resolve().parents[1]


def by_name(found: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in found}


def test_every_required_check_passes_here_and_the_exit_code_is_0(tmp_path: Path) -> None:
    failed = [check for check in doctor.checks(tmp_path / "home") if check.required and not check.ok]
    assert failed == []
    assert not (tmp_path / "home").exists()


def test_heavy_packages_are_not_imported(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from agentark_core import doctor; doctor.main(Path('home'));"
    code += "print('HEAVY', {'torch', 'ray', 'vllm', 'prefect', 'mlflow', 'fastapi'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "HEAVY set()" in done.stdout


def test_drifted_package_is_named_with_its_range_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.140.0" if name == "fastapi" else real(name))
    assert doctor.main(tmp_path) == 1
    printed = capsys.readouterr().out
    assert "fastapi" in printed and "0.140.0, outside <0.137,>=0.133" in printed
    assert f"fastapi: {sys.executable} -m pip install --no-deps -r infra/locks/cpu.txt\n" in printed


def test_missing_developers_tool_is_only_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "mypy":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    (check,) = doctor.check_packages()
    assert (check.name, check.ok, check.required) == ("mypy", False, False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_home_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not by_name(doctor.check_home(tmp_path / "home"))["home"].ok


def test_home_that_is_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert not by_name(doctor.check_home(tmp_path / "home"))["home"].ok


def test_busy_port_is_a_warning_that_names_its_holder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("AGENTARK_MLFLOW_PORT", str(port))
        check = by_name(doctor.check_ports(tmp_path))[f"port {port}"]
    assert (check.ok, check.required) == (False, False)
    assert f"process {os.getpid()}" in check.detail
    assert "AGENTARK_MLFLOW_PORT" in check.remedy


def test_port_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTARK_RAY_PORT", "http")
    with pytest.raises(ports.ConfigError, match="AGENTARK_RAY_PORT=http"):
        ports.ports()


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return numbers


def services(action: str, home: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "infra" / "services.py"), action, "--home", str(home)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def environment() -> dict[str, str]:
    """This process's environment with a free port for each service."""
    chosen = zip(ports.DEFAULTS, free_ports(len(ports.DEFAULTS)), strict=True)
    return {**os.environ, **{ports.variable(service): str(port) for service, port in chosen}}


@pytest.fixture
def home(tmp_path: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A home with a space in its name; whatever runs there at the end is stopped."""
    yield tmp_path / "my home"
    services("down", tmp_path / "my home", environment)


def processes_of(home: Path) -> list[psutil.Process]:
    leaders = [psutil.Process(session.id) for session in ports.read_sessions(home).values()]
    return [process for leader in leaders for process in (leader, *leader.children(recursive=True))]


def test_down_is_harmless_when_nothing_runs(home: Path, environment: dict[str, str]) -> None:
    done = services("down", home, environment)
    assert (done.returncode, done.stdout) == (0, "nothing was running\n")


def test_up_with_a_busy_port_names_the_port_and_starts_nothing(home: Path, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environment["AGENTARK_PREFECT_PORT"]))):
        done = services("up", home, environment)
    assert done.returncode == 5
    assert done.stderr.startswith(f"agentark: port {environment['AGENTARK_PREFECT_PORT']} (prefect) is held by process")
    assert done.stderr.count("\n") == 1
    assert ports.read_sessions(home) == {}


@pytest.mark.slow
def test_services_come_up_on_loopback_only_survive_a_second_up_and_go_down(
    home: Path, environment: dict[str, str]
) -> None:
    done = services("up", home, environment)
    logs = "".join(path.read_text(errors="replace")[-2000:] for path in (home / "services").glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    at = {service: environment[ports.variable(service)] for service in ports.DEFAULTS}
    for page in (f"{at['prefect']}/api/health", f"{at['mlflow']}/health", f"{at['ray-dashboard']}/api/gcs_healthz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{page}", timeout=20) as answer:
            assert answer.status == 200

    code = "import ray; ray.init(); print(ray.get(ray.remote(lambda: 41 + 1).remote()))"
    client = {
        "RAY_ADDRESS": f"127.0.0.1:{at['ray']}",
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    task = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **client}, capture_output=True, text=True, check=False
    )
    assert task.stdout.strip() == "42", task.stderr

    # The worker takes a run of a deployment through this server, this Ray cluster and this MLflow.
    config = {
        "run": {"name": "by-deployment", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": 8},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {"num_agents": 2, "num_rounds": 2, "sampling": {"max_tokens": 128}},
    }
    command = [sys.executable, "-m", "prefect", "deployment", "run", "build-traces/nightly"]
    api = {"PREFECT_API_URL": f"http://127.0.0.1:{at['prefect']}/api"}
    watched = subprocess.run(
        [*command, "--params", json.dumps({"config": config}), "--watch"],
        env={**environment, **api},
        capture_output=True,
        text=True,
        check=False,
    )
    worker_log = (home / "services" / "worker.log").read_text(errors="replace")[-4000:]
    assert watched.returncode == 0, watched.stdout + watched.stderr + worker_log
    (run,) = debate_runs(home)
    assert len(list(read_debates(home, fingerprint=run))) == 8
    tracked = mlflow.MlflowClient(f"http://127.0.0.1:{at['mlflow']}").search_experiments()
    assert "agentark" in [experiment.name for experiment in tracked]

    started = processes_of(home)
    listening = {c.laddr for p in started for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert {int(port) for port in at.values()} <= {address.port for address in listening}
    assert {address.ip.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}

    sessions = ports.read_sessions(home)
    again = services("up", home, environment)
    assert again.stdout.startswith("already up")
    assert ports.read_sessions(home) == sessions

    # A leader that is killed leaves orphans; they are stopped as well.
    psutil.Process(sessions["mlflow"].id).kill()
    assert services("down", home, environment).returncode == 0
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert ports.read_sessions(home) == {}
