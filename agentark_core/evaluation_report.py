"""An EvalReport for the eye: plain text, Markdown and a figure. No numbers are computed here."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentark_core import markdown, page
from agentark_core.evaluation import STUDENT, EvalReport, EvalRow
from agentark_core.paired_tests import PairedTest, ScoreTest

_WIDTH = 100
_BAR = 14
_METHODS = ("method", "model", "correct", "undecided", "accuracy % [95 %]", "tokens/q", "calls/q")
TESTED = ("n", "only 1st", "only 2nd", "difference, points [95 %]", "p", "p (Holm)", "MDD")
_TESTS = ("comparison", *TESTED)
_KEPT = ("method", "retention % [95 %]", "correct per 1,000 tokens [95 %]", "self-correction % [95 %]")
_ACCURACY_NOTE = (
    "accuracy: correct / all questions, Wilson interval; undecided are not correct, and shown apart."
    " tokens/q: completion tokens a question."
)
NOTE = (
    "difference: first minus second on the n questions decided for both, Newcombe interval; p: exact McNemar; Holm over"
    " all comparisons here. MDD: where p (Holm) is 0.05 or more, the true difference, in points, found at 0.05 /"
    " comparisons with a chance of 80 %."
)
_EQUAL_NOTE = (
    " majority@k at equal tokens: the first's outcomes minus the vote's chances on all n questions, undecided not"
    " right; bootstrap interval, p by flipped signs, MDD by the t-test."
)
_KEPT_NOTE = (
    "retention: accuracy over that of {reference}; correct per 1,000 completion tokens. Both paired bootstrap over"
    " questions.\nself-correction: of agents that were wrong before their last round, those who end right."
)


def render_text(report: EvalReport) -> str:
    """The tables as plain text of 100 columns, with a bar of the accuracy (full width is 100 %)."""
    methods = _table((_METHODS[0], *_METHODS[2:], "0 - 100 %"))
    for row in report.rows:
        name, _, *numbers = _method_cells(row, report.baseline)
        methods.add_row(*(Text(cell) for cell in (name, *numbers, _bar(row.accuracy))))
    tests = _table(_TESTS)
    for cells in _test_rows(report):
        tests.add_row(*(Text(cell) for cell in cells))
    console = Console(file=StringIO(), width=_WIDTH, color_system=None, highlight=False)
    console.print(methods)
    if tests.row_count:
        console.print(tests)
    console.print(Text(f"{_ACCURACY_NOTE}\n{_note(report)}"))
    if report.reference:
        kept = _table(_KEPT)
        for cells in _kept_rows(report):
            kept.add_row(*(Text(cell) for cell in cells))
        console.print(kept)
        console.print(Text(_KEPT_NOTE.format(reference=report.reference)))
        console.print(Text(equal_tokens(report)))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def render_markdown(report: EvalReport) -> str:
    """The tables as GitHub Markdown."""
    parts = [_markdown(_METHODS, [_method_cells(row, report.baseline) for row in report.rows], left=2)]
    if tests := _test_rows(report):
        parts.append(_markdown(_TESTS, tests, left=1))
    parts.append(f"{_ACCURACY_NOTE} {_note(report)}\n")
    if report.reference:
        parts.append(_markdown(_KEPT, _kept_rows(report), left=1))
        parts.append(_KEPT_NOTE.format(reference=_escape(report.reference)).replace("\n", " ") + "\n")
        parts.append(_escape(equal_tokens(report)) + "\n")
    return "\n".join(parts)


def tables(report: EvalReport) -> list[page.Table]:
    """The tables for a page, with what explains them."""
    methods = [_method_cells(row, report.baseline) for row in report.rows]
    made = [
        page.Table(headers=_METHODS, rows=methods, left=2),
        page.Table(headers=_TESTS, rows=_test_rows(report), note=f"{_ACCURACY_NOTE} {_note(report)}"),
    ]
    if report.reference:
        note = _KEPT_NOTE.format(reference="the reference").replace("\n", " ")
        made.append(page.Table(headers=_KEPT, rows=_kept_rows(report), note=note))
    return made


def plot(report: EvalReport, path: Path) -> None:
    """PNG: accuracy with its 95 % interval against completion tokens per question (log scale, 0 drawn at 1)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
    for index, row in enumerate(report.rows):
        axes.errorbar(
            max(row.tokens_per_question, 1.0),
            100 * row.accuracy,
            yerr=[[100 * (row.accuracy - row.low)], [100 * (row.high - row.accuracy)]],
            fmt="osD^vPX*"[index % 8],
            color=colours[index % len(colours)],
            markersize=8,
            capsize=4,
            label=f"{_label(row, report.baseline)}: {100 * row.accuracy:.1f} %".replace("$", r"\$"),
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("completion tokens per question (log scale)")
    axes.set_ylabel(f"accuracy in % of {report.n} questions (95 % interval)")
    axes.grid(visible=True, alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, format="png", dpi=130)


def _note(report: EvalReport) -> str:
    return NOTE + (_EQUAL_NOTE if report.equal_tokens else "")


def _label(row: EvalRow, baseline: str) -> str:
    return f"{row.name} (baseline)" if row.name == baseline else row.name


def _method_cells(row: EvalRow, baseline: str) -> tuple[str, ...]:
    return (
        _label(row, baseline),
        row.model,
        f"{row.correct}/{row.n}",
        str(row.undecided),
        f"{100 * row.accuracy:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]",
        f"{row.tokens_per_question:.1f}",
        f"{row.calls_per_question:.1f}",
    )


def _test_rows(report: EvalReport) -> list[tuple[str, ...]]:
    named = [(row.name, report.baseline, row.vs_baseline) for row in report.rows if row.name != report.baseline]
    named += [(contrast.a, contrast.b, contrast.test) for contrast in report.contrasts]
    rows = [(f"{a} - {b}", *test_cells(test)) for a, b, test in named]
    for name, equal in _at_equal_tokens(report):
        interval = _points(equal)
        p, p_holm, detectable = score_cells(equal, scale=100)
        k = report.equal_tokens.k if report.equal_tokens else 0
        rows.append((f"{name} - majority@{k} at equal tokens", str(equal.n), "-", "-", interval, p, p_holm, detectable))
    return rows


def _at_equal_tokens(report: EvalReport) -> list[tuple[str, ScoreTest]]:
    """Who is compared with self-consistency at equal tokens."""
    found = report.equal_tokens
    if found is None:
        return []
    return [(str(report.reference), found.difference), *([(STUDENT, found.student)] if found.student else [])]


def score_cells(test: ScoreTest, *, scale: int = 1) -> tuple[str, str, str]:
    """p, p (Holm) and MDD, the last times scale."""
    return (
        "-" if test.p_value is None else p_text(test.p_value),
        "-" if test.p_holm is None else p_text(test.p_holm),
        "" if test.detectable is None else f"{scale * test.detectable:.1f}",
    )


def test_cells(test: PairedTest | None) -> tuple[str, ...]:
    """Cells of TESTED."""
    if test is None:
        return ("0", *("-" for _ in TESTED[1:]))
    return (
        str(test.n),
        str(test.only_a),
        str(test.only_b),
        f"{test.difference:+.1f} [{test.low:+.1f}, {test.high:+.1f}]",
        p_text(test.p_value),
        "-" if test.p_holm is None else p_text(test.p_holm),
        "" if test.detectable is None else f"{test.detectable:.1f}",
    )


def _kept_rows(report: EvalReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for row in report.rows:
        kept, rate, corrected = row.retention, row.per_1000_tokens, row.self_correction
        retention = "-" if kept is None else _interval(kept.value, kept.low, kept.high, scale=100, digits=1)
        rows.append(
            (
                row.name,
                "(reference)" if row.name == report.reference else retention,
                "-" if rate is None else _interval(rate.value, rate.low, rate.high, scale=1, digits=2),
                ""
                if corrected is None
                else _interval(corrected.share, corrected.low, corrected.high, scale=100, digits=1),
            )
        )
    return rows


def equal_tokens(report: EvalReport) -> str:
    """Self-consistency at the tokens of the reference, in a sentence; empty if it was not sampled."""
    found = report.equal_tokens
    if found is None:
        return ""
    differences = ", ".join(
        f"{name} minus it {_points(test)} points{_tested(test)}" for name, test in _at_equal_tokens(report)
    )
    accuracy = _interval(found.accuracy.value, found.accuracy.low, found.accuracy.high, scale=100, digits=1)
    capped = (
        f" Not equal: those tokens would buy {found.affordable} samples, and only {found.k} were drawn."
        if found.capped
        else ""
    )
    return (
        f"self-consistency at equal tokens: majority@{found.k}, {found.tokens_per_question:.0f} completion tokens a "
        f"question, accuracy {accuracy} %; {differences} (paired bootstrap).{capped}"
    )


def _tested(test: ScoreTest) -> str:
    if test.p_holm is None:
        return ""
    _, p_holm, detectable = score_cells(test, scale=100)
    return f", p (Holm) {p_holm}" + (f", MDD {detectable}" if detectable else "")


def _points(found: ScoreTest) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _interval(value: float, low: float, high: float, *, scale: int, digits: int) -> str:
    shown = [f"{scale * number:.{digits}f}" for number in (value, low, high)]
    return "{} [{}, {}]".format(*shown)


def p_text(value: float) -> str:
    """A p-value: 0.043, or 2e-13."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _bar(share: float) -> str:
    filled = round(share * _BAR)
    return "█" * filled + "░" * (_BAR - filled)


def _table(headers: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(headers[0], overflow="fold")  # names may wrap, numbers may not
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _markdown(headers: tuple[str, ...], rows: list[tuple[str, ...]], *, left: int) -> str:
    return markdown.table(headers, [[_escape(cell) for cell in cells] for cells in rows], left=left)


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
