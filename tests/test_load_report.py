"""Latency and cost under load: percentiles, gates, cost, tables and footprints against values by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from agentark_core.config import EngineConfig, EvaluateConfig, LoadConfig, ModelConfig
from agentark_core.evaluation import STUDENT
from agentark_core.load import footprint, summary, view
from agentark_core.load.query import Query, from_table, to_table
from agentark_core.load.summary import LoadReport, LoadRow, summarise
from agentark_core.page import render_html
from agentark_core.report import load_chart
from agentark_core.statistics import quantile


def query(number: int, *, latency_ms: float = 1.0, **changes: Any) -> Query:
    """Due every second."""
    fields: dict[str, Any] = {
        "method": "m",
        "rate": 1.0,
        "number": number,
        "problem_id": f"p-{number}",
        "counted": True,
        "arrival_s": float(number),
        "sent_s": float(number),
        "first_token_s": number + latency_ms / 2e3,
        "end_s": number + latency_ms / 1e3,
        "tpot_s": 0.002,
        "calls": 2,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
        "status": "answered",
        "reason": "",
    }
    return Query(**fields | changes)


def test_percentiles_are_order_statistics_with_binomial_intervals() -> None:
    (row,) = summarise([query(n, latency_ms=n + 1) for n in np.random.default_rng(0).permutation(100)], LoadConfig())
    # Ranks l and u with P(l <= B < u) >= 0.95 for B ~ Binomial(100, p), tails of 2.5 %: tables of the binomial.
    assert [(q.p, q.value, q.low, q.high) for q in row.e2e_ms] == [
        (0.5, pytest.approx(50), pytest.approx(40), pytest.approx(61)),
        (0.95, pytest.approx(95), pytest.approx(90), pytest.approx(100)),
        (0.99, pytest.approx(99), pytest.approx(97), float("inf")),
    ]
    assert [q.value for q in row.ttft_ms] == pytest.approx([25, 47.5, 49.5])


@pytest.mark.parametrize(("n", "ps"), [(19, [0.5]), (20, [0.5, 0.95]), (99, [0.5, 0.95]), (100, [0.5, 0.95, 0.99])])
def test_a_percentile_that_only_the_slowest_query_would_tell_is_refused(n: int, ps: list[float]) -> None:
    (row,) = summarise([query(number) for number in range(n)], LoadConfig())
    assert [one.p for one in row.e2e_ms] == ps


def test_the_interval_of_a_percentile_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    truth = -np.log(0.05)  # p95 of the exponential
    found = [quantile(random.exponential(size=200), 0.95) for _ in range(1_000)]
    inside = np.mean([one is not None and one.low <= truth <= one.high for one in found])
    assert 0.94 < inside < 0.99, "at least 95 %, within two standard errors"


@pytest.mark.parametrize(
    ("limits", "judgements"),
    [
        ({"p95_ms": 101}, ["pass"]),  # p95 of 1..100 ms is 95 [90, 100]
        ({"p95_ms": 100}, ["not shown"]),
        ({"p95_ms": 90}, ["fail"]),
        ({"p95_ms": 90.5}, ["not shown"]),
        ({"p99_ms": 10_000}, ["not shown"]),  # no upper limit from 100 queries
        ({"p99_ms": 97}, ["fail"]),
        ({"p95_ms": 101, "p99_ms": 97}, ["pass", "fail"]),
        ({}, []),
    ],
)
def test_a_gate_passes_only_if_the_whole_interval_is_below(limits: dict[str, float], judgements: list[str]) -> None:
    # All are due at once, so that their latencies are exact binary numbers of ms.
    queries = [query(n, arrival_s=0.0, end_s=(n + 1) / 1000) for n in range(100)]
    (row,) = summarise(queries, LoadConfig.model_validate(limits))
    assert [gate.judgement for gate in row.gates] == judgements


def test_failed_queries_make_percentiles_worse_and_can_only_fail_a_gate() -> None:
    failed = [query(n, status="failed" if n < 50 else "answered") for n in range(100)]
    (row,) = summarise(failed, LoadConfig(p95_ms=1e9))
    middle, p95, _ = row.e2e_ms
    assert middle.value == pytest.approx(1) and p95.value == p95.low == float("inf")
    assert row.gates[0].judgement == "fail"
    assert "failed [-, -]" in view.render_text(report_of([row]))


def test_engine_seconds_are_those_with_a_query_between_first_arrival_and_last_end() -> None:
    spans = [(0.0, 1.0), (0.5, 2.0), (3.0, 4.0), (3.1, 3.2)]
    queries = [query(n, arrival_s=a, sent_s=a, end_s=b) for n, (a, b) in enumerate(spans, start=1)]
    (row,) = summarise([query(0, counted=False, arrival_s=-2.0, sent_s=-2.0, end_s=-1.0), *queries], LoadConfig())
    assert row.busy_s == pytest.approx(3.0) and row.engine_seconds_per_1000 == pytest.approx(750)
    assert row.throughput == pytest.approx(4 / 4.0)
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.calls) == (10, 4, 5, 2)
    (row,) = summarise([query(0, counted=False, arrival_s=0.0, sent_s=0.0, end_s=2.5), *queries], LoadConfig())
    assert row.busy_s == pytest.approx(3.5), "warm-up that still runs keeps the engine busy too"


def test_goodput_counts_answers_within_the_lowest_limit() -> None:
    (row,) = summarise([query(n, latency_ms=n + 0.5) for n in range(100)], LoadConfig(p95_ms=80, p99_ms=200))
    assert row.goodput == pytest.approx(80 / 99.0995) and row.throughput == pytest.approx(100 / 99.0995)
    (row,) = summarise([query(n, status="no_answer") for n in range(30)], LoadConfig(p95_ms=80))
    assert row.goodput == 0 and row.throughput > 0


def test_a_load_with_a_growing_queue_is_not_steady() -> None:
    kept_up = [query(n, latency_ms=1500) for n in range(50)]
    (row,) = summarise(kept_up, LoadConfig())
    assert row.steady and row.open_at_end == pytest.approx(1 / 50)
    (row,) = summarise([query(n, latency_ms=200 * n) for n in range(50)], LoadConfig())  # serves 5 of 6 that arrive
    assert not row.steady and row.open_at_end == pytest.approx(8 / 50), "those due after 40.8 s have no end at 49 s"


def test_time_to_first_token_is_left_out_where_answers_come_whole() -> None:
    (row,) = summarise([query(n, first_token_s=None) for n in range(100)], LoadConfig())
    assert row.ttft_ms == () and row.e2e_ms


def report_of(rows: list[LoadRow], **config: Any) -> LoadReport:
    model = footprint.Footprint(
        model="arkling:student",
        methods=["m"],
        parameters=10,
        size_bytes=20_000_000,
        cold_start_s=6.25,
        peak_rss_bytes=3_000_000,
        gpu_bytes=None,
        cpus=2,
        load_average=1.5,
    )
    return LoadReport(config=LoadConfig.model_validate(config), rows=tuple(rows), models=(model,), reference="debate")


def test_a_report_survives_strict_json_and_a_table_of_records_survives_parquet(tmp_path: Path) -> None:
    queries = [query(n, latency_ms=n + 1, status="failed" if n < 3 else "answered") for n in range(60)]
    queries += [query(n, method="debate", rate=None, first_token_s=None) for n in range(7)]
    queries += [query(n, method="debate", rate=float("inf")) for n in range(7)]
    report = report_of(summarise(queries, LoadConfig(p95_ms=80)), p95_ms=80)
    text = json.dumps(summary.to_json(report), allow_nan=False)
    assert summary.from_json(json.loads(text)) == report
    assert from_table(to_table(queries)) == queries


def test_costs_are_held_against_the_debate_at_the_same_load() -> None:
    rows = summarise(
        [
            query(n, method=method, rate=rate, latency_ms=latency)
            for rate in (1.0, 2.0)
            for method, latency in (("student", 10 * rate), ("debate", 40))
            for n in range(5)
        ],
        LoadConfig(),
    )
    report = report_of(rows)
    assert [report.costs_of_reference(row) for row in rows] == pytest.approx([0.25, 1, 0.5, 1])
    assert "25.0" in view.render_text(report)


def test_the_tables_say_what_is_missing_lost_and_repeated() -> None:
    queries = [
        query(n, method=STUDENT, problem_id=f"p-{n % 4}", status="no_answer" if n < 2 else "answered")
        for n in range(30)
    ]
    report = report_of(summarise(queries, LoadConfig(p95_ms=80, p99_ms=200)))
    text = view.render_markdown(report)
    assert "## Latency and cost under load" in text and "- (n = 30)" in text.replace("\\", "")
    assert "p95 not shown, p99 not shown" in text
    assert view.points(report) == [
        f"{STUDENT}, 1 per s: p95 1.0 [1.0, -] ms against 80 ms: not shown",
        f"{STUDENT}, 1 per s: p99 - (n = 30) ms against 200 ms: not shown",
        f"{STUDENT}, 1 per s: of 30 queries 2 no_answer",
        f"{STUDENT}, 1 per s: 4 questions for 30 queries, so prompts repeat and are cached",
    ]


@pytest.mark.parametrize(("late_ms", "latency_ms", "said"), [(30, 100, True), (30, 400, False), (15, 100, False)])
def test_a_client_that_was_late_is_pointed_out(late_ms: float, latency_ms: float, said: bool) -> None:
    queries = [query(n, latency_ms=latency_ms, sent_s=n + (late_ms / 1e3 if n == 7 else 0)) for n in range(20)]
    lines = view.points(report_of(summarise(queries, LoadConfig())))
    assert any("begun 30.0 ms late" in line for line in lines) == said


def test_the_chart_has_every_method_and_rate_and_needs_two_rates() -> None:
    queries = [
        query(n, method=method, rate=rate, latency_ms=30 / rate)
        for rate in (1.0, 2.0)
        for method in ("distilled student greedy", "teacher <b>debate")
        for n in range(25)
    ]
    report = report_of(summarise(queries, LoadConfig()), rates=[1, 2], p95_ms=80)
    (drawn,) = load_chart.figures(report)
    assert drawn.startswith("<svg") and "2 queries a second, p95 15 ms" in drawn and "<b>" not in drawn
    assert "Latency and cost under load" in render_html("r", [view.section(report, figures=[drawn])])
    assert load_chart.figures(report_of(list(report.rows), rates=[1])) == []


def test_the_size_of_a_model_is_read_from_the_headers_of_its_files(tmp_path: Path) -> None:
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "model-2.safetensors")
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert footprint.weights(tmp_path) == (2 * 3 + 4 + 1, size)


def test_peak_memory_counts_children_and_what_was_given_back() -> None:
    code = "a = bytearray(80 << 20); del a; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        alone = footprint.peak_rss(child.pid)
        assert alone > 80 << 20 > psutil.Process(child.pid).memory_info().rss
        assert footprint.peak_rss(os.getpid()) >= alone + psutil.Process().memory_info().rss
        child.stdin.close()


def test_memory_of_several_gpus_adds_up() -> None:
    assert footprint.used_bytes("512\n1024\n") == 1536 * 2**20


def test_the_measuring_process_ends_with_its_owner(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    os.mkfifo(job)  # it waits for its job for ever
    command = [sys.executable, "-m", "agentark_core.load.process", str(job)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=60) == 1


def test_what_has_no_latency_or_two_kinds_of_load_is_refused() -> None:
    model = ModelConfig(path="arkling:student")
    load: dict[str, Any] = {"load": {"queries": 5}}
    with pytest.raises(ValueError, match="recorded generations have no latency"):
        EvaluateConfig(
            student=model, teacher=model, engine=EngineConfig(kind="replay", replay="00000000000000d1"), evaluation=load
        )
    with pytest.raises(ValueError, match="give one of them"):
        LoadConfig(rates=[1.0], concurrency=4)
    with pytest.raises(ValueError, match="twice"):
        LoadConfig(rates=[1.0, 1.0])
    with pytest.raises(ValueError, match="finite"):
        LoadConfig(rates=[float("inf")])
