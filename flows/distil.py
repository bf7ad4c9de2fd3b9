"""distil: verified debates in; a trained and registered student out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from agentark_core.config import DistilConfig
from agentark_core.errors import ConfigError
from agentark_core.judge import setup
from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, verdict_store
from agentark_core.training.sft_data import read_metrics
from flows import stage
from flows.debate_stage import verify_all
from tasks.example_tasks import build_examples
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
    runs = {name: tuple(sorted(_debate_store(home, fingerprint=name).entries())) for name in config.traces}
    verify_all(runs, home=home, judge=judge)
    judge_key = judge.key if judge else None
    example_set = build_examples(
        config.traces, config=config.examples, wording=config.student.prompts, home=home, judge=judge_key
    )
    stage.counts_table("examples", {"rows": example_set.rows, **example_set.counts})
    with stage.tracked("distil", config=config, home=home, parent_run_id=parent_run_id) as run:
        run.log_dataset(
            name="rsft-examples",
            digest=example_set.digest,
            source=example_set.path,
            context="training",
            rows=example_set.rows,
        )
        student = train_student(config.student, examples=example_set, sft=config.sft, home=home)
        curve_path = student.path.parent / "metrics.jsonl"
        run.log_artifact(curve_path)
        curve = read_metrics(curve_path)
        for row in curve[:: max(1, len(curve) // CURVE_POINTS)]:
            run.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
        lineage = {
            "debates": ",".join(config.traces),
            "debate_manifests": ",".join(_debate_store(home, fingerprint=name).digest() for name in config.traces),
            "verdict_manifests": ",".join(
                verdict_store(home, debates=name, judge=judge_key).digest() for name in config.traces
            ),
            "examples": example_set.fingerprint,
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
            "examples": example_set.rows,
            "example_counts": example_set.counts,
            "training": student.metrics,
            "registered": version,
            "lineage": lineage,
        }


def _debate_store(home: Path, *, fingerprint: str) -> Store:
    if fingerprint not in debate_runs(home):
        raise ConfigError(
            f"traces: no committed debates {fingerprint} under {home}/ledger; run build-traces or `agentark import` "
            "first, and check run.home"
        )
    return Store(home, stage="debates", fingerprint=fingerprint)
