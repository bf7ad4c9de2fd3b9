"""Questions -> committed debates -> committed verdicts, one task per shard.

Three stages of the ledger, each in the folder of its own fingerprint: `problems`, `debates`, `verdicts`. All of them
have the same shards, so a shard's debates and verdicts are found by its name.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from agentark_core import prompts, records, strategies, text_scores
from agentark_core.cluster.ray_pool import EnginePool
from agentark_core.config import DebateConfig, ModelConfig, ProblemsConfig
from agentark_core.discussion import Plan
from agentark_core.errors import AgentArkError, EmptyDataset
from agentark_core.held_out import drop_held_out
from agentark_core.judge import JudgeSetup, merge, undecided
from agentark_core.judging import JudgeJob
from agentark_core.ledger import Store, fingerprint
from agentark_core.shards import CODE_SCHEMA, ShardJob
from agentark_core.stored import read_debates, verdict_store
from agentark_core.types import Problem, Verdict
from agentark_core.verify import Case, Verifier

VERIFYING = BoundedSemaphore(os.cpu_count() or 1)
"""Verification is this machine's own work, whereas the flow's many threads wait for engines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemSet:
    """A committed set of questions."""

    fingerprint: str
    dataset: str
    revision: str
    shards: tuple[str, ...]
    rows: int
    bad_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DebateSpec:
    """One debate run: which questions, which model, how. Its fingerprint names the ledger folder."""

    name: str
    problems: ProblemSet
    model: ModelConfig
    model_revision: str
    debate: DebateConfig
    seed: int

    @property
    def prompt_hash(self) -> str:
        """Hash of all prompt text, and of the strategy's source if it is the user's own."""
        return prompts.prompt_hash() + strategies.source_hash(self.debate.strategy)

    @property
    def fingerprint(self) -> str:
        """Identity of the debates: same questions, model, prompts, layout, sampling and seed."""
        return fingerprint(
            "debates",
            problems=self.problems.fingerprint,
            model=self.model_revision,
            wording=self.model.prompts,
            dtype=self.model.dtype,
            max_model_len=self.model.max_model_len,
            prompt_hash=self.prompt_hash,
            debate=self.debate.model_dump(mode="json"),
            seed=self.seed,
            code_schema=CODE_SCHEMA,
        )

    def store(self, home: Path, *, run_id: str = "") -> Store:
        """The ledger folder of these debates; run_id tells a refused second run who holds it."""
        return Store(
            home,
            stage="debates",
            fingerprint=self.fingerprint,
            run_id=run_id,
            config={
                "problems": self.problems.fingerprint,
                "dataset": self.problems.dataset,
                "model_revision": self.model_revision,
                "wording": self.model.prompts,
                "debate": self.debate.model_dump(mode="json"),
                "seed": self.seed,
            },
        )


def user_errors_are_final(_task: Any, _run: Any, state: Any) -> bool:
    """Prefect retry condition: an error that the user must mend is not retried."""
    try:
        state.result()
    except AgentArkError:
        return False
    except Exception:
        return True
    return False


@task(task_run_name="load {config.source} {config.split}", cache_policy=NO_CACHE)
def load_problems(
    config: ProblemsConfig, *, home: Path, seed: int, shard_size: int, held_out: ProblemSet | None = None
) -> ProblemSet:
    """Read, validate and commit the questions; bad rows go to bad_rows.jsonl beside them.

    Questions that are also in held_out (same text but for case, white space and punctuation) are bad rows here.
    """
    from agentark_core import problems

    loaded = problems.load(config, seed=seed)
    kept, bad_rows = loaded.problems, loaded.bad_rows
    if held_out is not None:
        table = Store(home, stage="problems", fingerprint=held_out.fingerprint).read(columns=["question"])
        kept, dropped = drop_held_out(kept, held_out=table.column("question").to_pylist(), source=loaded.source)
        bad_rows += dropped
    if not kept:
        raise EmptyDataset(f"{loaded.source}: every question is also a held-out test question; choose another split")
    shape = problems.shape(config)
    key = fingerprint(
        "problems",
        config=shape,
        revision=loaded.revision,
        seed=seed,
        shard_size=shard_size,
        held_out=held_out.fingerprint if held_out else None,
    )
    store = Store(
        home,
        stage="problems",
        fingerprint=key,
        config={"problems": shape, "revision": loaded.revision, "seed": seed},
    )
    problems.state_licence(store, config.license)
    shards = commit_problems(store, kept, shard_size=shard_size)
    if bad_rows:
        path = store.root / "bad_rows.jsonl"
        problems.write_bad_rows(bad_rows, path)
        get_run_logger().warning(
            "%d rows kept aside in %s; first: row %d: %s", len(bad_rows), path, bad_rows[0].row, bad_rows[0].reason
        )
    if cut := text_scores.cut_note(kept):
        get_run_logger().warning("%s", cut)
    return ProblemSet(
        fingerprint=key,
        dataset=config.dataset or config.source,
        revision=loaded.revision,
        shards=shards,
        rows=len(kept),
        bad_rows=len(bad_rows),
    )


def commit_problems(store: Store, problems: tuple[Problem, ...], *, shard_size: int) -> tuple[str, ...]:
    """Commit questions in shards of shard_size; returns the shard names."""
    committed = store.entries()
    shards = []
    for start in range(0, len(problems), shard_size):
        shard = f"{start // shard_size:05d}"
        shards.append(shard)
        if shard not in committed:
            with store.lease(shard, timeout_s=60) as lease:
                table = records.problems_to_table(problems[start : start + shard_size])
                store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta={})
    return tuple(shards)


@task(
    task_run_name="debate {spec.name} {shard}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def debate_shard(
    shard: str, *, spec: DebateSpec, home: Path, pool: EnginePool, lease_timeout_s: float
) -> dict[str, Any]:
    """Debate one shard on the next free engine; returns its counts."""
    problems = Store(home, stage="problems", fingerprint=spec.problems.fingerprint).read(shards=[shard])
    job = ShardJob(
        home=home,
        fingerprint=spec.fingerprint,
        shard=shard,
        problems=tuple(records.table_to_problems(problems)),
        plan=Plan(config=spec.debate, wording=spec.model.prompts, base_seed=spec.seed),
        dataset_revision=spec.problems.revision,
        teacher_revision=spec.model_revision,
        prompt_hash=spec.prompt_hash,
        config_hash=spec.fingerprint,
        lease_timeout_s=lease_timeout_s,
    )
    return pool.run(job)


@task(
    task_run_name="verify {debates} {shard}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def verify_shard(shard: str, *, debates: str, home: Path) -> dict[str, int]:
    """Verify every turn of one committed shard; returns the counts by verdict."""
    store = verdict_store(home, debates=debates)
    committed = store.entry(shard)
    if committed is not None:
        return dict(committed.meta)
    cases = _cases(home, debates=debates, shard=shard)
    with VERIFYING, Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many(list(cases.values()))
    return _commit_verdicts(store, shard, dict(zip(cases, verdicts, strict=True)))


@task(
    task_run_name="judge {debates} {shard}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=user_errors_are_final,
)
def judge_shard(shard: str, *, debates: str, judge: JudgeSetup, home: Path, pool: EnginePool | None) -> dict[str, int]:
    """Let the judge decide what the rules left undecided in one shard; returns the counts by verdict.

    pool is None where the rules left nothing in any shard; then their verdicts are committed as they are.
    """
    store = verdict_store(home, debates=debates, judge=judge.key)
    committed = store.entries().get(shard)
    if committed is not None:
        return dict(committed.meta)
    verdicts = records.table_to_verdicts(verdict_store(home, debates=debates).read(shards=[shard]))
    if any(verdict.label == "undecided" for verdict in verdicts.values()):
        assert pool is not None
        by_key = _cases(home, debates=debates, shard=shard)
        keys, rules = list(verdicts), list(verdicts.values())
        left = undecided([by_key[key] for key in keys], rules)
        job = JudgeJob(
            root=store.root,
            cases=tuple(left.values()),
            votes=judge.config.votes,
            sampling=judge.config.sampling,
        )
        rulings = dict(zip(left, pool.judge(job), strict=True))
        verdicts = dict(zip(keys, merge(rules, rulings), strict=True))
    return _commit_verdicts(store, shard, verdicts)


def _cases(home: Path, *, debates: str, shard: str) -> dict[records.TurnKey, Case]:
    """What is verified of every turn of a shard."""
    cases = {}
    for debate in read_debates(home, fingerprint=debates, shards=[shard]):
        problem = debate.problem
        for turn in debate.turns:
            # A turn without a usable answer is verified as an empty response: its verdict is never `correct`.
            response = turn.text if turn.status == "ok" else ""
            cases[(turn.work_id, turn.round, turn.agent)] = Case(
                response=response, gold=problem.gold, task=problem.task, question=problem.question
            )
    return cases


def _commit_verdicts(store: Store, shard: str, verdicts: dict[records.TurnKey, Verdict]) -> dict[str, int]:
    counts = dict(Counter(str(verdict.label) for verdict in verdicts.values()))
    with store.lease(shard, timeout_s=60) as lease:
        table = records.verdicts_to_table(verdicts)
        store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta=counts)
    return counts
