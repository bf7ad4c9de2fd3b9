"""Verified debates -> committed selections and rollouts -> committed material to learn from, shard by shard, on all
cores."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Sequence, Set
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from agentark_core import card, card_view, extraction, prompts, question_filter, selections, step_rollouts
from agentark_core.cluster.ray_pool import EnginePool
from agentark_core.config import ExamplesConfig, SamplingConfig
from agentark_core.errors import EmptyDataset
from agentark_core.extraction import ExtractJob, Kind
from agentark_core.judging import GoOnJob, SelectJob
from agentark_core.ledger import Store, canonical_json
from agentark_core.rollouts import Begun, RolloutsSetup, verified
from agentark_core.selections import SelectionJob, SelectorKey
from agentark_core.selector import Picked
from agentark_core.step_rollouts import RolloutJob, RolloutsKey
from agentark_core.stored import JudgeKey, parents
from agentark_core.types import Reached
from agentark_core.verify import Verifier
from tasks.trace_tasks import VERIFYING, user_errors_are_final


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """Committed examples of one kind from one or more debate runs: their Parquet files and a digest of their contents,
    what was kept and what became of the rest. held_out: problem_ids in them that are not to be learned from."""

    paths: tuple[Path, ...]
    digest: str
    rows: int
    counts: dict[str, int]
    held_out: tuple[str, ...] = ()

    def without(self, problem_ids: Set[str]) -> ExampleSet:
        """These examples but for those of some questions."""
        if not problem_ids:
            return self
        held_out = tuple(sorted(problem_ids))
        digest = hashlib.sha256("\n".join((self.digest, *held_out)).encode()).hexdigest()
        return replace(self, digest=digest, held_out=held_out)


@task(
    task_run_name="select {job.debates} {shard}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def select_shard(shard: str, *, job: SelectionJob, sampling: SamplingConfig, pool: EnginePool | None) -> dict[str, int]:
    """Let the selector choose in one shard; returns how many selections were made by whom.

    pool is None where no shard leaves anything to choose.
    """
    committed = job.store.entry(shard)
    if committed is not None:
        return dict(committed.meta["counts"])
    came_from = parents(job.home, debates=job.debates, verdicts=job.verdicts, shard=shard)
    pairs = list(selections.choices(job, shard))
    picked: list[Picked] = []
    if pairs:
        assert pool is not None
        choices = tuple(choice for choice, _ in pairs)
        picked = pool.select(SelectJob(root=job.store.root, choices=choices, sampling=sampling))
    turns = [turns for _, turns in pairs]
    return selections.commit(job, shard, list(zip(turns, picked, strict=True)), parents=came_from)


@task(
    task_run_name="roll out {job.debates} {shard}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def roll_out_shard(shard: str, *, job: RolloutJob, rollouts: RolloutsSetup, pool: EnginePool | None) -> dict[str, int]:
    """Go on from every step of one shard; returns the counts of its samples.

    pool is None where no shard has a step to go on from.
    """
    root, config = job.store.root, rollouts.config
    came_from = parents(job.home, debates=job.debates, verdicts=job.verdicts, shard=shard)
    with Verifier(workers=1) as verifier:

        def reach(begun: Sequence[Begun]) -> list[Reached]:
            assert pool is not None
            asked = GoOnJob(root=root, begun=tuple(begun), samples=config.samples, sampling=config.sampling)
            solutions = pool.go_on(asked)
            with VERIFYING:
                return verified(begun, solutions, verifier=verifier)

        counts = step_rollouts.roll_out(job, shard, reach=reach, parents=came_from)
    if counts["beginnings"] and not counts["samples_decided"]:
        get_run_logger().warning(
            "shard %s: no sample of %d steps has a verdict, so only last steps have labels; look at max_tokens, "
            "max_model_len and the task of the questions",
            shard,
            counts["beginnings"],
        )
    return counts


@task(
    task_run_name="extract {debates}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def extract_run(
    debates: str,
    *,
    earlier: list[str],
    tests: list[str],
    config: ExamplesConfig,
    wording: prompts.Wording,
    judge: JudgeKey | None,
    selector: SelectorKey | None,
    rollouts: RolloutsKey | None,
    workers: int,
    home: Path,
) -> ExtractJob:
    """Extract every verified shard that is not extracted yet.

    earlier: runs that are learned from before this one, whose questions it should not repeat. tests: fingerprints of
    committed test questions. judge, selector: whose verdicts and selections count (None: the rules alone). rollouts:
    those that label steps, if any. workers: processes (0: one a core).
    """
    dropped = question_filter.dropped_questions(home, runs=[*earlier, debates], tests=tests)
    job = ExtractJob(
        home=home,
        debates=debates,
        dropped=dropped.fingerprint,
        config=config,
        wording=wording,
        judge=judge,
        selector=selector,
        rollouts=rollouts,
    )
    missing = job.missing()
    size = min(len(missing), workers or os.cpu_count() or 1)
    if size <= 1:  # a process of its own would cost more than the work
        for shard in missing:
            extraction.extract_shard(job, shard)
        return job
    with ProcessPoolExecutor(size, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(extraction.extract_shard, job, shard) for shard in missing]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            if done % max(1, len(futures) // 10) == 0:
                get_run_logger().info("%d of %d shards extracted", done, len(futures))
    return job


@task(task_run_name="card {job.debates}", cache_policy=NO_CACHE)
def write_card(job: ExtractJob) -> list[Path]:
    """The data card of what is extracted now, as Markdown and HTML, in place of the card of fewer shards."""
    paths = card_view.write(card.describe(job), card.folder(job))
    create_markdown_artifact(paths[0].read_text(encoding="utf-8"), key=f"card-{job.debates}")
    get_run_logger().info("data card: %s", paths[1])
    return paths


def example_set(jobs: list[ExtractJob], kind: Kind) -> ExampleSet:
    """All rows of one kind. Raises EmptyDataset if there is none."""
    stores = [job.store(kind) for job in jobs]
    totals = [extraction.totals(job, kind) for job in jobs]
    counts: dict[str, int] = {}
    for total in totals:
        for name, number in total["counts"].items():
            counts[name] = counts.get(name, 0) + number
    rows = sum(total["rows"] for total in totals)
    if not rows:
        raise EmptyDataset(
            f"no {kind} example in {', '.join(job.debates for job in jobs)} ({counts}): there is nothing to train on; "
            "use a stronger teacher, more questions, or check the verdicts with `agentark debates`"
        )
    return ExampleSet(
        paths=tuple(store.root / entry.file for store in stores for entry in store.entries().values() if entry.rows),
        digest=_content_digest(stores),
        rows=rows,
        counts=counts,
    )


def _content_digest(stores: list[Store]) -> str:
    """sha256 over the rows alone, not over how they were selected: a guard against one more test set that drops nothing
    gives the same examples, and the same student."""
    parts = [[entry.sha256, entry.rows] for store in stores for entry in store.entries().values()]
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()
