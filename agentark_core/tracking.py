"""MLflow tracking: runs, data sets, metrics, artifacts, with the lineage between them. The registry: registry_view.py.

One parent run per pipeline, one child run per stage. Every call names its run by id, so threads, actors and trainer
processes share no hidden state; another process takes a run up with `attach(config, home=home, run_id=...)`.

    with pipeline_run(config.tracking, home=home, name="nightly", resolved=config, tags={}) as run:
        with run.stage("distil") as stage:
            data = stage.log_dataset(name="traces", digest=fingerprint, source=path, context="training", rows=512)
            stage.log_metrics({"loss": 0.41}, step=10, dataset=data)

MLflow is a view of the ledger and never stops work (F15). A call that fails, or takes more than 4 s, is kept in
`<home>/mlflow-buffer.jsonl`, and MLflow is left alone for 30 s. A run that could not be created has a local id
("local-..."), which stays valid everywhere. The buffer is sent in order at the next start, at the end of a pipeline and
when calls succeed again; sending twice is harmless. What MLflow refuses for good goes to `mlflow-refused.jsonl`.

Resuming: a run is tagged with a fingerprint (of a pipeline: the hash of its resolved config). If an earlier run of that
fingerprint did not finish, it is taken up again; if it finished, a new one is made.

Measured: importing mlflow takes 2 to 4 s, the first migration of a sqlite file 2 s. Both happen when the first run is
opened, not when this module is imported.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentark_core import __version__
from agentark_core.config import TrackingConfig, to_json
from agentark_core.tracking_buffer import Buffer
from agentark_core.tracking_link import CALL_TIMEOUT_S, PARENT_TAG, Link, Refused, TrackingError, Unreachable

logger = logging.getLogger(__name__)

_QUIET_S = 30.0
_REPLAY_S = 1.0  # of replay inside another call; with that call's 4 s the limit of 5 s holds


def tracking_uri(config: TrackingConfig, *, home: Path) -> str:
    """config.uri, else MLFLOW_TRACKING_URI, else sqlite in home. TrackingError for what MLflow >= 3.13 refuses."""
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{home.resolve() / 'mlflow.db'}"
    if not uri.startswith(("sqlite:///", "http://", "https://", "postgresql", "mysql")):
        raise TrackingError(f"tracking.uri {uri!r}: use sqlite:///file.db or http(s)://host:port, or leave it empty")
    return uri


def ui_url(run_id: str, *, uri: str, experiment_id: str) -> str:
    """Link to the run's page on a server; for a database, the command that shows it."""
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    return f"mlflow ui --backend-store-uri {uri}"


class Tracker:
    """Sends operations to MLflow, or to the buffer while MLflow is away. Safe to use from several threads."""

    def __init__(self, *, uri: str, home: Path, experiment: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.link = Link(uri=uri, home=home, experiment=experiment)
        self.buffer = Buffer(home / "mlflow-buffer.jsonl")
        self.refused = Buffer(home / "mlflow-refused.jsonl")
        self._quiet_until = 0.0
        try:
            self.link.open()
        except (Unreachable, Refused) as error:
            self._go_quiet(error)
        else:
            self.replay()

    def send(self, op: dict[str, Any]) -> str | None:
        """Apply op now, or keep it. Returns the id that MLflow gave (create, model), None if op was kept or refused."""
        if self.away():
            self.buffer.append(op)
            return None
        if self.buffer.pending():
            self.buffer.append(op)
            self.replay(budget_s=_REPLAY_S)
            return None
        try:
            return self.link.apply(op)
        except Unreachable as error:
            self._go_quiet(error)
            self.buffer.append(op)
        except Refused as error:
            self._refuse(op, error)
        return None

    def replay(self, *, budget_s: float = 5.0) -> int:
        """Send the buffered operations in order until one fails or the time is up; returns how many were sent."""
        end = time.monotonic() + budget_s

        def apply(op: dict[str, Any]) -> bool:
            if time.monotonic() > end:
                return False
            try:
                self.link.apply(op)
            except Unreachable as error:
                self._go_quiet(error)
                return False
            except Refused as error:
                self._refuse(op, error)
            self._quiet_until = 0.0
            return True

        sent = self.buffer.drain(apply)
        if sent:
            logger.info("sent %d buffered operations to MLflow", sent)
        return sent

    def away(self) -> bool:
        """Whether MLflow is being left alone after a failure."""
        return time.monotonic() < self._quiet_until

    def _go_quiet(self, error: Exception) -> None:
        logger.warning("MLflow is away (%s); tracking goes to %s", error, self.buffer.path)
        self._quiet_until = time.monotonic() + _QUIET_S

    def _refuse(self, op: dict[str, Any], error: Exception) -> None:
        logger.warning("MLflow refused %s: %s; kept in %s", op["op"], error, self.refused.path)
        self.refused.append(op | {"error": str(error)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One MLflow run. No method raises because MLflow is away."""

    tracker: Tracker
    run_id: str

    @property
    def url(self) -> str:
        """Link to the run, or the command that shows it. For messages only."""
        link = self.tracker.link
        try:
            experiment_id, run_id = link.call(
                lambda: (link.experiment_id(), link.run_id(self.run_id)), timeout_s=CALL_TIMEOUT_S
            )
        except (Unreachable, Refused):
            return f"MLflow at {link.uri} is away; buffered in {self.tracker.buffer.path}"
        return ui_url(run_id, uri=link.uri, experiment_id=experiment_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters of the run; values are cut at 6000 characters."""
        self._send("params", params={key: str(value) for key, value in params.items()})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the run."""
        self._send("tags", tags=dict(tags))

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        *,
        step: int = 0,
        model_id: str | None = None,
        dataset: tuple[str, str] | None = None,
    ) -> None:
        """Metrics, of one model (`log_model`) on one data set (`log_dataset`) if given; `maj@5` becomes `maj_at_5`."""
        values = {key: float(value) for key, value in metrics.items()}
        self._send("metrics", metrics=values, step=step, time_ms=_now_ms(), model_id=model_id, dataset=dataset)

    def log_dataset(self, *, name: str, digest: str, source: str | Path, context: str, rows: int) -> tuple[str, str]:
        """Record an input of the run by its fingerprint, without its data. Returns (name, digest) for `log_metrics`."""
        self._send("dataset", name=name, digest=digest, source=str(source), context=context, rows=rows)
        return name, digest

    def log_model(self, *, name: str, revision: str, path: str | Path) -> str | None:
        """MLflow's model id for the model with this content hash, made if new. None while MLflow is away."""
        return self._send("model", name=name, revision=revision, path=str(path))

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """Copy a small file (report, figure, config) to the run's artifacts."""
        self._send("artifact", path=str(path.resolve()), folder=folder)

    def log_text(self, text: str, *, file: str) -> None:
        """Store a text as an artifact named file."""
        self._send("text", text=text, file=file)

    @contextmanager
    def stage(self, name: str, *, fingerprint: str = "", tags: Mapping[str, str] | None = None) -> Iterator[Run]:
        """A child run. With a fingerprint, an unfinished child of the same fingerprint is taken up again."""
        child_tags = {PARENT_TAG: self.run_id, "agentark.stage": name, **(tags or {})}
        with _run(self.tracker, name=name, fingerprint=fingerprint, tags=child_tags) as run:
            yield run

    def _send(self, op: str, **fields: Any) -> str | None:
        return self.tracker.send({"op": op, "run": self.run_id, **fields})


@contextmanager
def pipeline_run(
    config: TrackingConfig, *, home: Path, name: str, resolved: BaseModel, tags: Mapping[str, str]
) -> Iterator[Run]:
    """The parent run of a pipeline, with its resolved config as parameters and as artifact `config.json`.

    tags: for example the flow run id. It ends FINISHED, FAILED, or KILLED (interrupt, SystemExit).
    """
    tracker = open_tracker(config, home=home)
    text = to_json(resolved)
    fingerprint = hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()
    all_tags = {"agentark.version": __version__, **_git_tags(), **tags}
    try:
        with _run(tracker, name=name, fingerprint=fingerprint, tags=all_tags) as run:
            run.log_params(flatten(resolved.model_dump(mode="json")))
            run.log_text(text, file="config.json")
            yield run
    finally:
        if tracker.buffer.pending() and not tracker.away():
            tracker.replay(budget_s=60.0)


def attach(config: TrackingConfig, *, home: Path, run_id: str) -> Run:
    """A run made elsewhere, for another process, thread or actor. It does not end the run."""
    return Run(tracker=open_tracker(config, home=home), run_id=run_id)


def open_tracker(config: TrackingConfig, *, home: Path) -> Tracker:
    """This process's tracker for home; the first call imports mlflow and connects (seconds)."""
    return _tracker(tracking_uri(config, home=home), home.resolve(), config.experiment, os.getpid())


@cache
def _tracker(uri: str, home: Path, experiment: str, pid: int) -> Tracker:
    return Tracker(uri=uri, home=home, experiment=experiment)  # pid: a database handle must not cross a fork


@contextmanager
def _run(tracker: Tracker, *, name: str, fingerprint: str, tags: Mapping[str, str]) -> Iterator[Run]:
    key = f"local-{uuid.uuid4().hex}"
    create = {"op": "create", "key": key, "name": name, "fingerprint": fingerprint, "tags": dict(tags)}
    run = Run(tracker=tracker, run_id=tracker.send(create | {"time_ms": _now_ms()}) or key)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run._send("end", status=status, time_ms=_now_ms())


def flatten(data: Mapping[str, Any], *, prefix: str = "") -> dict[str, str]:
    """{"debate": {"num_agents": 5}} -> {"debate.num_agents": "5"}; lists as JSON."""
    flat: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _git_tags() -> dict[str, str]:
    """The commit of this source tree (`-dirty` if changed); empty when installed outside a repository."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], ["describe", "--always", "--dirty", "--abbrev=40"]):
            git = ["git", "-C", str(here.parent), *command]
            done = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": done.stdout.strip()}


def _now_ms() -> int:
    return int(time.time() * 1000)
