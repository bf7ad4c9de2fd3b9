"""build-traces: questions in; committed and verified debates out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from agentark_core.config import BuildTracesConfig
from agentark_core.judge import setup
from flows import stage
from flows.debate_stage import complete_debates


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
    spec = stage.traces_spec(config, problems=problem_set)
    judge = setup(config.verification.judge, engine=config.engine, teacher=config.teacher)
    with stage.tracked("build-traces", config=config, home=home, parent_run_id=parent_run_id) as run:
        done = complete_debates([spec], model=config.teacher, engine=config.engine, home=home, judge=judge, track=run)
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
