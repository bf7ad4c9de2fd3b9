"""`agentark prm-metrics`: a real process reward model on hand-written rows of ProcessBench's layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from typer.testing import CliRunner

from agentark_core import model_files, prm_metrics, prm_view, process_bench, prompts
from agentark_core.cli import app
from agentark_core.errors import ConfigError, DataError
from agentark_core.prm_metrics import Scored
from agentark_core.steps import STEPS_VERSION
from agentark_core.training.planning import tokenizer_digest

WORDS = ("pens", "cups", "bags", "eggs", "keys", "hats")


def row(number: int, *, label: int, item: str) -> dict[str, Any]:
    steps = [f"Ann has {number} {item}.", f"{number} + 2 = {number + 2}", f"So \\boxed{{{number + 2}}}"]
    if label >= 0:
        steps[label] = steps[label].replace(str(number), str(number + 1))
    question = f"Ann has {number} {item} and gets 2. How many has she?"
    return {
        "id": f"own-{number}-{label}",
        "problem": question,
        "steps": steps,
        "label": label,
        "final_answer_correct": label < 0,
    }


ROWS = [row(number, label=label, item=item) for label in (0, 1, 2, -1) for number, item in enumerate(WORDS, start=3)]
"""Wrong solutions first, as in ProcessBench."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with a head, published as training.prm does."""
    from transformers import AutoTokenizer

    from agentark_core.training import prm_head

    base = tiny_models.make("qwen3", tmp_path_factory.mktemp("base"))
    folder = tmp_path_factory.mktemp("prm")
    prm_head.load(base, head="linear", dtype="float32", seed=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(folder)
    about = {"splitter": STEPS_VERSION, "tokenizer": tokenizer_digest(folder)}
    (folder / "prm.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.json").write_text(json.dumps(ROWS))
    (folder / "b.json.gz").write_bytes(gzip.compress("\n".join(json.dumps(row) for row in ROWS[::-1]).encode()))
    return [folder / "a.json", folder / "b.json.gz"]


def test_labels_of_a_marked_solution_end_at_its_first_wrong_step(files: list[Path]) -> None:
    found = process_bench.read(files[0])
    assert [one.labels for one in found[::6]] == [(False,), (True, False), (True, True, False), (True, True, True)]
    scored = [Scored(question=one.question, scores=[0.5] * 3, labels=one.labels) for one in found]
    assert [one.first_error for one in scored] == [one["label"] for one in ROWS]


def test_figures_are_of_the_labelled_steps_and_of_the_first_score_below_the_threshold() -> None:
    traces = [
        Scored(question="a", scores=[0.9, 0.2, 0.95], labels=[True, False]),
        Scored(question="b", scores=[0.8, 0.7], labels=[True, True]),
        Scored(question="c", scores=[0.3, 0.1], labels=[True, False]),
        Scored(question="d", scores=[0.6], labels=[True]),
    ]
    found = prm_metrics.measure(traces, threshold=0.5)
    assert (found.first_error.erroneous.value, found.first_error.correct.value) == (0.5, 1.0)
    assert found.first_error.f1.value == pytest.approx(2 / 3) and found.first_error.f1.n == 4
    assert found.auc.value == 1.0 and found.auc.n == 7, "0.95 stands behind the first wrong step"
    assert sum(row.right.n for row in found.reliability) == 7
    gaps = [0.1 - 0, 0.2 - 0, 1 - 0.3, 1 - 0.6, 1 - 0.7, 1 - 0.8, 1 - 0.9]  # every score in a bin of its own
    assert found.calibration_error.value == pytest.approx(sum(gaps) / 7)


def test_the_command_prints_and_writes_what_the_model_s_scores_give(
    model: Path, files: list[Path], tmp_path: Path
) -> None:
    from agentark_core.training.prm_model import PRM

    command = ["prm-metrics", str(model), *map(str, files), "--selection", "0.4", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "out" / "prm-metrics.json").read_text())
    assert (tmp_path / "out" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert written["revision"] == model_files.revision(model)
    assert written["selection"] == {"seed": 0, "questions": 2, "solutions": 16}, "2 of 6 questions, in both files"
    marked = process_bench.read(files[0])
    asked = [prompts.first_answer(one.question, wording="general") for one in marked]
    scores = PRM.load(model, device="cpu").step_scores(asked, [one.steps for one in marked])
    first, second = written["files"]
    assert first["figures"]["first_error"] == second["figures"]["first_error"], "the same rows in another order"
    kept = first["figures"]["first_error"]
    assert (kept["f1"]["n"], kept["erroneous"]["n"], kept["correct"]["n"]) == (16, 12, 4)
    hits = {True: 0, False: 0}
    chosen = drawn_questions(seed=0, count=2)
    for one, values in zip(marked, scores, strict=True):
        if one.question not in chosen:
            found = next((step for step, value in enumerate(values) if value < written["threshold"]), -1)
            hits[one.first_error >= 0] += found == one.first_error
    assert kept["erroneous"]["value"] == pytest.approx(hits[True] / 12)
    assert kept["correct"]["value"] == pytest.approx(hits[False] / 4)
    assert f"first-error F1       {kept['f1']['value']:.3f} [" in done.output
    assert f"{files[0]}: 16 solutions of 4 other questions\n" in done.output
    assert first["figures"]["auc"]["n"] == 4 * (1 + 2 + 3 + 3)


def drawn_questions(*, seed: int, count: int) -> set[str]:
    import random

    return set(random.Random(seed).sample(sorted({one["problem"] for one in ROWS}), count))


def test_solutions_longer_than_the_context_are_left_out_and_counted(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "long.json"
    long = {**ROWS[0], "steps": ["Ann counts 1. " * 900, "So 5."]}
    file.write_text(json.dumps([*ROWS, long]))
    found = prm_view.evaluate(model, [file], wording="general", selection=0.4)
    assert found.files[0].too_long == 1
    assert "; 1 left out, longer than the model's context" in prm_view.render(found)


def test_what_cannot_be_measured_is_refused_with_its_file(model: Path, files: list[Path], tmp_path: Path) -> None:
    only = tmp_path / "only.json"
    only.write_text(json.dumps(ROWS[-6:]))
    with pytest.raises(DataError, match=r"questions that choose the threshold: first-error F1 needs traces with and"):
        prm_view.evaluate(model, [only], wording="general")
    with pytest.raises(DataError, match=r"only\.json: of its \d solutions to measure: first-error F1 needs traces"):
        prm_view.evaluate(model, [files[0], only], wording="general")
    with pytest.raises(ConfigError, match="a file is named twice"):
        prm_view.evaluate(model, [files[0], files[0]], wording="general")
    only.write_text(json.dumps(ROWS[:1]))
    with pytest.raises(DataError, match=r"only\.json: fewer than two questions"):
        prm_view.evaluate(model, [only], wording="general")
    missing = CliRunner().invoke(app, ["prm-metrics", "no-such-model", str(files[0]), "--home", str(tmp_path)])
    assert "no-such-model: no such model folder, and not registered" in str(missing.exception)
