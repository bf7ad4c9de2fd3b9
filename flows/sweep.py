"""sweep: a grid of teachers, students, strategies, train and test sets in; every cell's accuracy and tables out."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from agentark_core import grid, grid_view, sweep_bill
from agentark_core.cluster import ray_cluster
from agentark_core.config import Cell, EngineConfig, ModelConfig, SweepConfig
from agentark_core.errors import CellsFailed, ConfigError, Stopped
from agentark_core.judge import JudgeSetup, judged_by
from agentark_core.ledger import atomic_write_text
from agentark_core.rollouts import rolled_out_by
from agentark_core.selector import selected_by
from flows import stage, sweep_plan
from flows.build_traces import build_traces
from flows.debate_stage import complete_debates
from flows.distil import distil
from flows.evaluate_model import all_methods, engine_of, evaluate_model
from flows.extraction_stage import existing_debates
from flows.sweep_plan import CELL, DEBATES, STUDENT, Keys, Record, first
from tasks.trace_tasks import DebateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A part that could not be made, and why."""

    error: str


class NotMade(Exception):
    """What a part is made of failed itself; the message says why."""


Made = dict[str, Record | Failed]
"""Parts by name."""


@flow(
    name="sweep",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def sweep(config: SweepConfig) -> dict[str, Any]:
    """Debates, then students, then evaluations, each part once; a part that fails does not stop the others.

    What is finished is found by its content and left alone. Raises ConfigError if the bill is above the cap, and
    CellsFailed, after all is tabled, if a cell could not be made.
    """
    home = stage.prepare_home(config.run)
    keys = sweep_plan.keys_of(config, home=home)
    bill = sweep_plan.bill_of(sweep_plan.look(keys), keys=keys)
    get_run_logger().info("the bill\n%s", sweep_bill.render_text(bill))
    create_markdown_artifact(sweep_bill.render_markdown(bill), key="sweep-bill")
    if refusal := bill.refusal(config.sweep.max_engine_hours):
        raise ConfigError(refusal)
    if config.sweep.plan_only:
        return {"cells": bill.cells, "finished": bill.finished, "engine_hours": bill.hours}
    working = bill.finished < bill.cells
    with stage.tracked("sweep", config=config, home=home, parent_run_id="") if working else nullcontext() as run:
        if working and config.sweep.parallel_cells > 1:
            ray_cluster.connect()  # in the thread that stays
        made = _make_all(keys, parent_run_id=run.run_id if run else "")
        rows = grid.rows(
            config,
            parts={name: part for name, part in made.items() if not isinstance(part, Failed)},
            errors={name: part.error for name, part in made.items() if isinstance(part, Failed)},
        )
        paths = write_reports(config.run.name, rows, folder=home / "reports" / config.run.name)
        for path in paths:
            if run:
                run.log_artifact(path)
        get_run_logger().info("\n%s", grid_view.render_text(rows))
        create_markdown_artifact(grid_view.render_markdown(config.run.name, rows), key="sweep")
        if failed := [row for row in rows if row.error]:
            raise CellsFailed(
                f"{len(failed)} of {len(rows)} cells failed: "
                + "; ".join(f"{row.cell} ({row.error})" for row in failed[:5])
                + (f"; the others are in {paths[1]}" if len(failed) > 5 else f"; see {paths[1]}")
            )
    return {
        "cells": len(rows),
        "finished_before": bill.finished,
        "report_paths": [str(path) for path in paths],
    }


def write_reports(name: str, rows: tuple[grid.GridRow, ...], *, folder: Path) -> list[Path]:
    """grid.json, grid.md and grid.html."""
    texts = {
        "grid.json": json.dumps(grid.to_json(rows), indent=2, sort_keys=True),
        "grid.md": grid_view.render_markdown(name, rows),
        "grid.html": grid_view.render_html(name, rows),
    }
    for file, text in texts.items():
        atomic_write_text(folder / file, text)
    return [folder / file for file in texts]


def _make_all(keys: Keys, *, parent_run_id: str) -> Made:
    """All parts in the order in which they need each other; returns the cells."""
    cells, parallel = keys.config.cells(), keys.config.sweep.parallel_cells
    debates = make_each(
        {
            name: partial(_debates, cell, keys=keys, parent_run_id=parent_run_id)
            for name, cell in first(cells, lambda cell: cell.debates).items()
        },
        parallel=parallel,
    )
    students = make_each(
        {
            name: partial(_student, cell, debates=debates, keys=keys, parent_run_id=parent_run_id)
            for name, cell in first(cells, lambda cell: cell.trained).items()
        },
        parallel=parallel,
    )
    _answer_all(cells, students=students, keys=keys)
    return make_each(
        {cell.name: partial(_cell, cell, students=students, keys=keys, parent_run_id=parent_run_id) for cell in cells},
        parallel=parallel,
    )


def make_each(work: dict[str, Callable[[], Record]], *, parallel: int) -> Made:
    """Do all work, so many at once; what fails is recorded. Only Stopped (a signal, a cap) ends it all."""
    if parallel == 1:
        return {name: _attempt(name, make) for name, make in work.items()}
    with ThreadPoolExecutor(parallel) as pool:
        # Each in a copy of the context, in which Prefect finds the flow that it is part of.
        futures = {
            name: pool.submit(contextvars.copy_context().run, _attempt, name, make) for name, make in work.items()
        }
        return {name: future.result() for name, future in futures.items()}


def _attempt(name: str, make: Callable[[], Record]) -> Record | Failed:
    try:
        return make()
    except Stopped:
        raise
    except NotMade as error:
        return Failed(error=str(error))
    except Exception as error:
        why = sweep_plan.reason(error)
        get_run_logger().error("%s failed, the sweep goes on: %s", name, why)
        return Failed(error=why)


def _of(name: str, made: Made) -> Record:
    """A part that another is made of."""
    part = made[name]
    if isinstance(part, Failed):
        raise NotMade(part.error)
    return part


def _debates(cell: Cell, *, keys: Keys, parent_run_id: str) -> Record:
    key, spec = keys.debates(cell)
    if done := stage.finished(keys.home, flow=DEBATES, key=key):
        return done
    totals = build_traces(keys.config.debates_config(cell), parent_run_id=parent_run_id)
    store = existing_debates(keys.home, fingerprint=spec.fingerprint)
    return stage.finish(keys.home, flow=DEBATES, key=key, record=totals, made=[store.root])


def _student(cell: Cell, *, debates: Made, keys: Keys, parent_run_id: str) -> Record:
    traces = _of(cell.debates, debates)["fingerprint"]
    key = keys.student(cell, debates=traces)
    if done := stage.finished(keys.home, flow=STUDENT, key=key):
        return done
    config = keys.config.student_config(cell, debates=traces)
    examples = config.examples.model_copy(
        update={"selector": selected_by(keys.selector(cell)), "rollouts": rolled_out_by(keys.rollouts(cell))}
    )
    given = {"examples": examples, "verification": judged_by(keys.judge(cell))}
    made = distil(config.model_copy(update=given), parent_run_id=parent_run_id)
    record = {name: made[name] for name in ("model", "revision", "stages", "yield", "registered")}
    return stage.finish(keys.home, flow=STUDENT, key=key, record=record, made=[Path(made["model"])])


def _answer_all(cells: Sequence[Cell], *, students: Made, keys: Keys) -> None:
    """Let every model answer all test sets of the cells to be made in one start of its engines.

    A model that fails here is left to its cells, which fail with their own error.
    """
    asked: dict[tuple[ModelConfig, EngineConfig], list[DebateSpec]] = {}
    judges: dict[tuple[ModelConfig, EngineConfig], JudgeSetup | None] = {}

    def ask(cell: Cell) -> Record:
        student = _of(cell.trained, students)
        if done := stage.finished(keys.home, flow=CELL, key=keys.cell(cell, student=student)):
            return done
        config = keys.config.evaluation_config(cell, model=student["model"])
        problems = stage.load_held_out(config.evaluation.problems, config=config, home=keys.home)
        for _, spec, _ in all_methods(config, problems=problems):
            runs_on = (spec.model, engine_of(config, spec.model))
            asked.setdefault(runs_on, []).append(spec)
            judges[runs_on] = keys.judge(cell)
        return {}

    def answer(runs_on: tuple[ModelConfig, EngineConfig]) -> Record:
        model, engine = runs_on
        return complete_debates(asked[runs_on], model=model, engine=engine, home=keys.home, judge=judges[runs_on])

    make_each({cell.name: partial(ask, cell) for cell in cells}, parallel=1)
    named = {f"answers of {model.path} {number}": (model, engine) for number, (model, engine) in enumerate(asked)}
    make_each(
        {name: partial(answer, runs_on) for name, runs_on in named.items()}, parallel=keys.config.sweep.parallel_cells
    )


def _cell(cell: Cell, *, students: Made, keys: Keys, parent_run_id: str) -> Record:
    student = _of(cell.trained, students)
    key = keys.cell(cell, student=student)
    if done := stage.finished(keys.home, flow=CELL, key=key):
        return done
    config = keys.config.evaluation_config(cell, model=student["model"])
    made = evaluate_model(config, parent_run_id=parent_run_id, learned=student["yield"])
    paths = [Path(path) for path in made["paths"]]
    record = {"report": made["report"], "stages": student["stages"], "folder": str(paths[0].parent)}
    return stage.finish(keys.home, flow=CELL, key=key, record=record, made=paths)
