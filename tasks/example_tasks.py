"""Verified debates -> committed training examples (ledger stage `examples`, one part)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core import examples, prompts
from agentark_core.config import ExamplesConfig
from agentark_core.errors import EmptyDataset
from agentark_core.ledger import Store, fingerprint
from agentark_core.stored import JudgeKey, read_debates, read_verdicts, verdict_store

SHARD = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """Committed R-SFT examples: their Parquet file, content digest, and what was kept and dropped."""

    fingerprint: str
    path: Path
    digest: str
    rows: int
    counts: dict[str, int]


@task(task_run_name="build examples", cache_policy=NO_CACHE)
def build_examples(
    debates: list[str],
    *,
    config: ExamplesConfig,
    wording: prompts.Wording,
    home: Path,
    judge: JudgeKey | None = None,
) -> ExampleSet:
    """Select the traces of the debate runs (fingerprints) that become R-SFT examples (Eq. 1) and commit them.

    judge: whose verdicts count; None takes those of the rules alone.
    """
    parents = {name: verdict_store(home, debates=name, judge=judge).digest() for name in debates}
    key = fingerprint(
        "examples",
        parents=parents,
        config=config.model_dump(mode="json"),
        wording=wording,
        prompt_hash=prompts.prompt_hash(),
        code_schema=examples.EXAMPLES_VERSION,
    )
    store = Store(home, stage="examples", fingerprint=key, config={"debates": debates, "parents": parents})
    if SHARD not in store.entries():
        kept = []
        counts: dict[str, int] = {}
        for name in debates:
            built, reasons = examples.build(
                read_debates(home, fingerprint=name),
                read_verdicts(home, debates=name, judge=judge),
                config=config,
                wording=wording,
                source_fingerprint=name,
            )
            kept += built
            for reason, count in reasons.items():
                counts[reason] = counts.get(reason, 0) + count
        if not kept:
            raise EmptyDataset(
                f"no correct trace in {', '.join(debates)} ({counts}): there is nothing to train on; "
                "use a stronger teacher, more questions, or check the verdicts with `agentark debates`"
            )
        with store.lease(SHARD, timeout_s=60) as lease:
            store.commit(SHARD, examples.to_table(kept), lease=lease, config_hash=key, meta=counts)
    entry = store.entries()[SHARD]
    return ExampleSet(
        fingerprint=key,
        path=store.root / entry.file,
        digest=entry.sha256,
        rows=entry.rows,
        counts=dict(entry.meta),
    )
