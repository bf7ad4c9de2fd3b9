"""Questions and ways of answering -> records of queries under load, one process for each model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core.cluster import ray_load
from agentark_core.config import EngineConfig, LoadConfig
from agentark_core.ledger import atomic_write_text
from agentark_core.load.footprint import Footprint
from agentark_core.load.query import Query, from_table
from tasks.trace_tasks import DebateSpec


@task(task_run_name="load {folder.name}", cache_policy=NO_CACHE)
def measure_load(
    specs: dict[str, DebateSpec],
    *,
    engine: EngineConfig,
    load: LoadConfig,
    seed: int,
    home: Path,
    folder: Path,
) -> tuple[Footprint, list[Query]]:
    """Every way of answering of one model, at every rate. specs: by name of the method, all of one model and on the
    same questions. folder: for what the process leaves; an earlier measurement there is made again."""
    first = next(iter(specs.values()))
    shutil.rmtree(folder, ignore_errors=True)
    out = folder / "queries"
    job: dict[str, Any] = {
        "home": str(home),
        "problems": first.problems.fingerprint,
        "model": first.model.model_dump(mode="json"),
        "engine": engine.model_dump(mode="json"),
        "load": load.model_dump(mode="json"),
        "methods": [(name, spec.debate.model_dump(mode="json")) for name, spec in specs.items()],
        "debate_seed": first.seed,
        "seed": seed,
        "out": str(out),
    }
    path = folder / "job.json"
    atomic_write_text(path, json.dumps(job, indent=2))
    ray_load.measure(path, engine=engine)
    found = Footprint(**json.loads(out.with_suffix(".json").read_text(encoding="utf-8")))
    table = pq.read_table(out.with_suffix(".parquet"), page_checksum_verification=True)
    return found, from_table(table)
