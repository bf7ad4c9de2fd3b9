"""full-pipeline: questions in; a distilled, evaluated, registered student out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from agentark_core import model_files
from agentark_core.cluster.ray_pool import engine_pool
from agentark_core.config import DistilConfig, EvaluateConfig, ModelConfig, PipelineConfig
from agentark_core.judge import judged_by, setup
from agentark_core.ledger import fingerprint
from agentark_core.rollouts import rolled_out_by
from agentark_core.rollouts import setup as rollouts_setup
from agentark_core.selector import selected_by
from agentark_core.selector import setup as selector_setup
from flows import stage
from flows.build_traces import build_traces
from flows.debate_stage import complete_debates
from flows.distil import check_models, distil
from flows.evaluate_model import evaluate_model, teacher_methods
from tasks.registry_tasks import register_student


@flow(
    name="full-pipeline",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def full_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """build-traces, distil, evaluate-model, and the registry entry, under one MLflow run.

    A second run of the same config on the same inputs finds the finished record and does nothing.
    """
    home = stage.prepare_home(config.run)
    check_models(config)
    held_out = stage.load_held_out(config.evaluation.problems, config=config, home=home)
    questions = stage.load_training_problems(config.traces, home=home)
    judge = setup(config.verification.judge, engine=config.engine, teacher=config.teacher)
    selector = selector_setup(config.examples.selector, engine=config.engine, teacher=config.teacher)
    rollouts = rollouts_setup(config.examples.rollouts, engine=config.engine, teacher=config.teacher)
    of_examples: dict[str, Any] = {"test_sets": {"__all__": {"license"}}}
    of_examples |= {} if selector else {"selector": True}
    of_examples |= {} if rollouts else {"rollouts": True}
    hidden: dict[str, Any] = {
        "run": {"name", "home"},
        "tracking": True,
        "problems": {"license"},
        "evaluation": {"problems": {"license"}},
        # Without a judge, a selector or rollouts the key is what it was before there were any.
        "examples": of_examples,
    }
    hidden |= {} if judge else {"verification": True}
    key = fingerprint(
        "full-pipeline",
        config=config.model_dump(mode="json", exclude=hidden),
        problems=[questions.fingerprint, held_out.fingerprint],
        models=[
            model_files.source(config.teacher, config.engine)[1],
            model_files.revision(model_files.resolve(config.student)),
            *([judge.key] if judge else []),
            *([selector.key] if selector else []),
            *([rollouts.key] if rollouts else []),
        ],
    )
    if done := stage.finished(home, flow="full-pipeline", key=key):
        get_run_logger().info("nothing to do: this config already ran; its report is %s", done["report_paths"][0])
        return {**done, "reused": True}
    with stage.tracked("full-pipeline", config=config, home=home, parent_run_id="") as run:
        # One start of the teacher serves both its traces and its part of the evaluation. Another model as judge needs
        # the teacher's place in between.
        alone = judge is None or (judge.config.model, judge.engine) == (config.teacher, config.engine)
        with engine_pool(model=config.teacher, engine=config.engine, home=home) if alone else nullcontext():
            traces = build_traces(config.traces, parent_run_id=run.run_id)
            evaluate_config = _evaluate_config(config, student=config.student)
            specs = {spec.name: spec for _, spec, _ in teacher_methods(evaluate_config, problems=held_out)}
            complete_debates(list(specs.values()), model=config.teacher, engine=config.engine, home=home, judge=judge)
        student = distil(
            DistilConfig(
                run=config.run,
                traces=[traces["fingerprint"]],
                student=config.student,
                examples=config.examples.model_copy(
                    update={
                        "test_sets": [*config.examples.test_sets, config.evaluation.problems],
                        "selector": selected_by(selector),
                        "rollouts": rolled_out_by(rollouts),
                    }
                ),
                strategies=config.strategies,
                sft=config.sft,
                prm=config.prm,
                grpo=config.grpo,
                verification=judged_by(judge),
                tracking=config.tracking,
            ),
            parent_run_id=run.run_id,
        )
        distilled = config.student.model_copy(update={"path": student["model"], "revision": ""})
        evaluation = evaluate_model(
            _evaluate_config(config, student=distilled), parent_run_id=run.run_id, learned=student["yield"]
        )
        metrics = {row["name"]: row["accuracy"] for row in evaluation["report"]["rows"]}
        version = register_student(
            config.tracking,
            home=home,
            model_dir=model_files.resolve(distilled),
            run_id=run.run_id,
            lineage=student["lineage"],
            metrics=metrics,
        )
        run.log_metrics({f"accuracy/{name}": value for name, value in metrics.items()})
    return stage.finish(
        home,
        flow="full-pipeline",
        key=key,
        record={
            "traces": traces,
            "student": student,
            "evaluation": evaluation["report"],
            "report_paths": evaluation["paths"],
            "registered": version,
            "mlflow_run_id": run.run_id,
        },
        made=[Path(student["model"]), *(Path(path) for path in evaluation["paths"])],
    )


def _evaluate_config(config: PipelineConfig, *, student: ModelConfig) -> EvaluateConfig:
    return EvaluateConfig(
        run=config.run,
        student=student,
        base=config.student,
        teacher=config.teacher,
        debate=config.debate,
        engine=config.engine,
        evaluation=config.evaluation,
        verification=config.verification,
        tracking=config.tracking,
    )
