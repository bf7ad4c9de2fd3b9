"""The report's charts as SVG: accuracy against tokens, scaling, pass@k, prose, students, calibration, failures.

Colour is never alone: each kind of method has its marker, each point its name and figure beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentark_core.calibration import Bin
from agentark_core.evaluation import EvalReport, EvalRow
from agentark_core.figures import BLUE, GREEN, ORANGE, PAGE, log_scale, name, panels, style, svg
from agentark_core.mean_interval import show as shown
from agentark_core.report.debate_sets import CurvePoint
from agentark_core.report.gather import Student
from agentark_core.robustness.failures import GATE, Failures
from agentark_core.statistics import Estimate, wilson
from agentark_core.text_scores import ScoreRow

_LINE = 5.2
"""Height of a label in % of accuracy, on the axes that label themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A named line of points."""

    name: str
    points: Sequence[CurvePoint]
    colour: str
    marker: str


def accuracy_by_tokens(report: EvalReport) -> str:
    """Every method: accuracy with its interval against completion tokens a question, log scale, 0 drawn at 1."""
    label = (
        f"Chart of accuracy, with 95 % intervals, against completion tokens a question, of {report.n:,} questions. "
        + " ".join(
            f"{row.name}: {100 * row.accuracy:.1f} % at {row.tokens_per_question:,.0f} tokens." for row in report.rows
        )
    )
    with style("accuracy"):
        figure, (axes,) = panels(1, height=5.2)
        places = [(max(row.tokens_per_question, 1.0), 100 * row.accuracy) for row in report.rows]
        for row, (x, y) in zip(report.rows, places, strict=True):
            colour, marker, size = _look(row)
            _point(axes, x, y, low=100 * row.low, high=100 * row.high, colour=colour, marker=marker, size=size)
        _log_tokens(axes, [x for x, _ in places])
        axes.set_ylabel("correct answers, % [95 %]")
        axes.set_ylim(-3, 103)
        _labels(
            axes,
            [f"{name(row.name)} {100 * row.accuracy:.1f}" for row in report.rows],
            places,
            [_look(r)[0] for r in report.rows],
        )
        return svg(figure, key="accuracy", label=label)


def scaling(curves: Sequence[Curve], student: EvalRow | None) -> str:
    """Accuracy of votes and of rounds as they spend more tokens, and the student as a line to reach."""
    label = "Chart of accuracy against completion tokens a question. " + " ".join(
        f"{curve.name}: "
        + ", ".join(f"{point.at}: {100 * point.correct / point.n:.1f} %" for point in curve.points)
        + "."
        for curve in curves
    )
    with style("scaling"):
        figure, (axes,) = panels(1, height=4.8)
        for curve in curves:
            xs = [max(point.tokens, 1.0) for point in curve.points]
            shares = [100 * point.correct / point.n for point in curve.points]
            bounds = [wilson(point.correct, point.n) for point in curve.points]
            axes.errorbar(
                xs,
                shares,
                yerr=[
                    [y - 100 * low for y, (low, _) in zip(shares, bounds, strict=True)],
                    [100 * high - y for y, (_, high) in zip(shares, bounds, strict=True)],
                ],
                fmt=f"{curve.marker}-",
                color=curve.colour,
                capsize=3,
                label=name(curve.name),
            )
            for x, y, point in zip(xs, shares, curve.points, strict=True):
                if point.at & (point.at - 1) == 0 or point is curve.points[-1]:  # powers of two, for room
                    axes.annotate(str(point.at), (x, y), xytext=(5, -12), textcoords="offset points", fontsize=9)
        if student is not None:
            x, y = max(student.tokens_per_question, 1.0), 100 * student.accuracy
            _point(axes, x, y, low=100 * student.low, high=100 * student.high, colour=ORANGE, marker="*", size=14)
            axes.plot([], [], "*", color=ORANGE, markersize=12, label=name(student.name))
        _log_tokens(axes, [point.tokens for curve in curves for point in curve.points])
        axes.set_ylabel("correct answers, % [95 %]")
        figure.legend(frameon=False, loc="outside upper left", ncols=2)
        return svg(figure, key="scaling", label=label)


def at_k(found: Mapping[str, Sequence[tuple[int, Estimate, Estimate]]]) -> str:
    """pass@k (solid) and maj@k (dashed) of every model against k, log scale."""
    label = "Chart of pass@k and maj@k. " + " ".join(
        f"{who}: "
        + ", ".join(f"k = {k}: {percent(passed)} % and {percent(voted)} %" for k, passed, voted in points)
        + "."
        for who, points in found.items()
    )
    looks = {"distilled student": (ORANGE, "^"), "base student": (GREEN, "v")}
    ks = sorted({k for points in found.values() for k, _, _ in points})
    with style("at-k"):
        figure, (axes,) = panels(1, height=4.4)
        for who, points in found.items():
            colour, marker = looks.get(who, (BLUE, "o"))
            for what, line, figures in (
                ("pass@k", "-", [passed for _, passed, _ in points]),
                ("maj@k", "--", [voted for _, _, voted in points]),
            ):
                axes.errorbar(
                    [k for k, _, _ in points],
                    [100 * one.value for one in figures],
                    yerr=[
                        [100 * (one.value - one.low) for one in figures],
                        [100 * (one.high - one.value) for one in figures],
                    ],
                    fmt=f"{marker}{line}",
                    color=colour,
                    capsize=3,
                    label=f"{name(who)}, {what}",
                )
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.minorticks_off()
        axes.set(xlabel="k, samples", ylabel="questions, % [95 %]", ylim=(-3, 103))
        figure.legend(frameon=False, loc="outside upper left", ncols=2)
        return svg(figure, key="at-k", label=label)


def scores(rows: Sequence[ScoreRow]) -> str:
    """One line a method: its mean of one metric with its interval."""
    label = f"Chart of {rows[0].metric}: " + " ".join(
        f"{row.method}: {shown(row.mean, row.interval, form='.1f')}." for row in rows
    )
    with style("scores"):
        figure, (axes,) = panels(1, height=0.9 + 0.4 * len(rows))
        for place, row in enumerate(reversed(rows)):
            colour, marker = (ORANGE, "^") if "student" in row.method else (BLUE, "o")
            low, high = row.interval or (row.mean, row.mean)
            spread = [[row.mean - low], [high - row.mean]]
            axes.errorbar([row.mean], [place], xerr=spread, fmt=marker, color=colour, markersize=8, capsize=4)
        axes.set_yticks(range(len(rows)), [name(row.method) for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"{rows[0].metric}, mean over questions, 0 to 100 [95 %]")
        axes.grid(visible=True, axis="x", alpha=0.25, color=PAGE)
        return svg(figure, key="scores", label=label)


def students(rows: Sequence[Student]) -> str:
    """One line a student: accuracy with its interval."""
    label = "Chart of students: " + " ".join(f"{one.strategies}, run {one.run}: {_shown(one.row)}." for one in rows)
    with style("students"):
        figure, (axes,) = panels(1, height=0.9 + 0.45 * len(rows))
        for place, one in enumerate(reversed(rows)):
            colour, marker, size = _look(one.row)
            values = [[100 * (one.row.accuracy - one.row.low)], [100 * (one.row.high - one.row.accuracy)]]
            axes.errorbar(
                [100 * one.row.accuracy], [place], xerr=values, fmt=marker, color=colour, markersize=size, capsize=4
            )
        axes.set_yticks(range(len(rows)), [f"{name(one.strategies)}\n{name(one.run)}" for one in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("correct answers, % [95 %]")
        axes.grid(visible=True, axis="x", alpha=0.25, color=PAGE)
        return svg(figure, key="students", label=label)


def reliability(tables: Mapping[str, Sequence[Bin]], *, key: str, x: str, y: str, of: str) -> str:
    """Share of right units by the score or confidence that each model gave them, a panel a model; on the dotted line
    the two agree. of: what the units are."""
    label = "Reliability chart. " + " ".join(
        f"{who}: "
        + ", ".join(
            f"at {100 * row.mean_score:.0f} % {percent(row.right)} of {row.right.n:,} {of} right" for row in table
        )
        + "."
        for who, table in tables.items()
    )
    with style(key):
        figure, panel = panels(len(tables))
        for axes, (who, table) in zip(panel, tables.items(), strict=True):
            axes.plot([0, 100], [0, 100], color=PAGE, alpha=0.5, linestyle=":")
            for row in table:
                _point(axes, 100 * row.mean_score, 100 * row.right.value, *_bounds(row.right), colour=BLUE)
            axes.set(title=name(who), xlabel=x, xlim=(-2, 102), ylim=(-2, 102))
        panel[0].set_ylabel(y)
        return svg(figure, key=key, label=label)


def failures(rows: Sequence[Failures]) -> str:
    """Failure rate of every perturbation with its interval, and the gate as a line."""
    shown = [(row, row.rate) for row in rows if row.rate is not None]
    gate = 100 * GATE
    label = f"Chart of failure rates against the gate of {gate:g} %. " + " ".join(
        f"{row.name}: {percent(rate)} %, {row.judgement}." for row, rate in shown
    )
    looks = {"pass": (GREEN, "o"), "fail": (ORANGE, "X"), "not shown": (BLUE, "s")}
    with style("failures"):
        figure, (axes,) = panels(1, height=1.0 + 0.45 * len(shown))
        axes.axvline(gate, color=PAGE, alpha=0.7, linestyle="--")
        for place, (row, rate) in enumerate(reversed(shown)):
            colour, marker = looks[row.judgement]
            low, high = _bounds(rate)
            spread = [[100 * rate.value - low], [high - 100 * rate.value]]
            axes.errorbar([100 * rate.value], [place], xerr=spread, fmt=marker, color=colour, markersize=8, capsize=4)
            axes.annotate(row.judgement, (high, place), xytext=(8, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(shown)), [name(row.name) for row, _ in reversed(shown)])
        highest = max([*(_bounds(rate)[1] for _, rate in shown), 2 * gate])
        axes.set(ylim=(-0.6, len(shown) - 0.4), xlim=(-0.02 * highest, 1.18 * highest))
        axes.set_xlabel(f"questions that break, % of those right as they were [95 %]; dashed: the gate of {gate:g} %")
        axes.grid(visible=True, axis="x", alpha=0.25, color=PAGE)
        return svg(figure, key="failures", label=label)


def percent(found: Estimate) -> str:
    """ "40.8 [37.0, 44.8]"."""
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _bounds(found: Estimate) -> tuple[float, float]:
    return 100 * found.low, 100 * found.high


def _look(row: EvalRow) -> tuple[str, str, int]:
    """Colour, marker and its size by what a method is."""
    if row.name.startswith("distilled student"):
        return ORANGE, "*", 14
    if row.name.startswith("base student"):
        return ORANGE, "x", 8
    return (BLUE, "o", 7) if row.calls_per_question <= 1 else (GREEN, "s", 7)


def _shown(row: EvalRow) -> str:
    return f"{100 * row.accuracy:.1f} % [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _point(
    axes: Any, x: float, y: float, low: float, high: float, *, colour: str, marker: str = "o", size: int = 7
) -> None:
    spread = [[max(0.0, y - low)], [max(0.0, high - y)]]
    axes.errorbar([x], [y], yerr=spread, fmt=marker, color=colour, markersize=size, capsize=4)


def _log_tokens(axes: Any, tokens: Sequence[float]) -> None:
    """A log scale with room for the names beside the points."""
    low, high = max(min(tokens), 1.0), max(*tokens, 1.0)
    log_scale(axes)
    axes.set_xlim(low / 1.6, high * 1.6 if high / low > 4 else high * 4)
    axes.set_xlabel("completion tokens a question (log scale)")


def _labels(axes: Any, texts: Sequence[str], places: Sequence[tuple[float, float]], colours: Sequence[str]) -> None:
    """Names beside the points, on the side that has room, moved apart where they would overlap."""
    low, high = axes.get_xlim()
    middle = (low * high) ** 0.5
    for right in (True, False):
        side = sorted(
            (index for index, (x, _) in enumerate(places) if (x < middle) == right), key=lambda i: places[i][1]
        )
        heights = _apart([places[index][1] for index in side])
        for index, height in zip(side, heights, strict=True):
            axes.annotate(
                texts[index],
                places[index],
                xytext=(16 if right else -16, height),
                textcoords=("offset points", "data"),
                ha="left" if right else "right",
                va="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "color": colours[index], "alpha": 0.5, "shrinkB": 5},
            )


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights, sorted, at least a line apart and as near to the given ones as groups of neighbours allow."""
    groups: list[tuple[float, int]] = []  # centre and size
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1:
            (centre, size), (above, number) = groups[-2:]
            if above - centre >= _LINE * (size + number) / 2:
                break
            groups[-2:] = [((centre * size + above * number) / (size + number), size + number)]
    return [centre + _LINE * (place - (size - 1) / 2) for centre, size in groups for place in range(size)]
