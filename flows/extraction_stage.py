"""The stage that extract and distil share: verified debates of one or more runs, with selections where an LLM
selects and rollouts where they label steps, extracted and tabled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture

from agentark_core import selections, step_rollouts, yields
from agentark_core.cluster.ray_pool import EnginePool
from agentark_core.config import EngineConfig, ExamplesConfig, ModelConfig
from agentark_core.errors import ConfigError
from agentark_core.extraction import ExtractJob
from agentark_core.judge import JudgeSetup
from agentark_core.ledger import Store
from agentark_core.prompts import Wording
from agentark_core.rollouts import RolloutsSetup
from agentark_core.rollouts import setup as rollouts_setup
from agentark_core.selections import SelectionJob
from agentark_core.selector import SelectorSetup, setup
from agentark_core.step_rollouts import RolloutJob
from agentark_core.stored import debate_runs, debate_store
from agentark_core.tracking import Run
from flows.debate_stage import engines_if, uncommitted, verify_all, wait_for
from tasks.extract_tasks import extract_run, roll_out_shard, select_shard, write_card
from tasks.trace_tasks import load_problems

Job = TypeVar("Job", SelectionJob, RolloutJob)


def extract_runs(
    traces: Sequence[str],
    *,
    config: ExamplesConfig,
    wording: Wording,
    judge: JudgeSetup | None,
    workers: int,
    seed: int,
    home: Path,
) -> list[ExtractJob]:
    """Verify, select and extract what is missing of every run, in order; show what each gave. Raises ConfigError."""
    selector, rollouts = setup(config.selector), rollouts_setup(config.rollouts)
    stores = [existing_debates(home, fingerprint=name) for name in traces]
    tests = [load_problems(problems, home=home, seed=seed, shard_size=256).fingerprint for problems in config.test_sets]
    verify_all({s.fingerprint: tuple(sorted(s.entries())) for s in stores}, home=home, judge=judge)
    if selector is not None:
        _select_all(
            [
                SelectionJob(
                    home=home,
                    debates=name,
                    judge=judge.key if judge else None,
                    limit=config.augmentation_traces,
                    selector=selector.key,
                )
                for name in dict.fromkeys(traces)
            ],
            selector=selector,
        )
    if rollouts is not None:
        _roll_out_all(
            [
                RolloutJob(
                    home=home,
                    debates=name,
                    judge=judge.key if judge else None,
                    config=config,
                    rollouts=rollouts.key,
                )
                for name in dict.fromkeys(traces)
            ],
            rollouts=rollouts,
        )
    jobs = []
    for place, name in enumerate(traces):
        job = extract_run(
            name,
            earlier=list(traces[:place]),
            tests=tests,
            config=config,
            wording=wording,
            judge=judge.key if judge else None,
            selector=selector.key if selector else None,
            rollouts=rollouts.key if rollouts else None,
            workers=workers,
            home=home,
        )
        jobs.append(job)
    table = [row for job in jobs for row in yields.rows(job)]
    create_table_artifact(table, key="yield", description=f"What the debates gave to learn from; {yields.NOTE}")
    return jobs


def write_cards(jobs: Sequence[ExtractJob], *, run: Run) -> list[str]:
    """The data card of every extraction, kept with the MLflow run too; returns the pages' paths."""
    pages = []
    for job in jobs:
        paths = write_card(job)
        for path in paths:
            run.log_artifact(path, folder=f"card-{job.debates}")
        pages.append(str(paths[-1]))
    return pages


def _select_all(jobs: Sequence[SelectionJob], *, selector: SelectorSetup) -> None:
    """The selector's part. Its engines start only if a shard without selections leaves something to choose."""
    _make_missing(
        jobs,
        lambda job, shard, pool: select_shard.submit(shard, job=job, sampling=selector.config.sampling, pool=pool),
        asks=lambda job, shard: any(True for _ in selections.choices(job, shard)),
        model=selector.config.model,
        engine=selector.engine,
    )


def _roll_out_all(jobs: Sequence[RolloutJob], *, rollouts: RolloutsSetup) -> None:
    """The same for rollouts from the steps of the traces."""
    _make_missing(
        jobs,
        lambda job, shard, pool: roll_out_shard.submit(shard, job=job, rollouts=rollouts, pool=pool),
        asks=lambda job, shard: any(begun for _, begun in step_rollouts.beginnings(job, shard)),
        model=rollouts.config.model,
        engine=rollouts.engine,
    )


def _make_missing(
    jobs: Sequence[Job],
    submit: Callable[[Job, str, EnginePool | None], PrefectFuture[Any]],
    *,
    asks: Callable[[Job, str], bool],
    model: ModelConfig,
    engine: EngineConfig,
) -> None:
    """Submit every verified shard that a job has not committed, and wait. asks: whether a shard asks the engines."""
    missing = [
        (job, shard) for job in jobs for shard in uncommitted(job.store, shards=tuple(sorted(job.verdicts.committed())))
    ]
    needed = any(asks(job, shard) for job, shard in missing)
    with engines_if(needed, model=model, engine=engine, home=jobs[0].home) as pool:
        futures = [submit(job, shard, pool) for job, shard in missing]
        wait_for(futures, stop=pool.stop if pool else lambda reason: None)


def existing_debates(home: Path, *, fingerprint: str) -> Store:
    """The ledger folder of a debate run. Raises ConfigError with the remedy if there is none."""
    if fingerprint not in debate_runs(home):
        raise ConfigError(
            f"traces: no committed debates {fingerprint} under {home}/ledger; run build-traces or `agentark import` "
            "first, and check run.home"
        )
    return debate_store(home, fingerprint)
