"""What every flow does around its work: run name, home folder, MLflow runs, loading questions, finished records."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from prefect import runtime
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel

from agentark_core import model_files, tracking
from agentark_core.config import BuildTracesConfig, EngineConfig, ProblemsConfig, RunConfig, TrackingConfig, to_json
from agentark_core.errors import AgentArkError, DataError, StorageFull
from agentark_core.ledger import atomic_write_json, atomic_write_text
from tasks.trace_tasks import DebateSpec, ProblemSet, load_problems

TASK_RUNNER: Any = ThreadPoolTaskRunner(max_workers=256)
"""Threads: a shard task only waits for its engine. 256 of them keep 128 engines busy."""


class _NoTraceback(logging.Filter):
    """A mistake that the user can mend is one line in the log: no traceback of ours helps him."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], AgentArkError):
            record.exc_info = None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_NoTraceback())


class FlowConfig(Protocol):
    """The sections that every flow's parameter model has."""

    @property
    def run(self) -> RunConfig: ...
    @property
    def tracking(self) -> TrackingConfig: ...


class EngineUser(Protocol):
    """Parameter models of flows that run engines."""

    @property
    def run(self) -> RunConfig: ...
    @property
    def engine(self) -> EngineConfig: ...


def run_name() -> str:
    """Name of a flow run in the UI: the flow and the user's run name, for example `build-traces nightly`."""
    config = runtime.flow_run.parameters["config"]
    run = config["run"] if isinstance(config, dict) else config.run
    return f"{runtime.flow_run.flow_name} {run['name'] if isinstance(run, dict) else run.name}"


def prepare_home(run: RunConfig) -> Path:
    """The run's home folder, made if need be. Raises DataError with the remedy if it cannot be written."""
    home = Path(run.home).resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        kind = StorageFull if error.errno == 28 else DataError
        raise kind(
            f"run.home {home}: cannot write there ({error.strerror}); free space or choose another folder"
        ) from None
    return home


def load_held_out(problems: ProblemsConfig, *, config: EngineUser, home: Path) -> ProblemSet:
    """The test questions."""
    return load_problems(problems, home=home, seed=config.run.seed, shard_size=config.engine.shard_size)


def load_training_problems(config: BuildTracesConfig, *, home: Path) -> ProblemSet:
    """The questions to learn from, without those that are also held out."""
    held_out = load_held_out(config.held_out, config=config, home=home) if config.held_out else None
    return load_problems(
        config.problems, home=home, seed=config.run.seed, shard_size=config.engine.shard_size, held_out=held_out
    )


def traces_spec(config: BuildTracesConfig, *, problems: ProblemSet) -> DebateSpec:
    """The debates of build-traces."""
    return DebateSpec(
        name="traces",
        problems=problems,
        model=config.teacher,
        model_revision=model_files.source(config.teacher, config.engine)[1],
        debate=config.debate,
        seed=config.run.seed,
    )


@contextmanager
def tracked(name: str, *, config: FlowConfig, home: Path, parent_run_id: str) -> Iterator[tracking.Run]:
    """The MLflow run of a stage: a child of parent_run_id, or a parent run of its own with one child.

    The resolved config is written beside the ledger, and a link to the MLflow run appears in the Prefect UI.
    """
    assert isinstance(config, BaseModel)
    atomic_write_text(home / "runs" / config.run.name / f"{name}.json", to_json(config))
    if parent_run_id:
        parent = tracking.attach(config.tracking, home=home, run_id=parent_run_id)
        with parent.stage(name) as run:
            _link(name, run)
            yield run
        return
    tags = {"prefect.flow_run_id": str(runtime.flow_run.id), "prefect.flow_run_name": str(runtime.flow_run.name)}
    with tracking.pipeline_run(config.tracking, home=home, name=config.run.name, resolved=config, tags=tags) as parent:
        _link(name, parent)
        if name in ("full-pipeline", "sweep"):  # their stages are their children
            yield parent
        else:
            with parent.stage(name) as run:
                yield run


def _link(name: str, run: tracking.Run) -> None:
    url = run.url
    if url.startswith("http"):
        create_link_artifact(url, key=f"mlflow-{name}", description=f"MLflow run of {name}")


def counts_table(key: str, counts: dict[str, Any]) -> None:
    """A table artifact of counts; nested counts become `statuses: ok`."""
    rows = []
    for name, value in counts.items():
        nested = (
            {f"{name}: {label}": count for label, count in value.items()} if isinstance(value, dict) else {name: value}
        )
        rows += [{"figure": label, "value": count} for label, count in nested.items()]
    create_table_artifact(rows, key=key)


def finished(home: Path, *, flow: str, key: str) -> dict[str, Any] | None:
    """The record of an earlier, finished run of the same work, if what it made still stands."""
    try:
        record: dict[str, Any] = json.loads(_record_path(home, flow=flow, key=key).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record if all(Path(path).exists() for path in record["made"]) else None


def finish(home: Path, *, flow: str, key: str, record: dict[str, Any], made: list[Path]) -> dict[str, Any]:
    """Write the record that `finished` finds; made lists what must still exist for it to count."""
    record = {**record, "made": [str(path) for path in made]}
    atomic_write_json(_record_path(home, flow=flow, key=key), record)
    return record


def _record_path(home: Path, *, flow: str, key: str) -> Path:
    return home / "runs" / "finished" / f"{flow}-{key}.json"
