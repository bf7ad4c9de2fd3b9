"""A sweep: its cells, what makes a part another part, the bill, failures; and one real sweep, twice."""

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

from agentark_core import published
from agentark_core.config import SweepConfig, load, parse
from agentark_core.errors import ConfigError, Stopped
from agentark_core.estimate import Figure
from agentark_core.ledger import Store
from agentark_core.stored import debate_runs
from agentark_core.sweep_bill import Bill, Line, evaluation_hours, render_markdown, render_text
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
        "engine": {"shard_size": 24, "kv_cache_gib": 0.125, "max_num_seqs": 64},
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


def paper_grid(*overrides: str) -> SweepConfig:
    return load(SweepConfig, REPOSITORY / "deployments" / "paper_grid.yaml", overrides=list(overrides))


def test_the_paper_grid_trains_120_students_with_a_published_figure_for_every_cell() -> None:
    config = paper_grid()
    cells = config.cells()
    assert len({cell.trained for cell in cells}) == 120 and len(cells) == len({cell.name for cell in cells}) == 240
    assert all(published.of_cell(config, cell) and published.of_base(config, cell) for cell in cells)
    by_name = {cell.name: cell for cell in cells}
    best = by_name["qwen3-32b_gsm8k_gemma-7b-it_da_gsm8k"]
    assert published.of_cell(config, best) == pytest.approx(0.6626)
    assert published.of_cell(config, by_name["gemma-3-27b-it_math_qwen3-0.6b_pad_medmcqa"]) == pytest.approx(0.3292)
    part = config.model_copy(
        update={"test_sets": {"gsm8k": config.test_sets["gsm8k"].model_copy(update={"limit": 100})}}
    )
    assert published.of_cell(part, best) is published.of_base(part, best) is None, "100 questions are another cell"
    ten = paper_grid("debate.num_agents=10")
    assert {published.of_cell(ten, cell) for cell in ten.cells()} == {None}, "ten agents are another cell"


@pytest.mark.parametrize(
    ("overrides", "cell", "found"),
    [
        # Table 4: the process reward model of 8B teaches the 0.6B student, and the other way round.
        (["strategies=[pad]", "prm.model.path=Qwen/Qwen3-8B"], "qwen3-32b_math_qwen3-0.6b_pad_gsm8k", 0.4253),
        (["strategies=[pad]", "prm.model.path=Qwen/Qwen3-0.6B"], "qwen3-32b_metamath_qwen3-8b_pad_medmcqa", 0.5965),
        (["strategies=[pad]", "prm.model.path=Qwen/Qwen3-8B"], "qwen3-32b_gsm8k_qwen3-8b_pad_gsm8k", 0.8905),
        (["strategies=[pad]", "prm.model.path=Qwen/Qwen3-8B"], "qwen3-32b_math_gemma-7b-it_pad_gsm8k", None),
        # Table 5's PPO, whose student is not told; Table 7; Table 8.
        (["strategies=[pad]", "grpo.advantage=value"], "qwen3-32b_gsm8k_qwen3-8b_pad_gsm8k", None),
        (["strategies=[[rsft, da], [pad, da]]"], "qwen3-32b_gsm8k_qwen3-1.7b_rsft-da_gsm8k", None),
        (["strategies=[sft_answer]"], "qwen3-32b_metamath_gemma-7b-it_sft_answer_gsm8k", 0.3639),
    ],
)
def test_the_papers_other_tables_are_its_grid_with_other_keys(
    overrides: list[str], cell: str, found: float | None
) -> None:
    config = paper_grid(*overrides)
    by_name = {each.name: each for each in config.cells()}
    assert published.of_cell(config, by_name[cell]) == pytest.approx(found)


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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_makes_every_cell_once_and_a_second_run_does_nothing(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    whole = settings(home)
    small = {
        "sweep": {"teacher_rows": False, "estimate_questions": 4},
        "test_sets": {"test": whole["test_sets"]["test"]},
    }
    broken = {"broken": {"model": {"path": str(tmp_path / "nowhere")}}, **whole["students"]}
    first = settings(home, **small | {"students": broken, "strategies": ["rsft"]})
    failed = agentark("run", "sweep", first, expect=7, timeout_s=1200)
    assert "0 of 2 cells are made already" in failed.stdout + failed.stderr
    assert "1 of 2 cells failed" in failed.stderr and "nowhere" in failed.stderr
    assert {row["student"]: row["n"] for row in grid(home)} == {"broken": 0, "small": 16}
    models = weights(home)

    done = agentark("run", "sweep", settings(home, **small), timeout_s=900)
    assert "1 of 2 cells are made already" in done.stdout + done.stderr
    assert [(row["n"], row["error"]) for row in grid(home)] == [(16, "")] * 2
    assert len({row["base"]["value"] for row in grid(home)}) == 1
    # The estimate's sample, the debates, and two answers of the base and of each of two students.
    runs = debate_runs(home)
    assert len(runs) == 2 + 2 * 3
    assert len(weights(home)) == 2 and models.items() < weights(home).items(), "rsft is shared by both strategies"

    again = agentark("run", "sweep", settings(home, **small), timeout_s=600)
    assert "2 of 2 cells are made already; nothing to do" in again.stdout + again.stderr
    assert "finished_before: 2" in again.stdout
    assert debate_runs(home) == runs


def grid(home: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((home / "reports" / "tiny" / "grid.json").read_text())
    return rows


def weights(home: Path) -> dict[Path, int]:
    """Every trained model and when it was written."""
    return {path: path.stat().st_mtime_ns for path in home.glob("models/*/model/model.safetensors")}
