"""build-traces: questions in; committed and verified debates out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from agentark_core import model_files
from agentark_core.config import BuildTracesConfig
from flows import stage
from flows.debate_stage import complete_debates
from tasks.trace_tasks import DebateSpec


@flow(
    name="build-traces",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def build_traces(config: BuildTracesConfig, *, parent_run_id: str = "") -> dict[str, Any]:
    """Debate every question with the teacher, verify every turn; returns the totals and the ledger's fingerprint.

    parent_run_id is the MLflow run of the pipeline; full-pipeline sets it.
    """
    home = stage.prepare_home(config.run)
    problem_set = stage.load_training_problems(config, home=home)
    spec = DebateSpec(
        name="traces",
        problems=problem_set,
        model=config.teacher,
        model_revision=model_files.source(config.teacher, config.engine)[1],
        debate=config.debate,
        seed=config.run.seed,
    )
    with stage.tracked("build-traces", config=config, home=home, parent_run_id=parent_run_id) as run:
        done = complete_debates([spec], model=config.teacher, engine=config.engine, home=home, track=run)
        totals = done["traces"]
        run.log_dataset(
            name=problem_set.dataset,
            digest=problem_set.fingerprint,
            source=config.problems.path or config.problems.source,
            context="distillation",
            rows=problem_set.rows,
        )
        run.log_metrics({key: value for key, value in totals.items() if isinstance(value, (int, float))})
        stage.counts_table("traces", totals)
    return {**totals, "bad_rows": problem_set.bad_rows, "home": str(Path(home))}
