"""Latency and cost of the methods of an evaluation under the same load, one model after the other.

It comes after the accuracy is written, and keeps nothing of a measurement that was cut short: a second start measures
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from prefect.logging import get_run_logger

from agentark_core.cluster import ray_cluster
from agentark_core.config import EngineConfig, EvaluateConfig, ModelConfig
from agentark_core.evaluation import STUDENT
from agentark_core.ledger import to_parquet
from agentark_core.ledger.files import write_durable
from agentark_core.load import summary, view
from agentark_core.load.footprint import Footprint
from agentark_core.load.query import Query, to_table
from agentark_core.load.summary import LoadReport
from tasks.load_tasks import measure_load
from tasks.trace_tasks import DebateSpec


def measure(
    specs: Mapping[str, DebateSpec],
    *,
    config: EvaluateConfig,
    engine_of: Callable[[ModelConfig], EngineConfig],
    home: Path,
    out: Path,
) -> LoadReport | None:
    """Every method on one engine of its model; the records of all queries go to the Parquet file out. None if
    evaluation.load asks for none. specs: the methods of the evaluation by name."""
    load = config.evaluation.load
    if not load.queries:
        return None
    ray_cluster.connect()
    chosen = timed(specs)
    queries: list[Query] = []
    models: list[Footprint] = []
    for number, model in enumerate(dict.fromkeys(spec.model for spec in chosen.values())):
        of_model = {name: spec for name, spec in chosen.items() if spec.model == model}
        found, asked = measure_load(
            of_model,
            engine=engine_of(model),
            load=load,
            seed=config.run.seed,
            home=home,
            folder=home / "runs" / config.run.name / "load" / str(number),
        )
        models.append(found)
        queries += asked
    write_durable(out, to_parquet(to_table(queries)))
    discussed = f"teacher {config.debate.strategy}"
    report = LoadReport(
        config=load,
        rows=tuple(summary.summarise(queries, load)),
        models=tuple(models),
        reference=discussed if discussed in chosen else None,
    )
    get_run_logger().info("\n%s", view.render_text(report))
    return report


def timed(specs: Mapping[str, DebateSpec]) -> dict[str, DebateSpec]:
    """The methods that differ in what they ask of an engine, the student's first: a sampled answer costs what a greedy
    one does, and a debate is the same however it is read."""
    chosen: dict[str, DebateSpec] = {}
    for name, spec in sorted(specs.items(), key=lambda item: item[0] != STUDENT):
        asked = {other.fingerprint for other in chosen.values()}
        if not name.endswith((" sampled", " single")) and spec.fingerprint not in asked:
            chosen[name] = spec
    return chosen


def metrics(report: LoadReport) -> dict[str, float]:
    """For MLflow: `load/teacher debate/2 per s/e2e_p95_ms`; also `.../closed loop/...` and `.../full batch/...`."""
    found: dict[str, float] = {}
    for row in report.rows:
        at = f"load/{row.method}/" + view.offered(row)
        found |= {f"{at}/e2e_p{100 * one.p:.0f}_ms": one.value for one in row.e2e_ms if one.value < float("inf")}
        found |= {f"{at}/ttft_p{100 * one.p:.0f}_ms": one.value for one in row.ttft_ms if one.value < float("inf")}
        found[f"{at}/engine_seconds_per_1000"] = row.engine_seconds_per_1000
        found[f"{at}/completion_tokens"] = row.completion_tokens
        found[f"{at}/throughput"] = row.throughput
    for model in report.models:
        if model.cold_start_s is not None:
            found[f"load/{model.methods[0]}/cold_start_s"] = model.cold_start_s
        found[f"load/{model.methods[0]}/peak_rss_bytes"] = model.peak_rss_bytes
    return found
