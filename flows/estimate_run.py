"""estimate: a few questions of a run, debated for real; the bill of the whole run out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect import flow

from agentark_core import estimate, model_files
from agentark_core.config import BuildTracesConfig
from agentark_core.engine_time import sample_speed
from agentark_core.errors import EmptyDataset
from agentark_core.stored import read_debates
from flows import stage
from flows.debate_stage import complete_debates
from tasks.estimate_tasks import draw_sample, keep_turns
from tasks.trace_tasks import DebateSpec

FULL_BATCHES = 4
"""Questions asked for a measured speed: so many times what fills the batch of one engine."""


@flow(
    name="estimate",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def estimate_run(config: BuildTracesConfig, *, questions: int, fill: bool) -> dict[str, Any]:
    """Debate a random choice of the run's questions on one engine, and predict the whole run from it.

    The sample's debates are committed under their own fingerprint, and their turns are kept for the run itself.
    fill: at least so many questions that one engine's batch is full for a while.
    """
    home = stage.prepare_home(config.run)
    whole = stage.load_training_problems(config, home=home)
    if fill:
        questions = max(questions, -(-FULL_BATCHES * config.engine.max_num_seqs // config.debate.num_agents))
    if whole.rows < 2:
        raise EmptyDataset(f"{whole.dataset}: {whole.rows} question; an estimate needs two or more")
    drawn = draw_sample(whole, home=home, questions=min(questions, whole.rows), seed=config.run.seed)
    run = DebateSpec(
        name="traces",
        problems=whole,
        model=config.teacher,
        model_revision=model_files.source(config.teacher, config.engine)[1],
        debate=config.debate,
        seed=config.run.seed,
    )
    sample = replace(run, name="estimate", problems=drawn)
    one_engine = config.engine.model_copy(update={"num_engines": 1})
    complete_debates([sample], model=config.teacher, engine=one_engine, home=home)
    kept = keep_turns(sample=sample, run=run, home=home, lease_timeout_s=config.engine.lease_timeout_s)
    made = estimate.predict(
        list(read_debates(home, fingerprint=sample.fingerprint)),
        facts=estimate.RunFacts(
            run=run.fingerprint,
            sample=sample.fingerprint,
            dataset=whole.dataset,
            questions=whole.rows,
            shards=len(whole.shards),
            config=config,
        ),
        speed=sample_speed(sample.store(home)),
    )
    estimate.save(made, home=home)
    return {**made, "kept_turns": kept}
