"""The stage that build-traces and evaluate-model share: debate runs of one model, committed and verified.

Engines start only if a shard is missing, and the shards of all specs go to the same engines at once, so that the tail
of one run overlaps the head of the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger

from agentark_core.cluster import ray_pool
from agentark_core.config import EngineConfig, ModelConfig
from agentark_core.errors import EmptyDataset, Stopped
from agentark_core.judge import JudgeSetup
from agentark_core.ledger import ManifestEntry, Store
from agentark_core.stored import RUN_LEASE, verdict_store
from agentark_core.tracking import Run
from flows.debate_progress import shown
from flows.ending import ended_in_order
from tasks.trace_tasks import DebateSpec, debate_shard, judge_shard, verify_shard

Totals = dict[str, Any]


def complete_debates(
    specs: list[DebateSpec],
    *,
    model: ModelConfig,
    engine: EngineConfig,
    home: Path,
    judge: JudgeSetup | None = None,
    track: Run | None = None,
) -> dict[str, Totals]:
    """Debate and verify every shard of every spec; returns the totals of each spec by its name.

    judge takes what the rules leave undecided. track: the MLflow run that gets figures while the debates run.
    """
    for spec in specs:
        if spec.problems.rows == 0:
            raise EmptyDataset(f"{spec.name}: no question left to debate; check problems.limit and problems.offset")
    if unfinished := {spec.fingerprint: spec for spec, _ in _missing(specs, home=home)}:
        with ExitStack() as stack:
            # One flow at a time works on a debate run; a second one ends at once with AlreadyRunning (F16).
            for spec in unfinished.values():
                store = spec.store(home, run_id=str(runtime.flow_run.name))
                stack.enter_context(store.lease(RUN_LEASE, timeout_s=engine.lease_timeout_s))
            pool = stack.enter_context(ray_pool.engine_pool(model=model, engine=engine, home=home))
            pool.start()
            futures = [
                debate_shard.submit(shard, spec=spec, home=home, pool=pool, lease_timeout_s=engine.lease_timeout_s)
                for spec, shard in _missing(specs, home=home)
            ]
            with ended_in_order(pool.stop), shown(list(unfinished), home=home, track=track):
                wait_for(futures, stop=pool.stop)
    verify_all({spec.fingerprint: spec.problems.shards for spec in specs}, home=home, judge=judge)
    return {spec.name: totals(spec, home=home, judge=judge) for spec in specs}


def wait_for(futures: list[PrefectFuture[Any]], *, stop: Callable[[str], None]) -> None:
    """Wait for all shards. The first that stops (a cap, a signal) stops the others, which then have their time to
    finish what is in the engines; any other error ends it at once."""
    stopped: Stopped | None = None
    for future in as_completed(futures):
        try:
            future.result()
        except Stopped as error:
            if stopped is None:
                stop(str(error))
            stopped = stopped or error
    if stopped is not None:
        raise stopped


def _missing(specs: list[DebateSpec], *, home: Path) -> list[tuple[DebateSpec, str]]:
    """Every (spec, shard) that is not committed, or not sound. Two specs may be the same work under two names."""
    missing = {
        (spec.fingerprint, shard): (spec, shard)
        for spec in specs
        for shard in sorted(
            set(spec.problems.shards) - sound_entries(spec.store(home), shards=spec.problems.shards).keys()
        )
    }
    return list(missing.values())


def sound_entries(store: Store, *, shards: tuple[str, ...]) -> dict[str, ManifestEntry]:
    """Manifest entries whose parts match their checksums; the others are set aside, to be made again (F24)."""
    for shard in shards:
        if store.mark_corrupt(shard):
            get_run_logger().warning("%s: shard %s is corrupt and set aside; it is made again", store.root, shard)
    return store.entries()


def verify_all(runs: dict[str, tuple[str, ...]], *, home: Path, judge: JudgeSetup | None = None) -> None:
    """Verify the shards (by fingerprint of their debates) that have no committed verdicts yet: rules, then judge."""
    futures = [
        verify_shard.submit(shard, debates=debates, home=home)
        for debates, shards in runs.items()
        for shard in uncommitted(verdict_store(home, debates=debates), shards=shards)
    ]
    for future in futures:
        future.result()
    if judge is not None:
        _judge_all(runs, home=home, judge=judge)


def _judge_all(runs: dict[str, tuple[str, ...]], *, home: Path, judge: JudgeSetup) -> None:
    """The judge's part. Its engines start only if the rules left something in a shard that it has not judged."""
    missing = [
        (debates, shard)
        for debates, shards in runs.items()
        for shard in uncommitted(verdict_store(home, debates=debates, judge=judge.key), shards=shards)
    ]
    rules = {debates: verdict_store(home, debates=debates).entries() for debates in runs}
    undecided = any(rules[debates][shard].meta.get("undecided") for debates, shard in missing)
    with engines_if(undecided, model=judge.config.model, engine=judge.engine, home=home) as pool:
        futures = [
            judge_shard.submit(shard, debates=debates, judge=judge, home=home, pool=pool) for debates, shard in missing
        ]
        wait_for(futures, stop=pool.stop if pool else lambda reason: None)


@contextmanager
def engines_if(
    needed: bool, /, *, model: ModelConfig, engine: EngineConfig, home: Path
) -> Iterator[ray_pool.EnginePool | None]:
    """Started engines that end in order, or None where there is nothing for them to do."""
    if not needed:
        yield None
        return
    with ray_pool.engine_pool(model=model, engine=engine, home=home) as pool:
        pool.start()
        with ended_in_order(pool.stop):
            yield pool


def uncommitted(store: Store, *, shards: tuple[str, ...]) -> list[str]:
    """The shards that are not committed, or not sound (see sound_entries)."""
    committed = sound_entries(store, shards=shards)
    return [shard for shard in shards if shard not in committed]


def totals(spec: DebateSpec, *, home: Path, judge: JudgeSetup | None = None) -> Totals:
    """Sums over the manifest entries of one debate run and its verdicts, these also by the method that decided."""
    sums: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    stop_reasons: Counter[str] = Counter()
    for entry in spec.store(home).entries().values():
        statuses.update(entry.meta["statuses"])
        stop_reasons.update(entry.meta["stop_reasons"])
        sums.update({key: value for key, value in entry.meta.items() if isinstance(value, (int, float))})
    verdicts: Counter[str] = Counter()
    verdict_shards = verdict_store(home, debates=spec.fingerprint, judge=judge.key if judge else None)
    for entry in verdict_shards.entries().values():
        verdicts.update(entry.meta)
    methods: Counter[str] = Counter()
    for table in verdict_shards.batches(columns=["method"]):
        methods.update(table.column("method").to_pylist())
    assert sums["turns"] == sum(statuses.values()) == sum(verdicts.values()), "turns in = statuses = verdicts"
    return {
        **sums,
        "statuses": dict(statuses),
        "stop_reasons": dict(stop_reasons),
        "verdicts": dict(verdicts),
        "verdict_methods": dict(sorted(methods.items())),
        "fingerprint": spec.fingerprint,
        "manifest_digest": spec.store(home).digest(),
    }
