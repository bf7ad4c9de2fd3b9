"""A LoadReport for the eye: tables, the gates in words, Markdown and plain text. No figures are computed here."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from agentark_core import terminal
from agentark_core.evaluation import STUDENT
from agentark_core.load.footprint import Footprint
from agentark_core.load.summary import LoadReport, LoadRow, percentile
from agentark_core.page import Section, Table, render_sections
from agentark_core.statistics import Quantile
from agentark_core.terminal import counts

TITLE = "Latency and cost under load"
_LATENCY = (
    "method",
    "load",
    "n",
    "TTFT p50, ms [95 %]",
    "E2E p50, ms [95 %]",
    "E2E p95, ms [95 %]",
    "E2E p99, ms [95 %]",
    "TPOT, ms",
    "ended, queries/s",
    "goodput, queries/s",
    "steady",
    "gates",
)
_COST = (
    "method",
    "load",
    "ended, queries/s",
    "engine seconds / 1,000 queries",
    "of the debate's, %",
    "prompt tokens / query",
    "of them cached",
    "completion tokens / query",
    "calls / query",
)
_MODELS = (
    "model",
    "methods",
    "parameters",
    "weights, MB",
    "peak memory, MB",
    "GPU memory, MB",
    "cold start, s",
    "CPUs",
    "load average before",
)
_WIDTH = 160
LATE_MS, LATE = 20.0, 0.1
"""A query that is begun later than this, and later than this share of the median latency, is pointed out."""
_LATENCY_NOTE = (
    "From when a query was due to its first token (TTFT) and its end (E2E); a failed query is infinitely slow. TTFT of "
    "a vote is its end: there is no answer before. Intervals: order statistics, which take queries as independent; -: "
    "none from so few. TPOT: median time per output token after the first. goodput: answered within the lowest limit. "
    "steady: no, if more than 10 % of the queries were open when the last one arrived; a longer load would be slower, "
    "or this one is short against its latency."
)
_COST_NOTE = (
    "Engine seconds: time in which the engine had a query, from the first arrival to the last end; times the GPUs of "
    "an engine, GPU seconds. An engine with little to do is busy with small batches, so compare methods at the same "
    "load. Full batch: as many queries at a time as the engine has slots; its throughput is the capacity, its cost the "
    "least."
)
_MODELS_NOTE = (
    "One fresh process a model: peak memory is the sum of the peaks of its processes, key-value cache and the client "
    "included; the cold start, from process start to first token, was measured once."
)


def tables(report: LoadReport) -> list[Table]:
    """Latency, cost, models."""
    return [
        Table(headers=_LATENCY, rows=[_latency(row) for row in report.rows if row.rate != inf], note=_LATENCY_NOTE),
        Table(headers=_COST, rows=[_cost(row, report=report) for row in report.rows], note=_COST_NOTE),
        Table(headers=_MODELS, rows=[_model(model) for model in report.models], left=2, note=_MODELS_NOTE),
    ]


def points(report: LoadReport) -> list[str]:
    """The student's gates, and what was lost, late or repeated."""
    lines = [
        f"{row.method}, {offered(row)}: p{100 * gate.p:.0f} {_of(row.e2e_ms, gate.p, n=row.n)} ms against "
        f"{gate.limit_ms:g} ms: {gate.judgement}"
        for row in report.rows
        if row.method == STUDENT
        for gate in row.gates
    ]
    for row in report.rows:
        if lost := {name: number for name, number in row.statuses.items() if name != "answered"}:
            lines.append(f"{row.method}, {offered(row)}: of {row.n:,} queries {counts(lost)}")
        if row.late_ms > max(LATE_MS, LATE * row.e2e_ms[0].value if row.e2e_ms else 0.0) and row.rate != inf:
            lines.append(
                f"{row.method}, {offered(row)}: a query was begun {_ms(row.late_ms)} ms late: the machine was too "
                "busy to send it in time, and its latencies are more than the engine's"
            )
        if row.questions < row.n:
            lines.append(
                f"{row.method}, {offered(row)}: {row.questions:,} questions for {row.n:,} queries, so prompts repeat "
                "and are cached"
            )
    return lines


def offered(row: LoadRow) -> str:
    """The load in words."""
    return "closed loop" if row.rate is None else "full batch" if row.rate == inf else f"{row.rate:g} per s"


def section(report: LoadReport, *, figures: Sequence[str] = ()) -> Section:
    """All of it for a page."""
    return Section(title=TITLE, points=points(report), figures=figures, tables=tables(report))


def render_markdown(report: LoadReport) -> str:
    """A section of Markdown with its heading."""
    return render_sections([section(report)])


def render_text(report: LoadReport) -> str:
    """For a terminal."""
    page = terminal.page()
    page.width = _WIDTH
    for shown in tables(report):
        made = terminal.table(*shown.headers)
        for row in shown.rows:
            terminal.add_row(made, *row)
        page.print(made)
        page.print(shown.note)
    for line in points(report):
        page.print(line)
    return terminal.text(page)


def _latency(row: LoadRow) -> tuple[str, ...]:
    return (
        row.method,
        offered(row),
        f"{row.n:,}",
        _of(row.ttft_ms, 0.5, n=row.n) if row.ttft_ms else "-",
        *(_of(row.e2e_ms, p, n=row.n) for p in (0.5, 0.95, 0.99)),
        "-" if row.tpot_ms is None else _ms(row.tpot_ms),
        f"{row.throughput:.3g}",
        "-" if row.goodput is None else f"{row.goodput:.3g}",
        "yes" if row.steady else f"no, {100 * row.open_at_end:.0f} % open",
        ", ".join(f"p{100 * gate.p:.0f} {gate.judgement}" for gate in row.gates) or "-",
    )


def _cost(row: LoadRow, *, report: LoadReport) -> tuple[str, ...]:
    share = report.costs_of_reference(row)
    return (
        row.method,
        offered(row),
        f"{row.throughput:.3g}",
        f"{row.engine_seconds_per_1000:,.1f}",
        "-" if share is None else f"{100 * share:.1f}",
        f"{row.prompt_tokens:,.1f}",
        f"{row.cached_tokens:,.1f}",
        f"{row.completion_tokens:,.1f}",
        f"{row.calls:.1f}",
    )


def _model(model: Footprint) -> tuple[str, ...]:
    return (
        model.model,
        ", ".join(model.methods),
        "-" if model.parameters is None else f"{model.parameters:,}",
        *("-" if size is None else f"{size / 1e6:,.1f}" for size in (model.size_bytes, model.peak_rss_bytes)),
        "-" if model.gpu_bytes is None else f"{model.gpu_bytes / 1e6:,.0f}",
        "-" if model.cold_start_s is None else f"{model.cold_start_s:.1f}",
        str(model.cpus),
        f"{model.load_average:.1f}",
    )


def _of(found: Sequence[Quantile], p: float, *, n: int) -> str:
    one = percentile(found, p)
    if one is None:
        return f"- (n = {n})"
    low, high = ("-" if abs(limit) == inf else _ms(limit) for limit in (one.low, one.high))
    return f"{_ms(one.value)} [{low}, {high}]"


def _ms(value: float) -> str:
    return "failed" if value == inf else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
