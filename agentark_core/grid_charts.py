"""The figures of a sweep as SVG. No numbers are computed here; each figure's table stands in grid_view.py.

Colour is never alone: each series has its marker, each cell of the map its figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from agentark_core.figures import BLUE, GREEN, ORANGE, PAGE, log_scale, name, panels, style, svg
from agentark_core.grid import GridRow
from agentark_core.grid_means import Mean
from agentark_core.statistics import Estimate
from agentark_core.text_scores import ScoreRow

_LOOKS = [(colour, marker) for marker in "os^Dv*" for colour in (BLUE, ORANGE, GREEN)]
PANELS = 3
"""Side by side at most."""


def strategies(rows: Sequence[GridRow], *, key: str, about: str) -> str:
    """Accuracy of base and strategies, a block a student, a marker for each teacher and train set; published figures
    are hollow diamonds. rows: finished cells of one test set."""
    places = list(
        dict.fromkeys(place for row in rows for place in ((row.student, "base"), (row.student, row.strategy)))
    )
    places.sort(key=lambda place: [row.student for row in rows].index(place[0]))
    series = list(dict.fromkeys((row.teacher, row.train) for row in rows))
    label = f"Chart of accuracy by strategy, {about}. " + " ".join(
        f"{row.student}, {row.strategy}, {row.teacher}, {row.train}: {_percent(row.accuracy)} %, base "
        f"{_percent(row.base)} %."
        for row in rows
    )
    with style(key):
        figure, (axes,) = panels(1, height=1.6 + 0.34 * len(places))
        for row in rows:
            number = series.index((row.teacher, row.train))
            at = places.index((row.student, row.strategy)) + 0.5 * ((number + 0.5) / len(series) - 0.5)
            colour, marker = _LOOKS[number % len(_LOOKS)]
            _across(axes, row.accuracy, at, colour=colour, marker=marker, label=name(f"{row.teacher}, {row.train}"))
            _across(axes, row.base, places.index((row.student, "base")), colour=PAGE, marker="x", label="base student")
            shown = ((row.published, at), (row.published_base, places.index((row.student, "base"))))
            for published, where in shown:
                if published is not None:
                    axes.plot(100 * published, where, "D", mfc="none", mec=PAGE, linestyle="", label="published")
        axes.set_yticks(range(len(places)), [name(f"{student} · {strategy}") for student, strategy in places])
        axes.set_ylim(len(places) - 0.4, -0.6)
        axes.set_xlabel("correct answers, % [95 %]")
        axes.grid(visible=True, axis="x", alpha=0.25, color=PAGE)
        _legend(figure, [axes])
        return svg(figure, key=key, label=label)


def means(found: Sequence[Mean], *, key: str) -> str:
    """Mean accuracy, a panel by train set and one by student, a marker for base and each strategy."""
    axes_of = list(dict.fromkeys(one.by for one in found))
    series = list(dict.fromkeys(one.strategy for one in found))
    label = "Chart of mean accuracy. " + " ".join(
        f"{one.by} {one.value}, {one.strategy}: {_percent(one.accuracy)} %." for one in found
    )
    with style(key):
        figure, panel = panels(len(axes_of), height=3.4 + 0.2 * len(series))
        for axes, by in zip(panel, axes_of, strict=True):
            values = list(dict.fromkeys(one.value for one in found if one.by == by))
            for one in (one for one in found if one.by == by):
                number = series.index(one.strategy)
                at = values.index(one.value) + 0.6 * ((number + 0.5) / len(series) - 0.5)
                colour, marker = _LOOKS[number % len(_LOOKS)]
                _upright(axes, one.accuracy, at, colour=colour, marker=marker, label=name(one.strategy))
            axes.set_xticks(range(len(values)), [name(value) for value in values], rotation=20)
            axes.set_xlabel({"train": "train set", "student": "student"}[by])
        panel[0].set_ylabel("correct answers, % [95 %]")
        _legend(figure, panel)
        return svg(figure, key=key, label=label)


def scores(rows: Sequence[GridRow], *, metrics: Sequence[str], key: str) -> list[str]:
    """Scores of prose of bases and students on one test set, a panel a metric; PANELS of them a figure."""
    places = list(
        dict.fromkeys(place for row in rows for place in ((row.student, "base"), (row.student, row.strategy)))
    )
    places.sort(key=lambda place: [row.student for row in rows].index(place[0]))
    series = list(dict.fromkeys((row.teacher, row.train) for row in rows))
    figures = []
    for start in range(0, len(metrics), PANELS):
        shown = metrics[start : start + PANELS]
        label = f"Chart of scores on {rows[0].test}. " + " ".join(
            f"{row.student}, {row.strategy}, {one.metric}: {one.mean:.1f}."
            for row in rows
            for one in row.scores
            if one.metric in shown
        )
        with style(f"{key}-{start}"):
            figure, panel = panels(len(shown), height=1.8 + 0.34 * len(places))
            for axes, metric in zip(panel, shown, strict=True):
                for row in rows:
                    number = series.index((row.teacher, row.train))
                    colour, marker = _LOOKS[number % len(_LOOKS)]
                    at = places.index((row.student, row.strategy)) + 0.5 * ((number + 0.5) / len(series) - 0.5)
                    of = name(f"{row.teacher}, {row.train}")
                    _score(axes, row.scores, metric, at, colour=colour, marker=marker, label=of)
                    base = places.index((row.student, "base"))
                    _score(axes, row.base_scores, metric, base, colour=PAGE, marker="x", label="base student")
                axes.set_yticks(range(len(places)), [name(f"{student} · {strategy}") for student, strategy in places])
                axes.set_ylim(len(places) - 0.4, -0.6)
                axes.set_xlabel(f"{metric} [95 %]")
            _legend(figure, panel)
            figures.append(svg(figure, key=f"{key}-{start}", label=label))
    return figures


def over(
    rows: Sequence[GridRow],
    *,
    value: Callable[[GridRow], int],
    series_of: Callable[[GridRow], str],
    what: str,
    key: str,
) -> list[str]:
    """Accuracy over an axis of the grid, a panel a test set, a line a series; PANELS of them a figure."""
    tests = list(dict.fromkeys(row.test for row in rows))
    series = list(dict.fromkeys(series_of(row) for row in rows))
    figures = []
    for start in range(0, len(tests), PANELS):
        shown = tests[start : start + PANELS]
        here = [row for row in rows if row.test in shown]
        label = f"Chart of accuracy by {what}. " + " ".join(
            f"{row.test}, {series_of(row)}, {value(row):,}: {_percent(row.accuracy)} %." for row in here
        )
        with style(f"{key}-{start}"):
            figure, axes = panels(len(shown), height=3.4 + 0.2 * len(series))
            for panel, test in zip(axes, shown, strict=True):
                for number, of in enumerate(series):
                    line = sorted((r for r in here if r.test == test and series_of(r) == of), key=value)
                    colour, marker = _LOOKS[number % len(_LOOKS)]
                    _line(panel, line, value=value, colour=colour, marker=marker, label=name(of))
                values = sorted({value(row) for row in here})
                if values[-1] > 4 * values[0]:
                    log_scale(panel)
                panel.set_xticks(values, [f"{one:,}" for one in values])
                panel.set_xticks([], minor=True)
                panel.set(xlabel=what, title=name(test))
            axes[0].set_ylabel("correct answers, % [95 %]")
            _legend(figure, axes)
            figures.append(svg(figure, key=f"{key}-{start}", label=label))
    return figures


def transfer(rows: Sequence[GridRow], *, key: str) -> str:
    """Student minus base in points, by train set and strategy (down) and test set (across); the stronger the colour,
    the larger the gain (blue) or loss (orange). rows: cells of one teacher that were compared."""
    tests = list(dict.fromkeys(row.test for row in rows))
    lines = list(dict.fromkeys((row.train, row.student, row.strategy) for row in rows))
    largest = max(1.0, *(abs(row.difference.difference) for row in rows if row.difference))
    label = "Map of student minus base in points. " + " ".join(
        f"{row.train}, {row.student}, {row.strategy} on {row.test}: {row.difference.difference:+.1f}."
        for row in rows
        if row.difference
    )
    with style(key):
        from matplotlib.patches import Rectangle

        figure, (axes,) = panels(1, height=1.2 + 0.34 * len(lines))
        for row in rows:
            if row.difference is None:
                continue
            points = row.difference.difference
            x, y = tests.index(row.test), lines.index((row.train, row.student, row.strategy))
            strength = 0.08 + 0.62 * abs(points) / largest
            colour = BLUE if points >= 0 else ORANGE
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=strength, edgecolor="none"))
            shown = "*" if row.difference.p_holm is not None and row.difference.p_holm < 0.05 else ""
            axes.text(x, y, f"{points:+.1f}{shown}", ha="center", va="center")
        axes.set(xlim=(-0.5, len(tests) - 0.5), ylim=(len(lines) - 0.5, -0.5))
        axes.set_xticks(range(len(tests)), [name(test) for test in tests])
        axes.set_yticks(range(len(lines)), [name(" · ".join(line)) for line in lines])
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        return svg(figure, key=key, label=label)


def cost(rows: Sequence[GridRow], *, key: str) -> str:
    """Student minus base in points against seconds of training. rows: cells of one test set whose training is known."""
    shown = [(row, row.difference, row.training) for row in rows if row.difference and row.training]
    series = list(dict.fromkeys((row.student, row.strategy) for row, _, _ in shown))
    label = f"Chart of student minus base in points against seconds of training, {rows[0].test}. " + " ".join(
        f"{row.student}, {row.strategy}, {row.teacher}, {row.train}: {test.difference:+.1f} points after "
        f"{training.seconds:,.0f} s."
        for row, test, training in shown
    )
    with style(key):
        figure, (axes,) = panels(1, height=3.4 + 0.2 * len(series))
        axes.axhline(0, color=PAGE, alpha=0.5, linestyle=":")
        for row, test, training in shown:
            colour, marker = _LOOKS[series.index((row.student, row.strategy)) % len(_LOOKS)]
            spread = [[test.difference - test.low], [test.high - test.difference]]
            axes.errorbar(
                [max(training.seconds, 1.0)],
                [test.difference],
                yerr=spread,
                fmt=marker,
                color=colour,
                capsize=3,
                label=name(f"{row.student} · {row.strategy}"),
            )
        log_scale(axes)
        axes.set(xlabel="seconds of training (log scale)", ylabel="student - base, points [95 %]")
        _legend(figure, [axes])
        return svg(figure, key=key, label=label)


def _line(axes: Any, rows: Sequence[GridRow], *, value: Any, colour: str, marker: str, label: str) -> None:
    """Joined, unless several cells stand at one value."""
    found = [(value(row), row.accuracy) for row in rows if row.accuracy]
    if not found:
        return
    ys = [100 * one.value for _, one in found]
    spread = [[100 * (one.value - one.low) for _, one in found], [100 * (one.high - one.value) for _, one in found]]
    alone = all(len(list(group)) == 1 for _, group in groupby(found, key=lambda pair: pair[0]))
    axes.errorbar(
        [x for x, _ in found],
        ys,
        yerr=spread,
        fmt=f"{marker}-" if alone else marker,
        color=colour,
        capsize=3,
        label=label,
    )
    for row in rows:
        if row.published is not None:
            axes.plot(value(row), 100 * row.published, "D", mfc="none", mec=PAGE, linestyle="", label="published")


def _across(axes: Any, found: Estimate | None, at: float, *, colour: str, marker: str, label: str) -> None:
    if found is not None:
        spread = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
        axes.errorbar([100 * found.value], [at], xerr=spread, fmt=marker, color=colour, capsize=3, label=label)


def _upright(axes: Any, found: Estimate, at: float, *, colour: str, marker: str, label: str) -> None:
    spread = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
    axes.errorbar([at], [100 * found.value], yerr=spread, fmt=marker, color=colour, capsize=3, label=label)


def _score(
    axes: Any, found: Sequence[ScoreRow], metric: str, at: float, *, colour: str, marker: str, label: str
) -> None:
    for one in found:
        if one.metric == metric:
            low, high = one.interval or (one.mean, one.mean)
            spread = [[one.mean - low], [high - one.mean]]
            axes.errorbar([one.mean], [at], xerr=spread, fmt=marker, color=colour, capsize=3, label=label)


def _legend(figure: Any, panel: Sequence[Any]) -> None:
    handles: dict[str, Any] = {}
    for axes in panel:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = 2 if max(map(len, handles)) <= 36 else 1
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", frameon=False, ncols=columns, fontsize="small"
    )


def _percent(found: Estimate | None) -> str:
    return "-" if found is None else f"{100 * found.value:.1f}"
