"""Records of queries -> percentiles with intervals, throughput, cost and gates, one row for each method and rate.

Terms are those of serving benchmarks (`vllm bench serve`): TTFT, time to first token; TPOT, time per output token after
the first; E2E, end-to-end latency; goodput, queries a second within the limit. All from when a query was due, over the
queries that count. A query that failed has an infinite latency: it cannot make a percentile better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from agentark_core.config import LoadConfig
from agentark_core.engine_time import covered
from agentark_core.load.footprint import Footprint
from agentark_core.load.query import Query
from agentark_core.statistics import Judgement, Quantile, below, quantile

PERCENTILES = (0.5, 0.95, 0.99)

STEADY = 0.1
"""Share of the queries that may still be open when the last one arrives. More means that the engine does not keep up
with the rate, or that the load is short against one latency: its percentiles are then those of this length alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A percentile of E2E latency held against a limit, both in ms: pass if its whole interval is below."""

    p: float
    limit_ms: float
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow:
    """One method at one rate (None: closed loop; infinite: a full batch, which has no gates).

    n: queries that count = sum of statuses. e2e_ms, ttft_ms: percentiles p50, p95, p99, those left out that n is too
    small for; ttft_ms is empty where answers come whole. tpot_ms: median over queries. throughput: ended queries a
    second, from the first arrival to the last end; goodput: those within the limits' lowest; None without a limit.
    busy_s: seconds between the two in which the engine had a query; engine_seconds_per_1000 follows from it. Tokens and
    calls are per query. open_at_end: share of the queries that had no end when the last one arrived. late_ms: the
    longest time between when a query was due and when it was begun.
    """

    method: str
    rate: float | None
    n: int
    questions: int
    statuses: dict[str, int]
    e2e_ms: tuple[Quantile, ...]
    ttft_ms: tuple[Quantile, ...]
    tpot_ms: float | None
    throughput: float
    goodput: float | None
    busy_s: float
    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float
    calls: float
    open_at_end: float
    late_ms: float
    gates: tuple[Gate, ...]

    @property
    def engine_seconds_per_1000(self) -> float:
        """Engine seconds of 1,000 queries at this load; times the GPUs of an engine, GPU seconds."""
        return 1_000 * self.busy_s / self.n

    @property
    def steady(self) -> bool:
        """Whether the load was long enough, and not too much, to say what a longer one would show."""
        return self.rate is None or self.rate == inf or self.open_at_end <= STEADY


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """All methods under all loads. reference: the method that costs are held against; None if there is no debate."""

    config: LoadConfig
    rows: tuple[LoadRow, ...]
    models: tuple[Footprint, ...]
    reference: str | None

    def costs_of_reference(self, row: LoadRow) -> float | None:
        """Engine seconds of a method over those of the reference at the same load."""
        same = [one for one in self.rows if one.method == self.reference and one.rate == row.rate]
        return row.engine_seconds_per_1000 / same[0].engine_seconds_per_1000 if same and same[0].busy_s else None


def summarise(queries: Sequence[Query], config: LoadConfig) -> list[LoadRow]:
    """A row for each method and rate, by rate, in the order of the records."""
    groups: dict[tuple[str, float | None], list[Query]] = {}
    for query in queries:
        if query.counted:
            groups.setdefault((query.method, query.rate), []).append(query)
    return [
        _row(found, others=[q for q in queries if not q.counted and (q.method, q.rate) == key], config=config)
        for key, found in sorted(groups.items(), key=lambda group: group[0][1] or 0.0)
    ]


def _row(counted: Sequence[Query], *, others: Sequence[Query], config: LoadConfig) -> LoadRow:
    n = len(counted)
    start, last, end = counted[0].arrival_s, counted[-1].arrival_s, max(query.end_s for query in counted)
    ttft = [query.ttft_s for query in counted]
    tpot = [query.tpot_s for query in counted if query.tpot_s is not None]
    limits = {} if counted[0].rate == inf else {0.95: config.p95_ms, 0.99: config.p99_ms}
    within_ms = min((limit for limit in limits.values() if limit), default=None)
    span_s = max(end - start, 1e-9)
    e2e_ms = _percentiles([1e3 * query.latency_s for query in counted])
    middle = quantile(tpot, 0.5) if tpot else None
    return LoadRow(
        method=counted[0].method,
        rate=counted[0].rate,
        n=n,
        questions=len({query.problem_id for query in counted}),
        statuses=dict(sorted(Counter(query.status for query in counted).items())),
        e2e_ms=e2e_ms,
        ttft_ms=() if None in ttft else _percentiles([1e3 * value for value in ttft if value is not None]),
        tpot_ms=1e3 * middle.value if middle else None,
        throughput=sum(query.status != "failed" for query in counted) / span_s,
        goodput=None
        if within_ms is None
        else sum(query.status == "answered" and 1e3 * query.latency_s < within_ms for query in counted) / span_s,
        busy_s=covered((max(query.sent_s, start), min(query.end_s, end)) for query in (*others, *counted)),
        prompt_tokens=sum(query.prompt_tokens for query in counted) / n,
        cached_tokens=sum(query.cached_tokens for query in counted) / n,
        completion_tokens=sum(query.completion_tokens for query in counted) / n,
        calls=sum(query.calls for query in counted) / n,
        open_at_end=sum(query.end_s > last for query in counted[:-1]) / n,
        late_ms=1e3 * max(query.sent_s - query.arrival_s for query in counted),
        gates=tuple(_gate(e2e_ms, p=p, limit_ms=limit) for p, limit in limits.items() if limit),
    )


def _percentiles(values: Sequence[float]) -> tuple[Quantile, ...]:
    return tuple(found for p in PERCENTILES if (found := quantile(values, p)) is not None)


def percentile(found: Sequence[Quantile], p: float) -> Quantile | None:
    """The one of a row's percentiles; None if its n is too small for it."""
    return next((one for one in found if one.p == p), None)


def _gate(e2e_ms: Sequence[Quantile], *, p: float, limit_ms: float) -> Gate:
    found = percentile(e2e_ms, p)
    judgement = below(limit_ms, low=found.low, high=found.high) if found else "not shown"
    return Gate(p=p, limit_ms=limit_ms, judgement=judgement)


def to_json(report: LoadReport) -> dict[str, Any]:
    """Plain data for strict JSON, where an infinite figure is null and an infinite rate "inf"; see `from_json`."""
    return {
        "config": report.config.model_dump(mode="json"),
        "rows": [_row_to_json(row) for row in report.rows],
        "models": [asdict(model) for model in report.models],
        "reference": report.reference,
    }


def from_json(data: Mapping[str, Any]) -> LoadReport:
    """The report that `to_json` wrote."""
    return LoadReport(
        config=LoadConfig.model_validate(data["config"]),
        rows=tuple(_row_from_json(row) for row in data["rows"]),
        models=tuple(Footprint(**model) for model in data["models"]),
        reference=data["reference"],
    )


def _row_to_json(row: LoadRow) -> dict[str, Any]:
    data: dict[str, Any] = asdict(row) | {"rate": "inf" if row.rate == inf else row.rate}
    for name in ("e2e_ms", "ttft_ms"):
        data[name] = [
            {key: None if value == inf else max(value, 0.0) if key == "low" else value for key, value in one.items()}
            for one in data[name]
        ]
    data["gates"] = list(data["gates"])
    return data | {"engine_seconds_per_1000": row.engine_seconds_per_1000, "steady": row.steady}


def _row_from_json(data: Mapping[str, Any]) -> LoadRow:
    def read(one: Mapping[str, Any]) -> Quantile:
        numbers: dict[str, Any] = {key: inf if value is None else value for key, value in one.items()}
        return Quantile(**numbers)

    derived = ("engine_seconds_per_1000", "steady")
    fields = {key: value for key, value in data.items() if key not in derived}
    fields["rate"] = None if data["rate"] is None else float(data["rate"])
    fields |= {name: tuple(read(one) for one in data[name]) for name in ("e2e_ms", "ttft_ms")}
    return LoadRow(**fields | {"gates": tuple(Gate(**gate) for gate in data["gates"])})
