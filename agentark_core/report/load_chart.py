"""Latency against offered load as SVG: the median as a thin line, p95 with its interval as a thick one."""

from __future__ import annotations

from math import isfinite, nan

from agentark_core.figures import BLUE, GREEN, ORANGE, PAGE, name, panels, style, svg
from agentark_core.load.summary import LoadReport, LoadRow, percentile

_MARKERS = ("o", "s", "^", "D", "v")


def figures(report: LoadReport) -> list[str]:
    """The chart, if there are two rates or more."""
    return [by_rate(report)] if len(report.config.rates) > 1 else []


def by_rate(report: LoadReport) -> str:
    """E2E latency of every method against the rate at which queries arrive, both on log scales; hollow: not steady."""
    methods: dict[str, list[LoadRow]] = {}
    for row in report.rows:
        if row.rate in report.config.rates:
            methods.setdefault(row.method, []).append(row)
    label = "Chart of end-to-end latency against offered load. " + " ".join(
        f"{method}: " + ", ".join(_said(row) for row in rows) + "." for method, rows in methods.items()
    )
    limits = {0.95: report.config.p95_ms, 0.99: report.config.p99_ms}
    with style("load"):
        figure, (axes,) = panels(1, height=4.6)
        for number, (method, rows) in enumerate(methods.items()):
            colour, marker = _colour(method), _MARKERS[number % len(_MARKERS)]
            xs = [row.rate for row in rows]
            axes.plot(xs, [_at(row, 0.5) for row in rows], "-", color=colour, linewidth=0.8, alpha=0.7)
            axes.plot(xs, [_at(row, 0.95) for row in rows], "-", color=colour, linewidth=2)
            for row in rows:
                if (p95 := percentile(row.e2e_ms, 0.95)) is None or not isfinite(p95.value):
                    continue
                above = p95.high - p95.value if isfinite(p95.high) else 0.0
                below = p95.value - p95.low if isfinite(p95.low) else 0.0
                axes.errorbar(
                    [row.rate],
                    [p95.value],
                    yerr=[[below], [above]],
                    fmt=marker,
                    color=colour,
                    markerfacecolor=colour if row.steady else "none",
                    capsize=4,
                )
            axes.plot([], [], f"{marker}-", color=colour, linewidth=2, label=name(method))
        for p, limit in limits.items():
            if limit:
                axes.axhline(limit, color=PAGE, alpha=0.5, linestyle=":", label=f"limit of p{100 * p:.0f}")
        axes.set(xscale="log", yscale="log", xlabel="offered load, queries a second (log scale)")
        axes.set_xticks(report.config.rates, [f"{rate:g}" for rate in report.config.rates])
        axes.minorticks_off()
        axes.set_ylabel("E2E latency, ms (log scale): thin p50, thick p95 [95 %]")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg(figure, key="load", label=label)


def _at(row: LoadRow, p: float) -> float:
    found = percentile(row.e2e_ms, p)
    return found.value if found is not None and isfinite(found.value) else nan


def _said(row: LoadRow) -> str:
    p95 = percentile(row.e2e_ms, 0.95)
    value = "too few queries for p95" if p95 is None else f"p95 {p95.value:,.0f} ms"
    return f"{row.rate:g} queries a second, {value}" + ("" if row.steady else ", not steady")


def _colour(method: str) -> str:
    if method.startswith(("distilled student", "base student")):
        return ORANGE
    return BLUE if method.endswith("greedy") else GREEN
