"""The grid of a sweep for the eye: sections of tables with their figures, as Markdown, as a page and for a terminal.

The paper's tables and figures, each where the finished cells hold it: accuracy in domain and across data sets (Tables
4, 5 and 7 to 13, Figure 3 a), its means (Figure 3 b), by number of agents (Figure 4) and size of the data (Figures 5
and 10), scores of prose (Table 2, Figure 6), perplexity and judged qualities (Table 1), training cost (Table 6), and
the transfer between data sets. No numbers are computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentark_core import grid_charts, grid_means, page, reasoning_view, terminal
from agentark_core.evaluation_report import p_text
from agentark_core.grid import GridRow
from agentark_core.mean_interval import show
from agentark_core.page import Section, Table
from agentark_core.statistics import Estimate
from agentark_core.text_scores import ScoreRow

Lines = list[list[str]]
CELL = ("student", "strategy", "teacher", "train", "test")
DIFFERENCES = (
    *(*CELL, "n", "undecided"),
    *("student - base, points [95 %]", "p", "p (Holm)", "MDD", "retention % [95 %]", "tokens/q"),
)
NOTE = (
    "Accuracy in % of all questions [95 %, Wilson]; after the slash the published accuracy of the same cell, - where "
    "we know of none or ours is another (fewer questions, other agents or rounds). Undecided: answers of each "
    "strategy's student, in the order of the columns; they are not correct."
)
DIFFERENCES_NOTE = (
    "Paired on the n questions decided for both (Newcombe, exact McNemar); Holm over all comparisons of the grid. "
    "Undecided: answers of the student. MDD: where p (Holm) is 0.05 or more, the true difference, in points, found "
    "with a chance of 80 %."
)
MEANS_NOTE = (
    "Means over the cells that have every strategy. The interval is the mean of theirs, which is at least as wide as "
    "that of the mean: their questions are the same."
)
COST_NOTE = (
    "All stages of a student together, by the clock on the machines that this sweep used; a figure for each test set "
    "sets them against what they gained. Published (Table 6; a student of 8B, H100s, batches of 4): rsft about 6 hours "
    "on one, da 8 on one, pad 20 on eight (8 for the reward model, 12 for GRPO)."
)
TRANSFER_NOTE = (
    "Points of the table of differences; in the figure blue: student above its base, orange: below, the stronger the "
    "more; *: p (Holm) below 0.05."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What varies; series: what of a cell is the same along a line, without student and strategy."""

    title: str
    what: str
    value: Callable[[GridRow], int]
    series: Callable[[GridRow], tuple[str, ...]]

    def series_of(self, row: GridRow) -> str:
        """The line that a cell is on."""
        return " · ".join((row.student, row.strategy, *self.series(row)))

    def cells(self, rows: Sequence[GridRow]) -> list[GridRow]:
        """The cells on lines of at least two values."""
        values: dict[tuple[str, str], set[int]] = {}
        for row in rows:
            values.setdefault((self.series_of(row), row.test), set()).add(self.value(row))
        return [row for row in rows if len(values[self.series_of(row), row.test]) > 1]


AXES = (
    Axis(
        title="Accuracy by number of agents (Figure 4 of the paper)",
        what="agents",
        value=lambda row: row.agents,
        series=lambda row: (row.teacher_model.split("/")[-1], row.train),
    ),
    Axis(
        title="Accuracy by size of the data (Figures 5 and 10 of the paper)",
        what="questions debated",
        value=lambda row: row.questions,
        series=lambda row: (row.teacher, row.train_source),
    ),
)


def render_markdown(name: str, rows: Sequence[GridRow]) -> str:
    """grid.md: the tables."""
    return page.render_markdown(f"Sweep {name}", list(sections(rows, drawn=False)))


def render_html(name: str, rows: Sequence[GridRow]) -> str:
    """grid.html: the tables and the figures, one page that needs no network."""
    return page.render_html(f"Sweep {name}", list(sections(rows)), template="grid.html.jinja")


def render_text(rows: Sequence[GridRow]) -> str:
    """The accuracies for a terminal."""
    console = terminal.page()
    for section in _accuracies(rows, drawn=False):
        for shown in section.tables:
            table = terminal.table(*shown.headers)
            table.title = terminal.safe(section.title)
            for cells in shown.rows:
                terminal.add_row(table, *cells)
            console.print(table)
    console.print(NOTE)
    return terminal.text(console)


def sections(rows: Sequence[GridRow], *, drawn: bool = True) -> Iterator[Section]:
    """Everything that the cells give, in order."""
    yield from _accuracies(rows, drawn=drawn)
    yield from _means(rows, drawn=drawn)
    compared = [row for row in rows if row.difference is not None and row.judged]
    if compared:
        yield Section(
            title="Differences against the base",
            tables=[Table(headers=DIFFERENCES, rows=difference_cells(compared), left=5, note=DIFFERENCES_NOTE)],
        )
    yield from _transfer(compared, drawn=drawn)
    for axis in AXES:
        if known := axis.cells([row for row in rows if row.judged and axis.value(row)]):
            yield _over(known, axis=axis, drawn=drawn)
    yield from _scores(rows, drawn=drawn)
    yield from _reasoning(rows)
    yield from _cost(rows, drawn=drawn)
    if failed := [f"{row.cell}: {row.error}" for row in rows if row.error]:
        yield Section(title=f"Failed: {len(failed)} of {len(rows)} cells", points=failed)


# ---- accuracy


def _accuracies(rows: Sequence[GridRow], *, drawn: bool) -> Iterator[Section]:
    """A section for each source of train sets and each test set, in domain first."""
    pairs = dict.fromkeys((row.train_source, row.test) for row in rows if not row.scores or row.judged)
    groups = [[row for row in rows if (row.train_source, row.test) == pair] for pair in pairs]
    for number, group in enumerate(sorted(groups, key=lambda group: not group[0].in_domain), start=1):
        where = "in domain" if group[0].in_domain else "across data sets"
        about = f"trained on {group[0].train_source}, tested on {group[0].test}"
        finished = [row for row in group if row.accuracy is not None]
        headers, cells = accuracy_table(group)
        yield Section(
            title=f"Accuracy {where}: {about}",
            figures=[grid_charts.strategies(finished, key=f"strategies-{number}", about=about)]
            if drawn and finished
            else [],
            tables=[Table(headers=headers, rows=cells, left=3, note=NOTE)],
        )


def _means(rows: Sequence[GridRow], *, drawn: bool) -> Iterator[Section]:
    """Base and strategies by train set and by student."""
    found = grid_means.means(rows)
    strategies = list(dict.fromkeys(one.strategy for one in found))
    tables = []
    for by in dict.fromkeys(one.by for one in found):
        lines: dict[tuple[str, int], list[str]] = {}
        for one in found:
            if one.by == by:
                lines.setdefault((one.value, one.accuracy.n), []).append(_percent(one.accuracy))
        cells = [[value, f"{n:,}", *shown] for (value, n), shown in lines.items()]
        tables.append(Table(headers=[by, "cells", *strategies], rows=cells, left=1, note=MEANS_NOTE))
    if tables:
        yield Section(
            title="Mean accuracy by train set and by student (Figure 3 b of the paper)",
            figures=[grid_charts.means(found, key="means")] if drawn else [],
            tables=tables,
        )


def accuracy_table(rows: Sequence[GridRow]) -> tuple[list[str], Lines]:
    """Headers and cells of one test set: students down, strategies across."""
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    lines: dict[tuple[str, str, str], dict[str, GridRow]] = {}
    for row in rows:
        lines.setdefault((row.student, row.teacher, row.train), {})[row.strategy] = row
    cells = []
    for names, by_strategy in lines.items():
        measured = [row for row in by_strategy.values() if row.base is not None]
        some = next(iter([*measured, *by_strategy.values()]))
        base = _beside(_percent(some.base), some.published_base)
        across = [by_strategy.get(strategy) for strategy in strategies]
        undecided = " / ".join(f"{row.undecided:,}" if row and row.accuracy else "-" for row in across)
        cells.append([*names, base, *(_cell(row) for row in across), undecided])
    return ["student", "teacher", "train", "base", *strategies, "undecided"], cells


def difference_cells(rows: Sequence[GridRow]) -> Lines:
    """Cells of DIFFERENCES of every cell that was compared."""
    cells = []
    for row in rows:
        test = row.difference
        if test is None:
            continue
        cells.append(
            [
                *_names(row),
                str(test.n),
                f"{row.undecided:,}",
                f"{test.difference:+.1f} [{test.low:+.1f}, {test.high:+.1f}]",
                p_text(test.p_value),
                "-" if test.p_holm is None else p_text(test.p_holm),
                "" if test.detectable is None else f"{test.detectable:.1f}",
                _percent(row.retention),
                "-" if row.tokens_per_question is None else f"{row.tokens_per_question:.1f}",
            ]
        )
    return cells


def _transfer(rows: Sequence[GridRow], *, drawn: bool) -> Iterator[Section]:
    """A map for each teacher, where its students are tested on several sets."""
    for number, teacher in enumerate(dict.fromkeys(row.teacher for row in rows), start=1):
        group = [row for row in rows if row.teacher == teacher]
        tests = list(dict.fromkeys(row.test for row in group))
        if len(tests) < 2:
            continue
        lines: dict[tuple[str, str, str], dict[str, str]] = {}
        for row in group:
            assert row.difference is not None
            lines.setdefault((row.train, row.student, row.strategy), {})[row.test] = f"{row.difference.difference:+.1f}"
        cells = [[*names, *(found.get(test, "") for test in tests)] for names, found in lines.items()]
        yield Section(
            title=f"Transfer between data sets: students of {teacher}",
            figures=[grid_charts.transfer(group, key=f"transfer-{number}")] if drawn else [],
            tables=[Table(headers=["train", "student", "strategy", *tests], rows=cells, left=3, note=TRANSFER_NOTE)],
        )


def _over(rows: Sequence[GridRow], *, axis: Axis, drawn: bool) -> Section:
    cells = [
        [*_names(row), f"{axis.value(row):,}", _beside(_percent(row.accuracy), row.published)]
        for row in sorted(rows, key=lambda row: (row.test, axis.series_of(row), axis.value(row)))
    ]
    key = axis.what.split()[0]
    return Section(
        title=axis.title,
        figures=grid_charts.over(rows, value=axis.value, series_of=axis.series_of, what=axis.what, key=key)
        if drawn
        else [],
        tables=[Table(headers=[*CELL, axis.what, "accuracy, % [95 %] / published"], rows=cells, left=5)],
    )


# ---- what lies beside accuracy


def _scores(rows: Sequence[GridRow], *, drawn: bool) -> Iterator[Section]:
    """Scores of prose, a section a test set: students, their bases, strategies and metrics."""
    for number, test in enumerate(dict.fromkeys(row.test for row in rows if row.scores), start=1):
        found = [row for row in rows if row.test == test and row.scores]
        metrics = list(dict.fromkeys(score.metric for row in found for score in row.scores))
        bases = {row.student: row.base_scores for row in found if row.base_scores}
        cells = [[student, grid_means.BASE, "", "", *_shown(scores, metrics)] for student, scores in bases.items()]
        cells += [[*_names(row)[:4], *_shown(row.scores, metrics)] for row in found]
        yield Section(
            title=f"Scores without training on the set: {test} (Figure 6 of the paper)",
            figures=grid_charts.scores(found, metrics=metrics, key=f"scores-{number}") if drawn else [],
            tables=[
                Table(
                    headers=[*CELL[:4], *metrics],
                    rows=cells,
                    left=4,
                    note=f"Greedy answers to {found[0].scores[0].n:,} questions, 0 to 100 [95 %, over questions].",
                )
            ],
        )


def _shown(scores: Sequence[ScoreRow], metrics: Sequence[str]) -> list[str]:
    by_metric = {score.metric: score for score in scores}
    found = (by_metric.get(metric) for metric in metrics)
    return [show(score.mean, score.interval, form=".1f") if score else "-" for score in found]


def _reasoning(rows: Sequence[GridRow]) -> Iterator[Section]:
    """Perplexity and judged qualities of the students that were measured."""
    measured = [(row, row.reasoning) for row in rows if row.reasoning]
    perplexity = [
        [*_names(row), one.model, show(one.mean, one.interval, form=".3f"), f"{one.n:,}"]
        for row, found in measured
        for one in found.perplexity
    ]
    if perplexity:
        headers = [*CELL, "under", "perplexity [95 %]", "samples"]
        note = "Of the reasoning tokens of greedy answers; to be compared under one model only."
        yield Section(title="Reasoning perplexity", tables=[Table(headers=headers, rows=perplexity, left=6, note=note)])
    qualities = [
        [*_names(row), one.judge, *cells]
        for row, found in measured
        for one in found.qualities
        for cells in reasoning_view.quality_cells(one)
    ]
    if qualities:
        headers = [*CELL, "judge", *reasoning_view.COLUMNS]
        table = Table(headers=headers, rows=qualities, left=7, note=reasoning_view.NOTE)
        yield Section(title="Judged qualities", tables=[table])


def _cost(rows: Sequence[GridRow], *, drawn: bool) -> Iterator[Section]:
    """What each student learned from and how long it took, and what that bought on each test set."""
    trained = {(row.student, row.strategy, row.teacher, row.train): row.training for row in rows if row.training}
    if not trained:
        return
    cells = [
        [*names, f"{one.rows:,}", f"{one.steps:,}", f"{one.seconds:,.0f}"] for names, one in trained.items() if one
    ]
    compared = [row for row in rows if row.training and row.difference and row.judged]
    tests = dict.fromkeys(row.test for row in compared) if drawn else {}
    yield Section(
        title="Training cost",
        figures=[
            grid_charts.cost([row for row in compared if row.test == test], key=f"cost-{number}")
            for number, test in enumerate(tests, start=1)
        ],
        tables=[
            Table(
                headers=[*CELL[:4], "rows learned from", "steps", "seconds"],
                rows=cells,
                left=4,
                note=COST_NOTE,
            )
        ],
    )


def _names(row: GridRow) -> tuple[str, str, str, str, str]:
    return row.student, row.strategy, row.teacher, row.train, row.test


def _cell(row: GridRow | None) -> str:
    if row is None:
        return ""
    return "failed" if row.error else _beside(_percent(row.accuracy), row.published)


def _beside(ours: str, theirs: float | None) -> str:
    return f"{ours} / {'-' if theirs is None else f'{100 * theirs:.2f}'}"


def _percent(found: Estimate | None) -> str:
    return "-" if found is None else f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
