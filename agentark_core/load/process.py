"""`python -m agentark_core.load.process JOB.json`: one model in a process of its own, under every load.

A fresh process, so that its cold start is what a restart of a service takes, and its memory is its own. It ends with
whoever holds the other end of its standard input.

It writes OUT.parquet (one row a query) and then OUT.json (its footprint), which says that all is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

from agentark_core import model_files, records
from agentark_core.config import DebateConfig, EngineConfig, LoadConfig, ModelConfig
from agentark_core.discussion import Plan
from agentark_core.engines.base import Engine
from agentark_core.engines.opening import open_engine
from agentark_core.errors import AgentArkError, EngineError
from agentark_core.ledger import Store, atomic_write_json, to_parquet
from agentark_core.load import footprint
from agentark_core.load.drive import Method, run_load
from agentark_core.load.query import Query, to_table
from agentark_core.types import Problem

FAILED = 70
"""Exit status of an error whose words are on the last line of standard output."""


async def measure(job: dict[str, Any]) -> None:
    """Start the engine, then every method at every rate, one after the other. Raises AgentArkError."""
    model, config = ModelConfig.model_validate(job["model"]), EngineConfig.model_validate(job["engine"])
    load, home, out = LoadConfig.model_validate(job["load"]), Path(job["home"]), Path(job["out"])
    problems = records.table_to_problems(Store(home, stage="problems", fingerprint=job["problems"]).read())
    methods = [
        Method(
            name=name,
            plan=Plan(config=DebateConfig.model_validate(how), wording=model.prompts, base_seed=job["debate_seed"]),
        )
        for name, how in job["methods"]
    ]
    load_average = os.getloadavg()[0]
    gpu_before = footprint.gpu_used() if config.num_gpus and config.kind == "vllm" else None
    engine = open_engine(model, config, home=home)
    try:
        cold_start_s = await _first_token(methods[0], engine=engine, problem=problems[0])
        queries: list[Query] = []
        rates: tuple[float | None, ...] = (*load.rates, inf) if load.rates else (None, inf)
        for rate in rates:
            for method in methods:
                queries += await run_load(
                    method,
                    engine=engine,
                    problems=problems,
                    config=load,
                    rate=rate,
                    slots=config.max_num_seqs,
                    seed=job["seed"],
                )
        here, _ = model_files.source(model, config)
        local = config.kind == "vllm" and here is not None
        parameters, size_bytes = footprint.weights(here) if local and here else (None, None)
        found = footprint.Footprint(
            model=model.path,
            methods=[method.name for method in methods],
            parameters=parameters,
            size_bytes=size_bytes,
            cold_start_s=cold_start_s if local else None,
            peak_rss_bytes=footprint.peak_rss(os.getpid()),
            gpu_bytes=None if gpu_before is None else footprint.gpu_used() - gpu_before,
            cpus=os.cpu_count() or 1,
            load_average=load_average,
        )
    finally:
        await engine.close()
    _write(out, queries=queries, found=found)


async def _first_token(method: Method, *, engine: Engine, problem: Problem) -> float:
    """Seconds from the start of this process to its first token."""
    import psutil

    once = LoadConfig(queries=1, warmup=0)
    began = time.time()
    (query,) = await run_load(method, engine=engine, problems=[problem], config=once, rate=None)
    if query.status == "failed":
        raise EngineError(f"{method.name}: the first query failed: {query.reason}")
    first_s = query.end_s if query.first_token_s is None else query.first_token_s
    return began + first_s - psutil.Process().create_time()


def _write(out: Path, *, queries: list[Query], found: footprint.Footprint) -> None:
    out.with_suffix(".parquet").write_bytes(to_parquet(to_table(queries)))
    atomic_write_json(out.with_suffix(".json"), asdict(found))


def _end_with_owner() -> None:
    """End this process and its engine once standard input is at its end."""
    import psutil

    def watch() -> None:
        # Not sys.stdin: a thread that holds its lock makes the interpreter's end a fatal error.
        while os.read(0, 1):
            pass
        for child in psutil.Process().children(recursive=True):
            child.kill()  # an engine that is still starting does not notice that its owner is gone
        os._exit(1)

    threading.Thread(target=watch, name="end-with-owner", daemon=True).start()


if __name__ == "__main__":
    _end_with_owner()
    try:
        asyncio.run(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    except AgentArkError as error:
        print(f"\n{error}", flush=True)
        sys.exit(FAILED)
