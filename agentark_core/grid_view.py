"""The grid of a sweep for the eye: tables and figures. No numbers are computed here.

Tables: one a test set, students down and strategies across, the published accuracy beside ours; then one of all
differences against the base. Figures: accuracy by strategy for each student, one a test set; accuracy by the number of
questions debated and by the number of agents where these vary over the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agentark_core import markdown, terminal
from agentark_core.evaluation_report import p_text
from agentark_core.grid import GridRow
from agentark_core.statistics import Estimate

DIFFERENCES = (
    *("student", "strategy", "teacher", "train", "test", "n"),
    *("student - base, points [95 %]", "p", "p (Holm)", "MDD", "retention % [95 %]", "tokens/q"),
)
NOTE = (
    "Accuracy in % of all questions [95 %, Wilson]; after the slash the published accuracy of the same cell, - where "
    "the paper reports none or ours is another (fewer questions, other agents or rounds). Differences are paired by "
    "question (Newcombe, exact McNemar); Holm over all comparisons of the grid. MDD: where p (Holm) is 0.05 or more, "
    "the true difference, in points, found with a chance of 80 %."
)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito


def render_markdown(rows: Sequence[GridRow]) -> str:
    """grid.md."""
    parts = []
    for test, headers, cells in tables(rows):
        shown = [[markdown.inline(cell) for cell in row[:3]] + list(row[3:]) for row in cells]
        parts.append(f"## {markdown.inline(test)}\n\n{markdown.table(headers, shown, left=3)}")
    if found := difference_cells(rows):
        shown = [[markdown.inline(cell) for cell in row[:5]] + list(row[5:]) for row in found]
        parts.append(f"## Differences against the base\n\n{markdown.table(DIFFERENCES, shown, left=5)}")
    parts.append(f"{NOTE}\n")
    if failed := [row for row in rows if row.error]:
        lines = [f"- {markdown.inline(row.cell)}: {markdown.inline(row.error)}\n" for row in failed]
        parts.append(f"## Failed: {len(failed)} of {len(rows)} cells\n\n{''.join(lines)}")
    return "\n".join(parts)


def render_text(rows: Sequence[GridRow]) -> str:
    """The tables of the test sets for a terminal."""
    page = terminal.page()
    for test, headers, cells in tables(rows):
        table = terminal.table(*headers)
        table.title = terminal.safe(test)
        for row in cells:
            terminal.add_row(table, *row)
        page.print(table)
    page.print(NOTE)
    return terminal.text(page)


def tables(rows: Sequence[GridRow]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(test set, headers, cells) of each test set."""
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    for test in dict.fromkeys(row.test for row in rows):
        lines: dict[tuple[str, str, str], dict[str, GridRow]] = {}
        for row in rows:
            if row.test == test:
                lines.setdefault((row.student, row.teacher, row.train), {})[row.strategy] = row
        cells = []
        for names, by_strategy in lines.items():
            measured = [row for row in by_strategy.values() if row.base is not None]
            some = next(iter([*measured, *by_strategy.values()]))
            base = _beside(_percent(some.base), some.published_base)
            cells.append([*names, base, *(_cell(by_strategy.get(strategy)) for strategy in strategies)])
        yield test, ["student", "teacher", "train", "base", *strategies], cells


def difference_cells(rows: Sequence[GridRow]) -> list[list[str]]:
    """Cells of DIFFERENCES of every cell that was compared."""
    cells = []
    for row in rows:
        test = row.difference
        if test is None:
            continue
        cells.append(
            [
                *(row.student, row.strategy, row.teacher, row.train, row.test),
                str(test.n),
                f"{test.difference:+.1f} [{test.low:+.1f}, {test.high:+.1f}]",
                p_text(test.p_value),
                "-" if test.p_holm is None else p_text(test.p_holm),
                "" if test.detectable is None else f"{test.detectable:.1f}",
                _percent(row.retention),
                "-" if row.tokens_per_question is None else f"{row.tokens_per_question:.1f}",
            ]
        )
    return cells


def _cell(row: GridRow | None) -> str:
    if row is None:
        return ""
    return "failed" if row.error else _beside(_percent(row.accuracy), row.published)


def _beside(ours: str, theirs: float | None) -> str:
    return f"{ours} / {'-' if theirs is None else f'{100 * theirs:.2f}'}"


def _percent(found: Estimate | None) -> str:
    return "-" if found is None else f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


# ---- figures


def plot_all(rows: Sequence[GridRow], folder: Path) -> list[Path]:
    """Every figure that the finished cells give; returns the files."""
    finished = [row for row in rows if row.accuracy is not None]
    paths = []
    for test in dict.fromkeys(row.test for row in finished):
        paths.append(folder / f"strategies-{test}.png")
        _plot_strategies([row for row in finished if row.test == test], paths[-1])
    axes: dict[str, tuple[str, Callable[[GridRow], int]]] = {
        "questions": ("questions debated", lambda row: row.questions),
        "agents": ("agents", lambda row: row.agents),
    }
    for name, (label, value) in axes.items():
        known = [row for row in finished if value(row)]
        if len({value(row) for row in known}) > 1:
            paths.append(folder / f"{name}.png")
            _plot_over(known, value=value, label=label, path=paths[-1])
    return paths


def _plot_strategies(rows: Sequence[GridRow], path: Path) -> None:
    """A panel for each student: accuracy of each strategy, a colour for each teacher and train set; the base dashed,
    published figures hollow."""
    students = list(dict.fromkeys(row.student for row in rows))
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    series = list(dict.fromkeys((row.teacher, row.train) for row in rows))
    figure, panels = _panels(len(students))
    for axes, student in zip(panels, students, strict=True):
        for row in (row for row in rows if row.student == student):
            number = series.index((row.teacher, row.train))
            at = strategies.index(row.strategy) + 0.6 * ((number + 0.5) / len(series) - 0.5)
            colour = COLOURS[number % len(COLOURS)]
            _point(axes, at, row.accuracy, colour=colour, label=f"{row.teacher}, {row.train}")
            if row.published is not None:
                axes.plot(at, 100 * row.published, "D", mfc="none", color=colour, label="published")
        base = next(row.base for row in rows if row.student == student)
        if base is not None:
            axes.axhline(100 * base.value, linestyle="--", color="#777777", label="base")
        axes.set_xticks(range(len(strategies)), strategies, rotation=30)
        axes.set_title(_plain(student))
    panels[0].set_ylabel(f"{_plain(rows[0].test)}: accuracy in % of {rows[0].n} questions (95 %)")
    _save(figure, panels, path)


def _plot_over(rows: Sequence[GridRow], *, value: Callable[[GridRow], int], label: str, path: Path) -> None:
    """A panel for each test set: accuracy over an axis, a colour for each student and strategy."""
    tests = list(dict.fromkeys(row.test for row in rows))
    series = list(dict.fromkeys((row.student, row.strategy) for row in rows))
    figure, panels = _panels(len(tests))
    for axes, test in zip(panels, tests, strict=True):
        for number, key in enumerate(series):
            of_series = [row for row in rows if row.test == test and (row.student, row.strategy) == key]
            for row in of_series:
                colour = COLOURS[number % len(COLOURS)]
                _point(axes, value(row), row.accuracy, colour=colour, label=f"{row.student}, {row.strategy}")
        axes.set(xlabel=label, title=_plain(test))
    panels[0].set_ylabel("accuracy in % (95 %)")
    _save(figure, panels, path)


def _panels(number: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * number + 2, 4), layout="constrained")
    return figure, figure.subplots(1, number, sharey=True, squeeze=False)[0]


def _point(axes: Any, at: float, found: Estimate | None, *, colour: str, label: str) -> None:
    if found is not None:
        error = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
        axes.errorbar(at, 100 * found.value, yerr=error, fmt="o", color=colour, capsize=3, label=_plain(label))


def _plain(text: str) -> str:
    return text.replace("$", r"\$")


def _save(figure: Any, panels: Any, path: Path) -> None:
    handles: dict[str, Any] = {}
    for axes in panels:
        axes.grid(visible=True, axis="y", alpha=0.25)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    figure.savefig(path, format="png", dpi=130)
