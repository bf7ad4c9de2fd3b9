"""Results of a sweep: rows, tables and figures of the grid, from hand-written outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from test_card import HOSTILE, Page
from test_sweep import config_of
from test_text_scores import problem

from agentark_core import evaluation, grid, grid_means, grid_view, paired_tests, text_scores
from agentark_core.grid import GridRow
from agentark_core.reasoning import MeanPerplexity, Reasoning
from agentark_core.statistics import share
from agentark_core.text_scores import ScoreRow
from agentark_core.types import MethodResult
from flows import sweep


def report_of(right: dict[str, str]) -> dict[str, Any]:
    """The report of evaluate-model on hand-written outcomes: method -> "1" or "0" a question."""
    results = [
        MethodResult(
            name=name,
            model="m",
            outcomes={str(index): mark == "1" for index, mark in enumerate(marks)},
            completion_tokens=7 * len(marks),
            prompt_tokens=0,
            calls=len(marks),
        )
        for name, marks in right.items()
    ]
    return evaluation.to_json(evaluation.compare(results, baseline=grid.BASE))


def test_rows_hold_every_cell_and_holm_is_over_the_grid(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    first, second, third, fourth = (cell.name for cell in config.cells())
    parts = {
        first: {"report": report_of({grid.BASE: "0" * 8 + "1" * 2, grid.STUDENT: "1" * 10})},  # 8 to 0: p = 2/256
        second: {"report": report_of({grid.BASE: "0" * 6 + "1" * 4, grid.STUDENT: "1" * 10})},  # 6 to 0: p = 2/64
    }
    rows = grid.rows(config, parts=parts, errors={third: "ModelError: gone"})
    assert [row.cell for row in rows] == [first, second, third, fourth]
    assert rows[0].accuracy == share(10, 10) and rows[0].base == share(2, 10)
    assert (rows[0].n, rows[0].tokens_per_question, rows[0].agents, rows[0].questions) == (10, 7.0, 3, 24)
    tests = [row.difference for row in rows]
    assert tests[0] and tests[1] and tests[2] is None and tests[3] is None
    assert (tests[0].difference, tests[0].p_value, tests[0].p_holm) == (80.0, 2 / 256, 4 / 256)
    assert (tests[1].p_value, tests[1].p_holm) == (2 / 64, 2 / 64)
    paths = sweep.write_reports("tiny", rows, folder=tmp_path / "reports")
    assert [path.name for path in paths] == ["grid.json", "grid.md", "grid.html"]
    data = json.loads(paths[0].read_text())
    assert [row["error"] for row in data] == ["", "", "ModelError: gone", ""]
    text = paths[1].read_text()
    assert "## Failed: 1 of 4 cells" in text and "ModelError: gone" in text
    page = paths[2].read_text()
    # Accuracy on both test sets, and the transfer between them; nothing was trained here, so no cost.
    assert page.count("<svg") == 3 and "Transfer between data sets" in page and "Training cost" not in page


def row(**fields: Any) -> GridRow:
    given: dict[str, Any] = {
        "cell": "c",
        "teacher": "t",
        "train": "gsm8k",
        "student": "s",
        "strategy": "rsft",
        "test": "gsm8k",
        "agents": 5,
        "questions": 0,
        **fields,
    }
    return GridRow(**given)


def test_tables_show_the_published_figure_beside_ours_and_a_dash_without_one(tmp_path: Path) -> None:
    rows = [
        row(accuracy=share(60, 100), base=share(50, 100), published=0.4867, published_base=0.4193, undecided=3),
        row(strategy="da", accuracy=share(70, 100), base=share(50, 100), published_base=0.4193),
        row(student="|evil|", error="DataError: x"),
        row(test="ood", strategy="da", agents=10),
    ]
    page = grid_view.render_markdown("x", rows)
    assert (
        "| s | t | gsm8k | 50.0 [40.4, 59.6] / 41.93 | 60.0 [50.2, 69.1] / 48.67 | 70.0 [60.4, 78.1] / - | 3 / 0 |"
    ) in page
    assert r"| \|evil\| | t | gsm8k | - / - | failed |  | - / - |" in page
    assert "| s | t | gsm8k | - / - | - / - | - |" in page, "not made yet"
    shown = grid_view.render_text(rows)
    assert "60.0 [50.2, 69.1]" in shown and "48.67" in shown and "3 / 0" in shown


def titles(rows: list[GridRow]) -> list[str]:
    return [section.title for section in grid_view.sections(rows)]


def compared(**fields: Any) -> GridRow:
    """A cell whose student is right on 60 of 100 questions and its base on 50 of them."""
    student = {str(number): number < 60 for number in range(100)}
    base = {str(number): number < 50 for number in range(100)}
    test = paired_tests.paired(student, base)
    return row(n=100, accuracy=share(60, 100), base=share(50, 100), difference=test, **fields)


def test_each_figure_of_the_paper_is_drawn_where_its_cells_are(tmp_path: Path) -> None:
    one = [compared(questions=100)]
    assert titles(one) == ["Accuracy in domain: trained on , tested on gsm8k", "Differences against the base"]
    ten = compared(questions=100, teacher="ten", agents=10, published=0.6)
    more = [*one, ten, compared(train="b", questions=200)]
    found = {section.title: section for section in grid_view.sections(more)}
    agents = found["Accuracy by number of agents (Figure 4 of the paper)"]
    data = found["Accuracy by size of the data (Figures 5 and 10 of the paper)"]
    assert [line[5:] for line in agents.tables[0].rows] == [
        ["5", "60.0 [50.2, 69.1] / -"],
        ["10", "60.0 [50.2, 69.1] / 60.00"],
    ]
    assert [line[5] for line in data.tables[0].rows] == ["100", "200"]
    for section in (agents, data):
        assert len(section.figures) == 1 and 'role="img" aria-label="Chart of accuracy by' in section.figures[0]
    many = [compared(test=f"t{number}", agents=agents) for number in range(7) for agents in (5, 10)]
    (over,) = [section for section in grid_view.sections(many) if "agents" in section.title]
    assert len(over.figures) == 3, "three panels a figure"
    others = [compared(teacher=one, teacher_model=one, agents=agents) for one, agents in (("a", 5), ("b", 10))]
    assert not [title for title in titles(others) if "agents" in title], "two teachers are no line"
    assert titles([row(error="x")]) == ["Accuracy in domain: trained on , tested on gsm8k", "Failed: 1 of 1 cells"]


def test_means_are_over_the_cells_that_have_every_strategy() -> None:
    """By hand: two train sets, one student; the third train set lacks a strategy and counts nowhere."""
    rows = [
        row(n=100, train=train, strategy=strategy, test=test, accuracy=share(right, 100), base=share(50, 100))
        for train, test, rsft, da in (("a", "x", 60, 70), ("a", "y", 40, 50), ("b", "x", 30, 90))
        for strategy, right in (("rsft", rsft), ("da", da))
    ]
    alone = row(n=100, train="c", strategy="da", test="x", accuracy=share(99, 100), base=share(1, 100))
    found = grid_means.means([*rows, alone])
    assert [(one.by, one.value, one.strategy, one.accuracy.n) for one in found] == [
        ("train", train, strategy, n) for train, n in (("a", 2), ("b", 1)) for strategy in ("base", "rsft", "da")
    ]
    assert [round(100 * one.accuracy.value) for one in found] == [50, 50, 60, 50, 30, 90]
    low = (share(60, 100).low + share(40, 100).low) / 2
    assert found[1].accuracy.low == pytest.approx(low)
    (section,) = [section for section in grid_view.sections(rows) if section.title.startswith("Mean accuracy")]
    assert len(section.figures) == 1 and [line[:2] for line in section.tables[0].rows] == [["a", "2"], ["b", "1"]]
    assert not grid_means.means([one for one in rows if one.strategy == "da"]), "one strategy is no comparison"


def test_data_sets_are_told_apart_and_the_transfer_between_them_is_mapped() -> None:
    rows = [
        compared(train_source="gsm8k", test="m", test_source="math", strategy="da"),
        compared(train_source="gsm8k", test="g", test_source="gsm8k", strategy="da"),
    ]
    assert titles(rows) == [
        "Accuracy in domain: trained on gsm8k, tested on g",
        "Accuracy across data sets: trained on gsm8k, tested on m",
        "Differences against the base",
        "Transfer between data sets: students of t",
    ]
    transfer = list(grid_view.sections(rows))[-1]
    assert transfer.tables[0].rows == [["gsm8k", "s", "da", "+10.0", "+10.0"]]
    assert "gsm8k, s, da on m: +10.0." in transfer.figures[0] and "data:" not in transfer.figures[0]


def test_scores_reasoning_and_cost_stand_where_cells_have_them(tmp_path: Path) -> None:
    score = ScoreRow(method=grid.STUDENT, metric="f1", n=4, mean=41.2, interval=(33.0, 49.5))
    base = ScoreRow(method=grid.BASE, metric="f1", n=4, mean=30.0, interval=None)
    perplexity = MeanPerplexity(
        model="m", mean=1.5, interval=(1.4, 1.6), n=9, tokens=9, no_reasoning=0, too_long=0, incomplete=0
    )
    rows = [
        row(test="qasper", n=4, undecided=4, accuracy=share(0, 4), scores=(score,), base_scores=(base,)),
        compared(reasoning=Reasoning(perplexity=(perplexity,)), training=grid.Training(rows=7, steps=3, seconds=12.5)),
    ]
    found = {section.title: section for section in grid_view.sections(rows)}
    assert list(found) == [
        "Accuracy in domain: trained on , tested on gsm8k",
        "Differences against the base",
        "Scores without training on the set: qasper (Figure 6 of the paper)",
        "Reasoning perplexity",
        "Training cost",
    ]
    prose = found["Scores without training on the set: qasper (Figure 6 of the paper)"]
    assert prose.tables[0].rows == [["s", "base", "", "", "30.0 [-]"], ["s", "rsft", "t", "gsm8k", "41.2 [33.0, 49.5]"]]
    assert len(prose.figures) == 1 and "s, rsft, f1: 41.2." in prose.figures[0]
    assert found["Reasoning perplexity"].tables[0].rows[0][5:] == ["m", "1.500 [1.400, 1.600]", "9"]
    assert found["Training cost"].tables[0].rows == [["s", "rsft", "t", "gsm8k", "7", "3", "12"]]
    assert "+10.0 points after 12 s" in found["Training cost"].figures[0]


def test_what_lies_beside_a_cell_is_read(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    cell, folder = config.cells()[0], tmp_path / "reports" / "cell"
    folder.mkdir(parents=True)
    scores = {name: {"q": {"f1": value}, "r": {"f1": value}} for name, value in ((grid.BASE, 1.0), (grid.STUDENT, 2.0))}
    text_scores.write(scores, questions=[problem(1)], folder=folder)
    made_from = {grid.STUDENT: {"debates": "f" * 16, "answer": "vote"}}
    (folder / "evaluation.json").write_text(json.dumps({"made_from": made_from}))
    stages = [
        {"strategy": "rsft", "examples": 10, "training": {"steps": 2, "seconds": 1.5}},
        {"strategy": "da", "examples": 5, "training": {"steps": 3, "seconds": 2.0}},
    ]
    report = report_of({grid.BASE: "01", grid.STUDENT: "11"})
    part = {"report": report, "stages": stages, "folder": str(folder)}
    first = grid.rows(config, parts={cell.name: part}, errors={})[0]
    assert first.training == grid.Training(rows=15, steps=5, seconds=3.5) and first.reasoning is None
    assert [(score.metric, score.mean) for score in first.scores] == [("f1", 2.0)]
    older = grid.rows(config, parts={cell.name: {"report": report}}, errors={})[0]
    assert older.training is None and older.scores == () and older.accuracy == first.accuracy


def test_hostile_names_and_errors_of_a_grid_are_text() -> None:
    names = {"student": HOSTILE, "teacher": HOSTILE, "train": HOSTILE, "strategy": HOSTILE}
    rows = [compared(test=test, agents=agents, **names) for test in (HOSTILE, "b") for agents in (5, 10)]
    parsed = Page(grid_view.render_html(HOSTILE, [*rows, row(error=HOSTILE)]))
    assert not {"script", "img", "iframe", "textarea"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name == "src"]
    assert all(value.startswith("#") for name, value in parsed.attributes if name in ("href", "xlink:href"))
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(grid_view.render_markdown(HOSTILE, rows))
    kinds = {token.type for block in tokens for token in [block, *(block.children or [])]}
    assert not {"html_block", "html_inline", "link_open", "image", "code_inline"} & kinds


# ---- the real thing
