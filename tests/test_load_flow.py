"""evaluate-model under load on the real stack: a shipped model on vLLM in a fresh process."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agentark_core.arkling import model_path
from agentark_core.load.drive import arrivals
from agentark_core.load.query import Query, from_table

pytestmark = pytest.mark.slow


def test_every_method_is_asked_the_same_at_the_same_times_and_its_cost_is_reported(
    agentark: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    load = {"queries": 6, "warmup": 2, "rates": [10, 40], "p95_ms": 80}
    config = {
        "run": {"name": "test", "home": str(home)},
        # One model in both roles, so that its engine starts once for the answers and once for the load.
        "student": {"path": "arkling:teacher", "prompts": "arkling"},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {
            "num_agents": 3,
            "num_rounds": 2,
            "quorum": 0,
            "summariser": "always",
            "sampling": {"temperature": 0.9, "max_tokens": 96},
        },
        "engine": {"kv_cache_gib": 0.125, "max_num_seqs": 64},
        "evaluation": {"problems": {"source": "arkling", "split": "test", "limit": 8}, "load": load},
    }
    agentark("run", "evaluate-model", config)
    reports = home / "reports" / "test"
    measured = json.loads((reports / "evaluation.json").read_text())["load"]
    calls = {"distilled student greedy": 1, "teacher majority@7": 7, "teacher debate": 7}
    rows = {(row["method"], row["rate"]): row for row in measured["rows"]}
    assert rows.keys() == {(name, rate) for name in calls for rate in (10.0, 40.0, "inf")}
    for (name, rate), row in rows.items():
        assert row["n"] == 6 == sum(row["statuses"].values()) and "failed" not in row["statuses"]
        assert row["calls"] == calls[name] and row["completion_tokens"] > row["calls"]
        assert row["engine_seconds_per_1000"] > 0 and len(row["gates"]) == (rate != "inf")

    asked = from_table(pq.read_table(reports / "load.parquet"))
    assert len(asked) == len(calls) * (2 + 6 + 2 + 6 + 6)
    of: dict[tuple[str, float | None], list[Query]] = {}
    for query in asked:
        of.setdefault((query.method, query.rate), []).append(query)
    for (_, rate), queries in of.items():
        assert rate is not None
        ids = [query.problem_id for query in asked[:8]]
        assert [query.problem_id for query in queries] == (ids if isfinite(rate) else ids[2:])
        if isfinite(rate):
            assert [query.arrival_s for query in queries] == pytest.approx(arrivals(8, rate=rate, seed=0))
    for query in asked:
        assert query.arrival_s <= query.sent_s
        assert query.first_token_s is not None and query.sent_s < query.first_token_s <= query.end_s
        assert (query.first_token_s == query.end_s) == ("majority" in query.method), "a vote shows nothing before"

    (model,) = measured["models"]
    record = json.loads((model_path("teacher") / "training_record.json").read_text())
    assert (model["methods"], model["parameters"]) == ([*calls], record["parameters"])
    assert model["size_bytes"] == (model_path("teacher") / "model.safetensors").stat().st_size
    assert model["cold_start_s"] > 0.5 and model["peak_rss_bytes"] > 200e6 and model["gpu_bytes"] is None
    assert "## Latency and cost under load" in (reports / "evaluation.md").read_text(encoding="utf-8")
    page = (reports / "report.html").read_text(encoding="utf-8")
    assert "Latency and cost under load" in page and "Chart of end-to-end latency against offered load" in page
    with sqlite3.connect(home / "mlflow.db") as database:
        keys = {key for (key,) in database.execute("select key from metrics where key like 'load/%'")}
    assert "load/teacher debate/40 per s/e2e_p50_ms" in keys and "load/distilled student greedy/cold_start_s" in keys
