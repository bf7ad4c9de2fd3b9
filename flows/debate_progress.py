"""Debates seen while they run: in the terminal, as a progress artifact in the Prefect UI, and as MLflow metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from agentark_core import live_view
from agentark_core.progress import Progress, ProgressReader, metrics
from agentark_core.tracking import Run

ARTIFACT_EVERY_S = 10.0
METRICS_EVERY_S = 30.0


@contextmanager
def shown(fingerprints: list[str], *, home: Path, track: Run | None) -> Iterator[None]:
    """Show the debate runs while the block runs. track: the MLflow run that gets the metrics, by finished questions."""
    get_run_logger().info("debating; from another terminal: agentark watch %s --home %s", " ".join(fingerprints), home)
    artifact = cast(UUID, create_progress_artifact(progress=0.0, description="engines are starting"))

    def update_artifact(progress: Progress) -> None:
        share = progress.questions / progress.total_questions
        update_progress_artifact(artifact, progress=100 * share, description=live_view.line(progress))

    def log_metrics(progress: Progress) -> None:
        if track is not None:
            track.log_metrics(metrics(progress), step=progress.questions)

    reports = [_every(ARTIFACT_EVERY_S, update_artifact), _every(METRICS_EVERY_S, log_metrics)]

    def report(progress: Progress) -> None:
        for tell in reports:
            tell(progress)

    with live_view.live(home, fingerprints, on_tick=report):
        yield
    log_metrics(ProgressReader(home, fingerprints).read())
    update_progress_artifact(artifact, progress=100.0, description="all shards are committed")


def _every(seconds: float, tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """tell, but not more often than every so many seconds; a call that fails is not repeated before."""
    told_at = time.monotonic()

    def maybe(progress: Progress) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= seconds:
            told_at = time.monotonic()
            tell(progress)

    return maybe
