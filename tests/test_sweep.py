"""The grid: its cells, what makes a part another part, the bill, failures, tables; and one real sweep, twice."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt
from test_card import HOSTILE, Page

from agentark_core import evaluation, grid, grid_view, published, text_scores
from agentark_core.config import SweepConfig, load, parse
from agentark_core.errors import ConfigError, Stopped
from agentark_core.estimate import Figure
from agentark_core.grid import GridRow
from agentark_core.ledger import Store
from agentark_core.reasoning import MeanPerplexity, Reasoning
from agentark_core.statistics import share
from agentark_core.stored import debate_runs
from agentark_core.sweep_bill import Bill, Line, evaluation_hours, render_markdown, render_text
from agentark_core.text_scores import ScoreRow
from agentark_core.types import MethodResult
from flows import stage, sweep, sweep_plan
from tasks.extract_tasks import _content_digest
from tasks.trace_tasks import load_problems

REPOSITORY = Path(__file__).resolve().parents[1]
Cli = Callable[..., subprocess.CompletedProcess[str]]


def settings(home: Path, **changes: Any) -> dict[str, Any]:
    return {
        "run": {"name": "tiny", "home": str(home)},
        "teachers": {"arkling": {"model": {"path": "arkling:teacher", "prompts": "arkling"}}},
        "students": {"small": {"model": {"path": "arkling:student", "prompts": "arkling"}}},
        "strategies": ["rsft", ["rsft", "da"]],
        "train_sets": {"distil": {"source": "arkling", "split": "distil", "limit": 24}},
        "test_sets": {
            "test": {"source": "arkling", "split": "test", "limit": 16},
            "ood": {"source": "arkling", "split": "ood", "limit": 16},
        },
        "debate": {
            "num_agents": 3,
            "num_rounds": 2,
            "summariser": "never",
            "sampling": {"temperature": 0.9, "max_tokens": 96},
        },
        "engine": {"shard_size": 24, "max_num_seqs": 64},
        "sft": {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 8, "max_length": 512},
    } | changes


def config_of(home: Path, **changes: Any) -> SweepConfig:
    return parse(SweepConfig, settings(home, **changes), origin="sweep.yaml")


@pytest.fixture
def without_prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tasks as the functions they are: no server for keys."""
    monkeypatch.setattr(stage, "load_problems", load_problems.fn)
    monkeypatch.setattr(sweep, "get_run_logger", lambda: logging.getLogger("test"))
    yield


# ---- the cells


def test_cells_are_the_product_of_the_axes_in_their_order(tmp_path: Path) -> None:
    cells = config_of(tmp_path).cells()
    assert [cell.name for cell in cells] == [
        "arkling_distil_small_rsft_test",
        "arkling_distil_small_rsft_ood",
        "arkling_distil_small_rsft-da_test",
        "arkling_distil_small_rsft-da_ood",
    ]
    assert {cell.debates for cell in cells} == {"arkling_distil"}
    assert len({cell.trained for cell in cells}) == 2


def test_an_axis_changes_only_the_keys_that_it_names(tmp_path: Path) -> None:
    model = {"path": "arkling:teacher", "prompts": "arkling"}
    config = config_of(
        tmp_path,
        teachers={
            "three": {"model": model},
            "ten": {"model": model, "debate": {"num_agents": 10, "sampling": {"top_p": 0.5}}},
        },
    )
    ten, three = config.debate_of("ten"), config.debate_of("three")
    assert (three.num_agents, three.sampling.top_p) == (3, 1.0)
    assert (ten.num_agents, ten.num_rounds, ten.sampling.top_p, ten.sampling.temperature) == (10, 2, 0.5, 0.9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategies": ["rsft", "rsft"]}, ["two cells are called", "arkling_distil_small_rsft_ood"]),
        ({"strategies": []}, ["strategies", "at least 1"]),
        ({"students": {"s": {"model": {"path": "x"}, "sft": {"epoch": 1}}}}, ["students.s.sft.epoch", "Extra inputs"]),
        ({"students": {"s": {"model": {"path": "x"}, "sft": {"batch_size": 9}}}}, ["students.s.sft", "multiple"]),
        ({"teachers": {"t": {"model": {"path": "x"}, "students": ["y"]}}}, ["teachers.t.students", "no student 'y'"]),
        ({"test_sets": {"a/b": {}}}, ["test_sets", "invalid name"]),
        ({"sweep": {"estimate_questions": 0, "max_engine_hours": 1}}, ["sweep", "estimate_questions"]),
        ({"sweep": {"parallel_cells": 2}, "evaluation": {"load": {"queries": 9}}}, ["parallel_cells to 1"]),
    ],
)
def test_a_grid_that_cannot_run_is_refused_before_it_starts(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, **changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_paper_grid_has_120_cells_and_every_published_figure() -> None:
    config = load(SweepConfig, REPOSITORY / "deployments" / "paper_grid.yaml")
    cells = config.cells()
    assert len(cells) == len({cell.name for cell in cells}) == 120
    found = {published.of_cell(config, cell) for cell in cells} | {published.of_base(config, cell) for cell in cells}
    assert found == {None, *published.figures().values()} and len(published.figures()) == 15
    by_name = {cell.name: cell for cell in cells}
    best = by_name["qwen3-32b_gsm8k_gemma-7b-it_da_gsm8k"]
    assert published.of_cell(config, best) == pytest.approx(0.6626)
    assert published.of_cell(config, by_name["qwen3-32b_gsm8k_gemma-7b-it_rsft_gsm8k"]) is None
    part = config.model_copy(
        update={"test_sets": {"gsm8k": config.test_sets["gsm8k"].model_copy(update={"limit": 100})}}
    )
    assert published.of_cell(part, best) is published.of_base(part, best) is None, "100 questions are another cell"


# ---- content addressing


def keys(config: SweepConfig, home: Path) -> dict[str, dict[str, str]]:
    """Every key of every part; the trained model is a stand-in of the same content for all."""
    of = sweep_plan.keys_of(config, home=home)
    made: dict[str, dict[str, str]] = {"debates": {}, "students": {}, "cells": {}}
    for cell in config.cells():
        made["debates"][cell.debates], spec = of.debates(cell)
        made["students"][cell.trained] = of.student(cell, debates=spec.fingerprint)
        made["cells"][cell.name] = of.cell(cell, student={"model": "arkling:student", "revision": cell.strategy})
    return made


@pytest.mark.usefixtures("without_prefect")
def test_only_what_depends_on_a_change_gets_another_key(tmp_path: Path) -> None:
    before = keys(config_of(tmp_path), tmp_path)

    again = keys(config_of(tmp_path, run={"name": "another", "home": str(tmp_path)}), tmp_path)
    assert again == before, "another sweep finds the same parts"

    strategy = keys(config_of(tmp_path, strategies=["rsft", "da"]), tmp_path)
    assert strategy["debates"] == before["debates"]
    same = {"arkling_distil_small_rsft"}
    assert {name for name, key in strategy["students"].items() if before["students"].get(name) == key} == same

    tests = {**settings(tmp_path)["test_sets"], "ood": {"source": "arkling", "split": "ood", "limit": 17}}
    test = keys(config_of(tmp_path, test_sets=tests), tmp_path)
    assert test["debates"] == before["debates"]
    assert test["students"].keys() == before["students"].keys()
    changed = {name for name in before["cells"] if test["cells"][name] != before["cells"][name]}
    assert changed == {"arkling_distil_small_rsft_ood", "arkling_distil_small_rsft-da_ood"}

    sft = keys(config_of(tmp_path, sft={**settings(tmp_path)["sft"], "epochs": 2}), tmp_path)
    assert sft["debates"] == before["debates"]
    assert not set(sft["students"].values()) & set(before["students"].values())

    train = {"distil": {"source": "arkling", "split": "distil", "limit": 25}}
    assert not set(keys(config_of(tmp_path, train_sets=train), tmp_path)["debates"].values()) & set(
        before["debates"].values()
    )


def test_equal_examples_train_the_same_model_whatever_they_were_guarded_against(tmp_path: Path) -> None:
    def store(name: str, values: list[int]) -> Store:
        made = Store(tmp_path, stage="rsft", fingerprint=name, config={})
        with made.lease("00000", timeout_s=60) as lease:
            made.commit("00000", pa.table({"row": values}), lease=lease, config_hash=name)
        return made

    one, guarded, other = store("a", [1, 2]), store("b", [1, 2]), store("c", [1])
    assert one.digest() != guarded.digest()
    assert _content_digest([one]) == _content_digest([guarded]) != _content_digest([other])


@pytest.mark.usefixtures("without_prefect")
def test_finished_parts_are_found_and_a_part_that_cannot_be_named_is_an_error(tmp_path: Path) -> None:
    missing = {"source": "file", "path": str(tmp_path / "none.jsonl")}
    trains = {**settings(tmp_path)["train_sets"], "gone": missing}
    config = config_of(tmp_path, train_sets=trains, sweep={"estimate_questions": 0})
    of = sweep_plan.keys_of(config, home=tmp_path)
    plan = sweep_plan.look(of)
    assert set(plan.specs) == {"arkling_distil"} and not plan.debates
    assert set(plan.errors) == {"arkling_gone"} and "none.jsonl" in plan.errors["arkling_gone"]

    bill = sweep_plan.bill_of(plan, keys=of)
    lines = {line.name: line for line in bill.lines}
    assert lines["debates arkling_distil"].generations == 24 * 3 * 2
    assert lines["students"].count == 2
    # Two cells and one base, greedy and sampled; the teacher greedy, sampled, by vote and by debate (6 calls each).
    assert lines["evaluations arkling, test"].generations == 16 * (2 * 3 + 2 + 6 + 6)
    assert (bill.cells, bill.finished) == (8, 0)
    sampled = config_of(tmp_path, train_sets=trains, sweep={"estimate_questions": 0}, evaluation={"student_samples": 8})
    lines = {line.name: line for line in sweep_plan.bill_of(plan, keys=replace(of, config=sampled)).lines}
    assert lines["evaluations arkling, test"].generations == 16 * ((2 + 8) * 3 + 2 + 6 + 6)

    cell = config.cells()[0]
    key, spec = of.debates(cell)
    stage.finish(tmp_path, flow=sweep_plan.DEBATES, key=key, record={"fingerprint": spec.fingerprint}, made=[tmp_path])
    student = {"model": "arkling:student", "revision": "r"}
    for one in config.cells()[:4]:
        if one.strategy == "rsft":
            name = of.student(one, debates=spec.fingerprint)
            stage.finish(tmp_path, flow=sweep_plan.STUDENT, key=name, record=student, made=[])
            key = of.cell(one, student=student)
            stage.finish(tmp_path, flow=sweep_plan.CELL, key=key, record={"report": {}}, made=[])
    plan = sweep_plan.look(of)
    assert set(plan.debates) == {"arkling_distil"} and set(plan.students) == {"arkling_distil_small_rsft"}
    assert set(plan.cells) == {"arkling_distil_small_rsft_test", "arkling_distil_small_rsft_ood"}
    bill = sweep_plan.bill_of(plan, keys=of)
    assert [line.name for line in bill.lines] == ["students", "evaluations arkling, test", "evaluations arkling, ood"]


# ---- failures


@pytest.mark.usefixtures("without_prefect")
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_part_that_fails_is_recorded_and_the_others_are_made(parallel: int) -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("two\nlines")

    made = sweep.make_each({"a": lambda: {"x": 1}, "b": fail, "c": lambda: {"x": 3}}, parallel=parallel)
    assert made == {"a": {"x": 1}, "b": sweep.Failed(error="ValueError: two lines"), "c": {"x": 3}}
    dependent = sweep.make_each(
        {"d": lambda: sweep._of("b", made), "e": lambda: sweep._of("c", made)}, parallel=parallel
    )
    assert dependent == {"d": sweep.Failed(error="ValueError: two lines"), "e": {"x": 3}}


@pytest.mark.usefixtures("without_prefect")
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_signal_ends_the_sweep(parallel: int) -> None:
    def stop() -> dict[str, Any]:
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        sweep.make_each({"a": stop, "b": lambda: {}}, parallel=parallel)


@pytest.mark.usefixtures("without_prefect")
def test_parallel_parts_run_at_once() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet() -> dict[str, Any]:
        both.wait()
        return {}

    assert sweep.make_each({"a": meet, "b": meet}, parallel=2) == {"a": {}, "b": {}}


# ---- the bill

ESTIMATE: dict[str, Any] = {
    "rounds": {
        "all": {
            "turns": {"value": 100.0, "low": 90.0, "high": 110.0},
            "completion_tokens": {"value": 6000.0, "low": 5000.0, "high": 7000.0},
        }
    },
    "speed": {"tokens_per_s": 10.0, "full_batch": True},
}


def test_evaluations_are_billed_at_the_tokens_of_a_turn_and_the_speed_of_the_teacher() -> None:
    # 1,200 generations x 60 tokens / 10 tokens/s = 7,200 s
    assert evaluation_hours(1200, estimate=ESTIMATE) == Figure(
        value=2.0, low=pytest.approx(5 / 3), high=pytest.approx(7 / 3)
    )
    slow = {**ESTIMATE, "speed": {"tokens_per_s": 10.0, "full_batch": False}}
    assert evaluation_hours(1200, estimate=slow).low == 0


def test_a_bill_above_the_cap_is_refused_by_its_upper_end() -> None:
    lines = (
        Line(name="debates a", count=1, questions=5, generations=80, hours=Figure(value=3, low=2, high=4)),
        Line(name="students", count=2),
        Line(name="evaluations a, test", count=2, questions=10, generations=60, hours=Figure(value=1, low=0.5, high=2)),
    )
    bill = Bill(lines=lines, cells=4, finished=1)
    assert bill.hours == Figure(value=4, low=2.5, high=6)
    assert bill.refusal(0) is None and bill.refusal(6) is None
    assert "4 [2.5, 6] engine hours" in str(bill.refusal(5.9))
    assert "cannot be held" in str(replace(bill, unknown=("debates a: ModelError: no such model",)).refusal(100))
    text = render_text(bill)
    assert "1 of 4 cells are made already" in text and "140" in text and "4 [2.5, 6]" in text
    assert "| all |  |  | 140 | 4 [2.5, 6] |" in render_markdown(bill)
    assert "nothing to do" in render_text(Bill(lines=(), cells=4, finished=4))


# ---- results


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
        row(accuracy=share(60, 100), base=share(50, 100), published=0.4867, published_base=0.4193),
        row(strategy="da", accuracy=share(70, 100), base=share(50, 100), published_base=0.4193),
        row(student="|evil|", error="DataError: x"),
        row(test="ood", strategy="da", agents=10),
    ]
    page = grid_view.render_markdown("x", rows)
    assert "| s | t | gsm8k | 50.0 [40.4, 59.6] / 41.93 | 60.0 [50.2, 69.1] / 48.67 | 70.0 [60.4, 78.1] / - |" in page
    assert r"| \|evil\| | t | gsm8k | - / - | failed |  |" in page
    assert "| s | t | gsm8k | - / - | - / - |" in page, "not made yet"
    assert "60.0 [50.2, 69.1] / 48.67" in grid_view.render_text(rows)


def titles(rows: list[GridRow]) -> list[str]:
    return [section.title for section in grid_view.sections(rows)]


def compared(**fields: Any) -> GridRow:
    """A cell whose student is right on 60 of 100 questions and its base on 50 of them."""
    student = {str(number): number < 60 for number in range(100)}
    base = {str(number): number < 50 for number in range(100)}
    test = evaluation.paired(student, base)
    return row(n=100, accuracy=share(60, 100), base=share(50, 100), difference=test, **fields)


def test_each_figure_of_the_paper_is_drawn_where_its_cells_are(tmp_path: Path) -> None:
    one = [compared(questions=100)]
    assert titles(one) == ["Accuracy in domain: trained on , tested on gsm8k", "Differences against the base"]
    ten = compared(questions=100, teacher="ten", agents=10, published=0.6)
    more = [*one, ten, compared(train="b", questions=200)]
    found = {section.title: section for section in grid_view.sections(more)}
    agents = found["Accuracy by number of agents (Figure 4 of the paper)"]
    data = found["Accuracy by size of the data (Figure 5 of the paper)"]
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
    perplexity = MeanPerplexity(
        model="m", mean=1.5, interval=(1.4, 1.6), n=9, tokens=9, no_reasoning=0, too_long=0, incomplete=0
    )
    rows = [
        row(test="qasper", n=4, undecided=4, accuracy=share(0, 4), base=share(0, 4), scores=(score,)),
        compared(reasoning=Reasoning(perplexity=(perplexity,)), training=grid.Training(rows=7, steps=3, seconds=12.5)),
    ]
    found = {section.title: section for section in grid_view.sections(rows)}
    assert list(found) == [
        "Accuracy in domain: trained on , tested on gsm8k",
        "Differences against the base",
        "Scores without training on the set: qasper",
        "Reasoning perplexity",
        "Training cost",
    ]
    (line,) = found["Scores without training on the set: qasper"].tables[0].rows
    assert line == ["s", "rsft", "t", "gsm8k", "41.2 [33.0, 49.5]"]
    assert found["Reasoning perplexity"].tables[0].rows[0][5:] == ["m", "1.500 [1.400, 1.600]", "9"]
    assert found["Training cost"].tables[0].rows == [["s", "rsft", "t", "gsm8k", "7", "3", "12"]]
    assert "+10.0 points after 12 s" in found["Training cost"].figures[0]


def test_what_lies_beside_a_cell_is_read(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    cell, folder = config.cells()[0], tmp_path / "reports" / "cell"
    folder.mkdir(parents=True)
    scores = {name: {"q": {"f1": value}, "r": {"f1": value}} for name, value in ((grid.BASE, 1.0), (grid.STUDENT, 2.0))}
    text_scores.write(scores, questions=[], folder=folder)
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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_makes_every_cell_once_and_a_second_run_does_nothing(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    asked = settings(home)["test_sets"]["test"]
    small = {"sweep": {"teacher_rows": False, "estimate_questions": 4}, "test_sets": {"test": asked}}
    done = agentark("run", "sweep", settings(home, **small), timeout_s=1200)
    assert "0 of 2 cells are made already" in done.stdout + done.stderr
    rows = json.loads((home / "reports" / "tiny" / "grid.json").read_text())
    assert [(row["n"], row["error"]) for row in rows] == [(16, "")] * 2
    assert len({row["base"]["value"] for row in rows}) == 1
    # The estimate's sample, the debates, and two answers of the base and of each of two students.
    runs = debate_runs(home)
    assert len(runs) == 2 + 2 * 3
    models = {path: path.stat().st_mtime_ns for path in home.glob("models/*/model/model.safetensors")}
    assert len(models) == 2, "rsft is shared by both strategies"

    again = agentark("run", "sweep", settings(home, **small), timeout_s=600)
    assert "2 of 2 cells are made already; nothing to do" in again.stdout + again.stderr
    assert "finished_before: 2" in again.stdout
    assert debate_runs(home) == runs

    tests = {"test": asked, "more": {"source": "arkling", "split": "test", "limit": 8, "offset": 100}}
    broken = {"broken": {"model": {"path": str(tmp_path / "nowhere")}}, **settings(home)["students"]}
    failed = agentark(
        "run",
        "sweep",
        settings(home, **small | {"test_sets": tests, "students": broken, "strategies": ["rsft"]}),
        expect=7,
        timeout_s=900,
    )
    assert "2 of 4 cells failed" in failed.stderr and "nowhere" in failed.stderr
    assert models == {path: path.stat().st_mtime_ns for path in home.glob("models/*/model/model.safetensors")}
    rows = json.loads((home / "reports" / "tiny" / "grid.json").read_text())
    found = {(row["student"], row["test"]): row["n"] for row in rows}
    assert found == {
        **{("broken", test): 0 for test in tests},
        **{("small", "test"): 16, ("small", "more"): 8},
    }
