"""distil: verified debates in; a trained and registered student out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from agentark_core import yields
from agentark_core.config import DistilConfig
from agentark_core.judge import setup
from agentark_core.training.sft_data import read_metrics
from flows import stage
from flows.extraction_stage import debate_store, extract_runs, write_cards
from tasks.extract_tasks import example_set
from tasks.registry_tasks import register_student
from tasks.training_tasks import train_student

CURVE_POINTS = 50
"""Points of the training curve sent to MLflow (70 ms each on sqlite); metrics.jsonl has every step."""


@flow(
    name="distil",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def distil(config: DistilConfig, *, parent_run_id: str = "") -> dict[str, Any]:
    """Verify what is not verified yet, build R-SFT examples, train the student, register it as `candidate`.

    config.traces are fingerprints of debate runs: of build-traces or of `agentark import`.
    """
    home = stage.prepare_home(config.run)
    judge = setup(config.verification.judge)
    jobs = extract_runs(
        config.traces,
        config=config.examples,
        wording=config.student.prompts,
        judge=judge,
        workers=0,
        seed=config.run.seed,
        home=home,
    )
    examples = example_set(jobs, "rsft")
    stage.counts_table("examples", {"rows": examples.rows, **examples.counts})
    with stage.tracked("distil", config=config, home=home, parent_run_id=parent_run_id) as run:
        run.log_dataset(
            name="rsft-examples",
            digest=examples.digest,
            source=examples.paths[0].parent,
            context="training",
            rows=examples.rows,
        )
        cards = write_cards(jobs, run=run)
        student = train_student(config.student, examples=examples, sft=config.sft, home=home)
        curve_path = student.path.parent / "metrics.jsonl"
        run.log_artifact(curve_path)
        curve = read_metrics(curve_path)
        for row in curve[:: max(1, len(curve) // CURVE_POINTS)]:
            run.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
        lineage = {
            "debates": ",".join(config.traces),
            "debate_manifests": ",".join(debate_store(home, fingerprint=name).digest() for name in config.traces),
            "verdict_manifests": ",".join(job.verdicts.digest() for job in jobs),
            "examples": ",".join(job.store("rsft").fingerprint for job in jobs),
            "base_model": config.student.path,
            "base_revision": student.base_revision,
            "config": student.fingerprint,
        }
        version = register_student(
            config.tracking, home=home, model_dir=student.path, run_id=run.run_id, lineage=lineage, metrics={}
        )
        return {
            "model": str(student.path),
            "revision": student.revision,
            "base_revision": student.base_revision,
            "examples": examples.rows,
            "example_counts": examples.counts,
            "yield": [row for job in jobs for row in yields.rows(job)],
            "cards": cards,
            "training": student.metrics,
            "registered": version,
            "lineage": lineage,
        }
