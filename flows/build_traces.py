"""build-traces: questions in; committed and verified debates out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.events import emit_event

from agentark_core.config import BuildTracesConfig, ExamplesConfig, ExtractConfig
from agentark_core.judge import JudgeSetup, judged_by, setup
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
    if not parent_run_id:  # full-pipeline extracts by itself
        _announce(config, home=home, debates=totals["fingerprint"], judge=judge)
    return {**totals, "bad_rows": problem_set.bad_rows, "home": str(Path(home))}


def _announce(config: BuildTracesConfig, *, home: Path, debates: str, judge: JudgeSetup | None) -> None:
    """Tell Prefect that the debates are committed and verified: deployment extract/after-debates runs on this event.

    Also said when nothing was new, so that a run that died before saying it says it when it is started again.
    """
    held_out = config.held_out
    if held_out and held_out.path:  # the worker runs elsewhere
        held_out = held_out.model_copy(update={"path": str(Path(held_out.path).resolve())})
    extract = ExtractConfig(
        run=config.run.model_copy(update={"home": str(Path(home).resolve())}),
        traces=[debates],
        prompts=config.teacher.prompts,
        examples=ExamplesConfig(test_sets=[held_out] if held_out else []),
        verification=judged_by(judge),
        tracking=config.tracking,
    )
    emit_event(
        event="agentark.debates.committed",
        resource={"prefect.resource.id": f"agentark.debates.{debates}", "prefect.resource.name": config.run.name},
        payload={"extract": extract.model_dump(mode="json")},
    )
