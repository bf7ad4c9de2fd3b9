"""Tracking against a real MLflow: sqlite in a temporary home, and a real server that dies and comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from pydantic import BaseModel

from agentark_core import tracking_link
from agentark_core.config import TrackingConfig
from agentark_core.errors import ModelError
from agentark_core.registry_view import list_models, register_student, render_models
from agentark_core.tracking import Tracker, attach, flatten, open_tracker, pipeline_run, tracking_uri, ui_url
from agentark_core.tracking_buffer import Buffer
from agentark_core.tracking_link import TrackingError


class Inner(BaseModel):
    num_agents: int = 5
    sizes: list[int] = [1, 2]


class Resolved(BaseModel):
    name: str = "nightly"
    debate: Inner = Inner()
    text: str = ""


def at(uri: str) -> TrackingConfig:
    return TrackingConfig.model_validate({"uri": uri})


CONFIG = at("")


@pytest.fixture(autouse=True)
def _patient_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server from outside; a busy machine must not send a test to the buffer."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking_link, "CALL_TIMEOUT_S", 60.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


def pipeline(home: Path, *, config: TrackingConfig = CONFIG, resolved: BaseModel | None = None) -> Any:
    return pipeline_run(config, home=home, name="nightly", resolved=resolved or Resolved(), tags={"flow": "f-1"})


def client(home: Path) -> MlflowClient:
    return MlflowClient(tracking_uri(CONFIG, home=home))


def fake_model(folder: Path, *, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, migrated once (seconds)."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, migrated: Path) -> Path:
    """A home with an empty MLflow database."""
    (tmp_path / "home").mkdir()
    shutil.copy(migrated, tmp_path / "home" / "mlflow.db")
    return tmp_path / "home"


def at_once(function: Callable[[int], None], *, times: int) -> None:
    work = [threading.Thread(target=function, args=(i,)) for i in range(times)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def server(folder: Path, *, port: int) -> Iterator[None]:
    """A real MLflow server on loopback; killed at the end with its workers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet, cwd=folder, env=env)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, "mlflow server did not start"
                time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_uri_is_config_then_environment_then_sqlite_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(CONFIG, home=tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(CONFIG, home=tmp_path) == "http://mlflow:5000"
    assert tracking_uri(at("sqlite:////x.db"), home=tmp_path) == "sqlite:////x.db"
    with pytest.raises(TrackingError, match="use sqlite:///"):
        tracking_uri(at("./mlruns"), home=tmp_path)


def test_ui_url_is_a_link_for_a_server_and_a_command_for_a_database() -> None:
    assert ui_url("r1", uri="http://h:5000/", experiment_id="3") == "http://h:5000/#/experiments/3/runs/r1"
    assert ui_url("r1", uri="sqlite:///m.db", experiment_id="3") == "mlflow ui --backend-store-uri sqlite:///m.db"


def test_importing_tracking_does_not_import_mlflow_and_turns_telemetry_off() -> None:
    code = (
        "import sys, os, agentark_core.tracking, agentark_core.registry_view, agentark_core.evaluation_report;"
        "print('mlflow' in sys.modules, 'matplotlib' in sys.modules, os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "true"]


def test_without_mlflow_there_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingError, match="pip install") as error:
        Tracker(uri="sqlite:///x.db", home=tmp_path, experiment="x")
    assert "\n" not in str(error.value)


def test_flatten_names_nested_keys_with_dots() -> None:
    flat = flatten(Resolved().model_dump(mode="json"))
    assert flat == {"name": "nightly", "debate.num_agents": "5", "debate.sizes": "[1, 2]", "text": ""}


def test_pipeline_and_stage_runs_carry_config_parent_data_set_and_model(home: Path) -> None:
    report = home / "report.md"
    report.write_text("# report")
    with pipeline(home, resolved=Resolved(text="x" * 7000)) as run:
        with run.stage("evaluate", tags={"shard": "0"}) as stage:
            data = stage.log_dataset(name="test", digest="ab" * 32, source="data/test", context="eval", rows=600)
            model = stage.log_model(name="student.v1", revision="1a2b", path=home)
            stage.log_metrics({"accuracy": 0.5, "maj@5": float("nan")}, step=3, model_id=model, dataset=data)
            stage.log_artifact(report, folder="reports")
        assert run.url.startswith("mlflow ui --backend-store-uri sqlite:///")
    mlflow = client(home)
    parent, child = mlflow.get_run(run.run_id), mlflow.get_run(stage.run_id)
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert parent.data.params["debate.num_agents"] == "5"
    assert len(parent.data.params["text"]) == 6000
    assert parent.data.tags["agentark.version"]
    assert parent.data.tags["flow"] == "f-1"
    assert len(parent.data.tags["agentark.fingerprint"]) == 64
    config = json.loads((home / "mlflow-artifacts" / run.run_id / "artifacts" / "config.json").read_text())
    assert config["text"] == "x" * 7000
    assert child.data.tags["mlflow.parentRunId"] == run.run_id
    assert child.inputs.dataset_inputs[0].dataset.name == "test"
    assert json.loads(child.inputs.dataset_inputs[0].dataset.profile) == {"num_rows": 600, "digest": "ab" * 32}
    assert mlflow.get_metric_history(stage.run_id, "accuracy")[0].step == 3
    metric = next(m for m in mlflow.get_logged_model(str(model)).metrics or [] if m.key == "accuracy")
    assert (metric.value, metric.run_id, metric.dataset_name) == (0.5, stage.run_id, "test")
    assert "maj_at_5" in child.data.metrics
    assert mlflow.list_artifacts(stage.run_id, "reports")[0].path == "reports/report.md"
    assert mlflow.get_logged_model(str(model)).source_run_id == stage.run_id
    assert stage.log_model(name="again", revision="1a2b", path=home) == model
    assert not (home / "mlflow-buffer.jsonl").exists()
    assert not (home / "mlflow-refused.jsonl").exists()


def test_an_unfinished_run_is_taken_up_again_and_a_finished_one_is_not(home: Path) -> None:
    with pytest.raises(RuntimeError), pipeline(home) as first, first.stage("sft", fingerprint="f") as first_stage:
        raise RuntimeError
    assert client(home).get_run(first.run_id).info.status == "FAILED"
    with pipeline(home) as second, second.stage("sft", fingerprint="f") as second_stage:
        assert client(home).get_run(first.run_id).info.status == "RUNNING"
    assert (second.run_id, second_stage.run_id) == (first.run_id, first_stage.run_id)
    with pipeline(home) as third:
        pass
    assert third.run_id != first.run_id
    with pytest.raises(KeyboardInterrupt), pipeline(home, resolved=Resolved(name="other")) as fourth:
        raise KeyboardInterrupt
    assert client(home).get_run(fourth.run_id).info.status == "KILLED"


def test_threads_and_processes_log_to_a_run_by_its_id(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agentark_core.config import TrackingConfig;"
        "from agentark_core.tracking import attach;"
        "attach(TrackingConfig(), home=Path(sys.argv[1]), run_id=sys.argv[2]).log_metrics({'loss': 0.25}, step=9)"
    )
    with pipeline(home) as run:
        at_once(lambda i: run.log_metrics({"x": i}, step=i), times=8)
        subprocess.run([sys.executable, "-c", code, str(home), run.run_id], check=True)
    history = client(home).get_metric_history(run.run_id, "x")
    assert sorted(metric.value for metric in history) == list(range(8))
    assert client(home).get_metric_history(run.run_id, "loss")[0].step == 9


def test_what_mlflow_refuses_is_kept_aside_and_stops_nothing(home: Path) -> None:
    run = attach(CONFIG, home=home, run_id="no-such-run")
    run.log_metrics({"loss": 1.0}, step=1)
    run.log_artifact(home / "gone.txt")
    refused = [json.loads(line) for line in (home / "mlflow-refused.jsonl").read_text().splitlines()]
    assert [(op["op"], op["run"]) for op in refused] == [("metrics", "no-such-run"), ("artifact", "no-such-run")]
    assert not run.tracker.away()


@pytest.mark.slow
def test_runs_made_while_the_server_is_down_arrive_complete_and_once(tmp_path: Path, migrated: Path) -> None:
    port = free_port()
    config = at(f"http://127.0.0.1:{port}")
    home, folder = tmp_path / "home", tmp_path / "server"
    folder.mkdir()
    shutil.copy(migrated, folder / "server.db")
    with server(folder, port=port), pipeline(home, config=config) as before:
        before.log_metrics({"loss": 2.0}, step=1)
        link = before.url
        register_student(before, name="s", model_dir=fake_model(tmp_path / "m"), lineage={"a": "b"}, metrics={"x": 1})
    assert link.startswith(f"http://127.0.0.1:{port}/#/experiments/")

    slowest = 0.0
    with pipeline(home, config=config) as run, run.stage("sft") as stage:  # the server is dead
        assert run.run_id.startswith("local-")
        for step in range(50):
            start = time.monotonic()
            stage.log_metrics({"loss": 1 / (step + 1)}, step=step)
            slowest = max(slowest, time.monotonic() - start)
        with pytest.raises(TrackingError, match="check MLflow"):
            register_student(run, name="s", model_dir=tmp_path / "m", lineage={}, metrics={})
    assert slowest < 5
    lines = (home / "mlflow-buffer.jsonl").read_bytes()
    assert len(lines.splitlines()) == 2 + 2 + 50 + 2

    with server(folder, port=port):
        tracker = open_tracker(config, home=home)
        assert tracker.replay(budget_s=60) == 56
        Buffer(home / "mlflow-buffer.jsonl").path.write_bytes(lines)  # as if a crash had lost the removal
        tracker.replay(budget_s=60)
        mlflow = MlflowClient(config.uri)
        experiment = mlflow.get_experiment_by_name("agentark")
        runs = {r.info.run_name: r for r in mlflow.search_runs([experiment.experiment_id])}
        assert len(mlflow.search_runs([experiment.experiment_id])) == 3
        child = next(r for r in runs.values() if r.info.run_name == "sft")
        parent = mlflow.get_run(child.data.tags["mlflow.parentRunId"])
        assert parent.data.tags["agentark.run_key"] == run.run_id
        assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
        history = mlflow.get_metric_history(child.info.run_id, "loss")
        assert sorted(metric.step for metric in history) == list(range(50))
        assert mlflow.list_artifacts(parent.info.run_id)[0].path == "config.json"
        run.log_metrics({"late": 1.0}, step=0)  # the local id stays valid
        assert mlflow.get_run(parent.info.run_id).data.metrics["late"] == 1.0
        again = register_student(run, name="s", model_dir=tmp_path / "m", lineage={}, metrics={"x": 2})
        assert (again["version"], again["metrics"], again["aliases"]) == (1, {"x": 2.0}, ["candidate"])
    assert not (home / "mlflow-refused.jsonl").exists()


def test_the_same_content_is_registered_once_and_the_alias_moves(tmp_path: Path, home: Path) -> None:
    one, two = fake_model(tmp_path / "one"), fake_model(tmp_path / "two", weights=b"other")
    lineage = {"traces": "f1,f2", "base": "rev", "config": "c0ffee"}
    with pipeline(home) as run:
        first = register_student(run, name="student", model_dir=one, lineage=lineage, metrics={"accuracy": 0.5})
        again = register_student(run, name="student", model_dir=one, lineage=lineage, metrics={"accuracy": 0.5})
        other = register_student(run, name="student", model_dir=two, lineage=lineage, metrics={"maj@5": 0.75})
    assert first == again
    assert (first["version"], other["version"]) == (1, 2)
    assert (first["lineage"], first["path"], first["run_id"]) == (lineage, one.as_uri(), run.run_id)
    uri = tracking_uri(CONFIG, home=home)
    rows = list_models(uri)
    assert [(row["version"], row["aliases"]) for row in rows] == [(2, ["candidate"]), (1, [])]
    assert rows[0]["metrics"] == {"maj_at_5": 0.75}
    manifest = client(home).download_artifacts(run.run_id, "model/manifest.json", str(tmp_path))
    assert set(json.loads(Path(manifest).read_text())) == {p.name for p in one.iterdir()}
    text = render_models(rows)
    assert "candidate" in text
    assert "accuracy=0.5" in text
    assert one.as_uri() in text
    assert "traces: f1,f2" in text


def test_a_list_of_models_makes_no_database(tmp_path: Path) -> None:
    assert list_models(tracking_uri(CONFIG, home=tmp_path / "mistyped")) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_that_make_the_database_at_once_both_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agentark_core.config import TrackingConfig as C;"
        "from agentark_core.tracking import open_tracker;"
        "assert not open_tracker(C(), home=Path(sys.argv[1])).away()"
    )
    work = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in work] == [0, 0]


def test_two_registrations_at_once_end_with_one_version(tmp_path: Path, home: Path) -> None:
    model = fake_model(tmp_path / "model")
    rows: list[dict[str, Any]] = []
    with pipeline(home) as run:
        at_once(
            lambda _: rows.append(register_student(run, name="s", model_dir=model, lineage={}, metrics={})), times=2
        )
    assert [row["version"] for row in rows] == [1, 1]
    assert len(list_models(tracking_uri(CONFIG, home=home))) == 1


def test_a_folder_that_is_no_model_is_not_registered(tmp_path: Path, home: Path) -> None:
    model = fake_model(tmp_path / "model")
    (model / "evil.py").write_text("raise SystemExit")
    with pipeline(home) as run, pytest.raises(ModelError, match="evil.py"):
        register_student(run, name="s", model_dir=model, lineage={}, metrics={})


def test_an_empty_registry_renders_a_hint(home: Path) -> None:
    assert list_models(tracking_uri(CONFIG, home=home)) == []
    assert "no registered models yet" in render_models([])
