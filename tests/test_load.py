"""Latency and cost under load: queries against a scripted engine in virtual time, figures against values by hand."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file
from scripted import boxed

from agentark_core.config import DebateConfig, EngineConfig, EvaluateConfig, LoadConfig, ModelConfig
from agentark_core.discussion import Plan
from agentark_core.engines.base import Prompt, Request
from agentark_core.errors import EngineDied, EngineError
from agentark_core.evaluation import STUDENT
from agentark_core.load import footprint, summary, view
from agentark_core.load.drive import Method, arrivals, run_load
from agentark_core.load.query import Query, from_table, to_table
from agentark_core.load.summary import LoadReport, LoadRow, summarise
from agentark_core.page import render_html
from agentark_core.report import load_chart
from agentark_core.statistics import quantile
from agentark_core.types import Generation, Message, Problem

PROBLEMS = [
    Problem(problem_id=f"p-{number}", dataset="t", task="number", question=f"{number} + 0?", gold=str(number))
    for number in range(6)
]
SINGLE = {"num_agents": 1, "num_rounds": 1, "quorum": 0, "summariser": "never"}


class _Clock(selectors.SelectSelector):
    """Time passes only while everything waits, and then at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Clock()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def virtually(work: Coroutine[Any, Any, list[Query]]) -> list[Query]:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


class Server:
    """Serves `slots` requests at a time, in the order of asking; seconds(request) each, its first token after a
    quarter of them. A completion has 4 tokens."""

    max_model_len = 10_000

    def __init__(self, seconds: Callable[[Request], float] = lambda request: 1.0, *, slots: int = 1) -> None:
        self._seconds, self._slots = seconds, asyncio.Semaphore(slots)
        self.asked: list[Request] = []
        self.resets = 0

    def prompt(self, messages: list[Message]) -> Prompt:
        return Prompt(messages=tuple(messages), token_ids=(1,) * 7, length=7)

    async def generate(self, request: Request) -> Generation:
        now = asyncio.get_running_loop().time
        begun = now()
        self.asked.append(request)
        async with self._slots:
            seconds = self._seconds(request)
            await asyncio.sleep(seconds / 4)
            ttft_s = now() - begun
            await asyncio.sleep(3 * seconds / 4)
        return Generation(
            text=boxed(request.agent),
            prompt_tokens=7,
            cached_tokens=3,
            completion_tokens=4,
            finish_reason="stop",
            ttft_s=ttft_s,
        )

    async def reset_prefix_cache(self) -> None:
        self.resets += 1


def ask(
    server: Server, *, how: dict[str, Any] | None = None, rate: float | None = None, slots: int = 1, **load: Any
) -> list[Query]:
    method = Method(
        name="m", plan=Plan(config=DebateConfig.model_validate(how or SINGLE), wording="general", base_seed=0)
    )
    config = LoadConfig.model_validate({"warmup": 0, **load})
    engine: Any = server
    return virtually(run_load(method, engine=engine, problems=PROBLEMS, config=config, rate=rate, slots=slots, seed=3))


def test_arrivals_are_a_seeded_poisson_process_that_other_rates_stretch() -> None:
    times = arrivals(20_000, rate=4.0, seed=1)
    gaps = np.diff(times)
    assert times[0] == 0 and times == arrivals(20_000, rate=4.0, seed=1) != arrivals(20_000, rate=4.0, seed=2)
    assert abs(gaps.mean() - 0.25) < 4 * 0.25 / len(gaps) ** 0.5, "1 / rate, within four standard errors"
    assert abs(gaps.std() / gaps.mean() - 1) < 0.03, "the standard deviation of an exponential is its mean"
    assert np.allclose(np.array(arrivals(50, rate=1.0, seed=1)), 4 * np.array(times[:50]))
    assert arrivals(1, rate=2.0, seed=0) == [0.0] and arrivals(0, rate=2.0, seed=0) == []


def test_in_an_open_loop_queries_wait_as_the_recursion_of_a_queue_says() -> None:
    server = Server()
    queries = ask(server, rate=0.9, queries=12, warmup=3)
    due = arrivals(15, rate=0.9, seed=3)
    ends: list[float] = []
    for arrival in due:
        ends.append(max([arrival, *ends[-1:]]) + 1.0)  # Lindley: one server, one second each
    assert [query.arrival_s for query in queries] == pytest.approx(due)
    assert [query.end_s for query in queries] == pytest.approx(ends)
    assert [query.first_token_s for query in queries] == pytest.approx([end - 0.75 for end in ends])
    assert [query.tpot_s for query in queries] == pytest.approx([0.25] * 15), "0.75 s over the 3 tokens after the first"
    assert [query.counted for query in queries] == [False] * 3 + [True] * 12
    assert [query.problem_id for query in queries] == [f"p-{number % 6}" for number in range(15)]
    assert any(later.end_s - later.arrival_s > 1 for later in queries), "somebody had to wait"
    assert [request.priority for request in server.asked] == list(range(15)) and server.resets == 1


def test_in_a_closed_loop_the_next_query_begins_when_one_ends() -> None:
    queries = ask(Server(slots=2), queries=6, concurrency=2)
    assert [query.arrival_s for query in queries] == pytest.approx([0, 0, 1, 1, 2, 2])
    assert [query.end_s for query in queries] == pytest.approx([1, 1, 2, 2, 3, 3])
    assert all(query.rate is None for query in queries)


def test_a_full_batch_takes_the_questions_that_count_and_keeps_every_slot_at_work() -> None:
    server = Server(slots=3)
    queries = ask(server, rate=float("inf"), queries=6, warmup=2, slots=3)
    assert [query.number for query in queries] == [2, 3, 4, 5, 6, 7] and all(query.counted for query in queries)
    assert [query.end_s for query in queries] == pytest.approx([1, 1, 1, 2, 2, 2])
    (row,) = summarise(queries, LoadConfig(p95_ms=1))
    assert row.throughput == pytest.approx(3) and row.engine_seconds_per_1000 == pytest.approx(1_000 / 3)
    assert row.steady and not row.gates, "its latency is nobody's"


def test_a_stall_is_seen_by_all_that_were_due_meanwhile_and_by_one_of_a_closed_loop() -> None:
    def stall(request: Request) -> float:
        return 10.0 if request.work_id == "load-2" else 0.001

    slow = [sum(query.latency_s > 1 for query in ask(Server(stall), rate=rate, queries=40)) for rate in (2.0, None)]
    assert slow[0] > 10 and slow[1] == 1


def test_the_latency_of_a_vote_is_that_of_its_last_sample_and_so_is_its_first_token() -> None:
    server = Server(lambda request: float(request.agent), slots=9)
    (query,) = ask(server, how={"strategy": "self_consistency", "num_agents": 3}, queries=1)
    assert (query.end_s, query.first_token_s) == pytest.approx((3.0, 3.0))
    assert (query.calls, query.prompt_tokens, query.cached_tokens, query.completion_tokens) == (3, 21, 9, 12)
    assert query.tpot_s == pytest.approx((0.25 + 0.5 + 0.75) / 3)


def test_the_first_token_of_a_debate_is_the_summarisers_if_one_speaks() -> None:
    rounds = {"num_agents": 2, "num_rounds": 2, "quorum": 0}
    for summariser, first, end in (("always", 2.25, 3.0), ("never", 2.0, 2.0)):
        (query,) = ask(Server(slots=9), how={**rounds, "summariser": summariser}, queries=1)
        assert (query.first_token_s, query.end_s) == pytest.approx((first, end))


def test_an_error_or_a_timeout_is_the_end_of_its_query_alone_and_nothing_is_lost() -> None:
    def odd(request: Request) -> float:
        if request.work_id == "load-1":
            raise EngineError("HTTP 500")
        return 50.0 if request.work_id == "load-2" else 1.0

    queries = ask(Server(odd, slots=9), queries=5, timeout_s=20)
    assert [query.status for query in queries] == ["answered", "failed", "failed", "answered", "answered"]
    assert [query.reason for query in queries[1:3]] == ["HTTP 500", "no end after 20 s"]
    assert queries[2].end_s - queries[2].arrival_s == pytest.approx(20) and queries[2].latency_s == float("inf")
    (row,) = summarise(queries, LoadConfig(queries=5))
    assert row.n == 5 == sum(row.statuses.values()) and row.statuses == {"answered": 3, "failed": 2}


def test_a_dead_engine_is_the_end_of_all() -> None:
    def dead(request: Request) -> float:
        raise EngineDied("gone")

    with pytest.raises(EngineDied, match="gone"):
        ask(Server(dead), rate=1.0, queries=5)


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
