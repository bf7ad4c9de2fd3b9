"""The model registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core import registry_view, tracking
from agentark_core.config import TrackingConfig


@task(task_run_name="register {config.registered_model}", cache_policy=NO_CACHE)
def register_student(
    config: TrackingConfig,
    *,
    home: Path,
    model_dir: Path,
    run_id: str,
    lineage: dict[str, str],
    metrics: dict[str, float],
) -> dict[str, Any]:
    """Register the model (or find the version with the same content) under the alias `candidate`."""
    return registry_view.register_student(
        tracking.attach(config, home=home, run_id=run_id),
        name=config.registered_model,
        model_dir=model_dir,
        lineage=lineage,
        metrics=metrics,
    )
