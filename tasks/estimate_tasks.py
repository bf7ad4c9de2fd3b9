"""The sample of an estimate: drawn from the run's own questions, and its turns kept for the run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from agentark_core import estimate, records
from agentark_core.errors import AlreadyRunning
from agentark_core.ledger import Store, fingerprint
from agentark_core.stored import read_debates
from agentark_core.types import Turn
from tasks.trace_tasks import DebateSpec, ProblemSet, commit_problems


@task(task_run_name="draw {questions} of {problems.dataset}", cache_policy=NO_CACHE)
def draw_sample(problems: ProblemSet, *, home: Path, questions: int, seed: int) -> ProblemSet:
    """A random choice of a set's questions, committed as a set of its own with one shard.

    It has the revision of the whole set, so the work keys of its debates are those of the run.
    """
    whole = Store(home, stage="problems", fingerprint=problems.fingerprint)
    ids = [name for table in whole.batches(columns=["problem_id"]) for name in table.column("problem_id").to_pylist()]
    drawn = set(estimate.draw(ids, questions=questions, seed=seed))
    chosen = [
        problem
        for table in whole.batches()
        for problem in records.table_to_problems(table)
        if problem.problem_id in drawn
    ]
    config = {"sample_of": problems.fingerprint, "questions": questions, "seed": seed}
    key = fingerprint("problems", **config)
    store = Store(home, stage="problems", fingerprint=key, config=config)
    shards = commit_problems(store, tuple(chosen), shard_size=len(chosen))
    return replace(problems, fingerprint=key, shards=shards, rows=len(chosen), bad_rows=0)


@task(task_run_name="keep turns", cache_policy=NO_CACHE)
def keep_turns(*, sample: DebateSpec, run: DebateSpec, home: Path, lease_timeout_s: float) -> int:
    """Write the sample's turns to the journals of the run, which goes on from them; returns how many were new there.

    Committed shards keep what they have, and so does a run that is going on.
    """
    turns_of: dict[str, list[Turn]] = defaultdict(list)
    for debate in read_debates(home, fingerprint=sample.fingerprint):
        turns_of[debate.problem.problem_id] += debate.turns
    store = run.store(home, run_id="estimate")
    committed = store.entries()
    problems = Store(home, stage="problems", fingerprint=run.problems.fingerprint)
    kept = 0
    try:
        with store.lease("run", timeout_s=lease_timeout_s):
            for shard in run.problems.shards:
                ids = problems.read(shards=[shard], columns=["problem_id"]).column("problem_id").to_pylist()
                turns = [turn for problem_id in ids for turn in turns_of.get(problem_id, ())]
                if turns and shard not in committed:
                    kept += _journaled(turns, store=store, shard=shard, lease_timeout_s=lease_timeout_s)
    except AlreadyRunning as error:
        get_run_logger().info("the run is going on and makes its own turns (%s)", error)
    return kept


def _journaled(turns: list[Turn], *, store: Store, shard: str, lease_timeout_s: float) -> int:
    """Append the turns that the shard's journal does not hold; returns how many."""
    with store.lease(shard, timeout_s=lease_timeout_s), store.journal(shard) as journal:
        known = {(row["work_id"], row["round"], row["agent"]) for row in journal.replay()}
        new = [turn for turn in turns if (turn.work_id, turn.round, turn.agent) not in known]
        journal.append(asdict(turn) for turn in new)
        journal.sync()
    return len(new)
