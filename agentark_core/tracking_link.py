"""The wire to MLflow: applies one operation (a plain dict) within a time limit.

Operations and their keys, besides "op" and "run":
    create   key, name, tags, fingerprint, time_ms -> run id
    params   params            tags     tags             metrics  metrics, step, time_ms, model_id, dataset
    dataset  name, digest, source, context, rows         artifact path, folder      text  text, file
    model    name, revision, path -> model id            end      status, time_ms
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentark_core.errors import AgentArkError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# Set before anything imports mlflow. No telemetry. One short try per request: what fails is buffered and sent again.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

CALL_TIMEOUT_S = 4.0
OPEN_TIMEOUT_S = 60.0  # a new sqlite file is migrated first: 2 s measured, more on a busy disk
SQLITE = "sqlite:///"
KEY_TAG = "agentark.run_key"
FINGERPRINT_TAG = "agentark.fingerprint"
PARENT_TAG = "mlflow.parentRunId"
DIGEST_LENGTH = 36  # MLflow's limit; the whole digest is kept in the data set's profile

T = TypeVar("T")


class TrackingError(AgentArkError):
    """MLflow is not installed, cannot be reached for something that cannot wait, or its address is wrong."""

    exit_code = 3


class Unreachable(Exception):
    """MLflow did not answer in time or failed; the same operation may work later."""


class Refused(Exception):
    """MLflow understood the operation and will never take it."""


def within(timeout_s: float, function: Callable[[], T]) -> T:
    """Run function in a thread of its own; Unreachable if it takes longer. Ending late is harmless: `Link.apply`."""
    outcome: list[tuple[bool, Any]] = []

    def work() -> None:
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=work, name="mlflow-call", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise Unreachable(f"no answer within {timeout_s:g} s")
    done, value = outcome[0]
    if done:
        return value
    raise value


def database_file(uri: str) -> Path | None:
    """The file of a local database; None for a server."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


class Link:
    """One MLflow client and the id of one experiment."""

    def __init__(self, *, uri: str, home: Path, experiment: str) -> None:
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError as error:
            raise TrackingError(f"tracking needs MLflow ({error}): pip install 'mlflow>=3.13'") from None
        self.uri, self.home, self.experiment = uri, home, experiment
        self._make: Callable[[], MlflowClient] = lambda: MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._ids: dict[str, str] = {}

    def open(self) -> None:
        """Connect and find or make the experiment. Raises Unreachable or Refused."""
        local = self.uri.startswith("sqlite")
        self.call(self.experiment_id, timeout_s=OPEN_TIMEOUT_S if local else CALL_TIMEOUT_S)

    def call(self, function: Callable[[], T], *, timeout_s: float) -> T:
        """Run something that talks to MLflow; every failure becomes Unreachable or Refused."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return within(timeout_s, function)
        except MlflowException as error:
            status = error.get_http_status_code()
            kind = Refused if 400 <= status < 500 and status not in (408, 429) else Unreachable
            raise kind(str(error).strip().splitlines()[0][:200]) from error
        except FileNotFoundError as error:
            raise Refused(str(error)) from error
        except (OSError, SQLAlchemyError) as error:
            raise Unreachable(str(error).splitlines()[0]) from error

    def client(self) -> MlflowClient:
        """The client, made at first use. A local database is migrated by one process at a time: MLflow does not guard
        this, and two that start together fail with `duplicate column name`."""
        if self._client is None:
            with self._migration_lock():
                self._client = self._make()
        return self._client

    @contextmanager
    def _migration_lock(self) -> Iterator[None]:
        database = database_file(self.uri)
        if database is None:
            yield
            return
        database.parent.mkdir(parents=True, exist_ok=True)
        with database.with_suffix(".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file unlocks it
            yield

    def experiment_id(self) -> str:
        """Id of the experiment. With a local database its artifacts go to <home>/mlflow-artifacts."""
        if self._experiment_id is None:
            found = self.client().get_experiment_by_name(self.experiment) or self._make_experiment()
            if found.lifecycle_stage == "deleted":
                raise TrackingError(
                    f"tracking.experiment {self.experiment!r} was deleted in MLflow: restore it, or set another name"
                )
            self._experiment_id = found.experiment_id
        return self._experiment_id

    def _make_experiment(self) -> Experiment:
        from mlflow.exceptions import MlflowException

        local = self.uri.startswith("sqlite")
        place = (self.home.resolve() / "mlflow-artifacts").as_uri() if local else None
        try:
            self.client().create_experiment(self.experiment, artifact_location=place)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was first
                raise
        return self.client().get_experiment_by_name(self.experiment)

    def run_id(self, run: str) -> str:
        """MLflow's id of a run; a local id is looked up by its tag. Refused if MLflow has no such run."""
        if not run.startswith("local-"):
            return run
        if run not in self._ids:
            found = self._find(f"tags.`{KEY_TAG}` = '{run}'")
            if found is None:
                raise Refused(f"run {run} was never created")
            self._ids[run] = found
        return self._ids[run]

    def apply(self, op: dict[str, Any]) -> str | None:
        """Do one operation within CALL_TIMEOUT_S; doing it twice changes nothing. Raises Unreachable or Refused."""
        return self.call(lambda: getattr(self, f"_{op['op']}")(op), timeout_s=CALL_TIMEOUT_S)

    def _find(self, condition: str) -> str | None:
        runs = self.client().search_runs([self.experiment_id()], filter_string=condition, max_results=1)
        return runs[0].info.run_id if runs else None

    def _create(self, op: dict[str, Any]) -> str:
        tags = dict(op["tags"]) | {KEY_TAG: op["key"]}
        if PARENT_TAG in tags:
            tags[PARENT_TAG] = self.run_id(tags[PARENT_TAG])
        if found := self._find(f"tags.`{KEY_TAG}` = '{op['key']}'"):
            return found
        if op["fingerprint"]:
            tags[FINGERPRINT_TAG] = op["fingerprint"]
            same = f"tags.`{FINGERPRINT_TAG}` = '{op['fingerprint']}' and attributes.status != 'FINISHED'"
            if PARENT_TAG in tags:
                same += f" and tags.`{PARENT_TAG}` = '{tags[PARENT_TAG]}'"
            if unfinished := self._find(same):
                self.client().update_run(unfinished, status="RUNNING")
                self._tag(unfinished, tags)
                return unfinished
        run = self.client().create_run(self.experiment_id(), start_time=op["time_ms"], tags=tags, run_name=op["name"])
        return run.info.run_id

    def _params(self, op: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(clean_key(key), str(value)[:6000]) for key, value in op["params"].items()]
        for start in range(0, len(params), 100):  # MLflow's limits: 100 a call, 6000 characters a value
            self.client().log_batch(self.run_id(op["run"]), params=params[start : start + 100])

    def _tags(self, op: dict[str, Any]) -> None:
        self._tag(self.run_id(op["run"]), op["tags"])

    def _tag(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client().log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def _metrics(self, op: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        run_id = self.run_id(op["run"])
        name, digest = op["dataset"] or (None, None)
        metrics = [
            Metric(
                key=clean_key(key),
                value=value,
                timestamp=op["time_ms"],
                step=op["step"],
                model_id=op["model_id"],
                dataset_name=name,
                dataset_digest=digest[:DIGEST_LENGTH] if digest else None,
                run_id=run_id,
            )
            for key, value in op["metrics"].items()
        ]
        self.client().log_batch(run_id, metrics=metrics)

    def _dataset(self, op: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=op["name"],
            digest=op["digest"][:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": op["source"]}),
            profile=json.dumps({"num_rows": op["rows"], "digest": op["digest"]}),
        )
        tags = [InputTag("mlflow.data.context", op["context"])]
        self.client().log_inputs(self.run_id(op["run"]), [DatasetInput(dataset, tags)])

    def _artifact(self, op: dict[str, Any]) -> None:
        if not Path(op["path"]).exists():
            raise FileNotFoundError(f"{op['path']}: no such artifact")
        self.client().log_artifact(self.run_id(op["run"]), op["path"], op["folder"] or None)

    def _text(self, op: dict[str, Any]) -> None:
        self.client().log_text(self.run_id(op["run"]), op["text"], op["file"])

    def _model(self, op: dict[str, Any]) -> str:
        condition = f"tags.`agentark.revision` = '{op['revision']}'"
        found = self.client().search_logged_models([self.experiment_id()], filter_string=condition, max_results=1)
        if found:
            return found[0].model_id
        model = self.client().create_logged_model(
            self.experiment_id(),
            name=re.sub(r"[/:.%\"']", "-", op["name"]),
            source_run_id=self.run_id(op["run"]),
            tags={"agentark.revision": op["revision"], "agentark.path": op["path"]},
        )
        self.client().finalize_logged_model(model.model_id, "READY")
        return model.model_id

    def _end(self, op: dict[str, Any]) -> None:
        self.client().set_terminated(self.run_id(op["run"]), status=op["status"], end_time=op["time_ms"])


def clean_key(key: str) -> str:
    """A metric's or parameter's name in MLflow's alphabet: `maj@5` becomes `maj_at_5`."""
    return re.sub(r"[^\w\-. /:]", "_", key.replace("@", "_at_"))[:250]
