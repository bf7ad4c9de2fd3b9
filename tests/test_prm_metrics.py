"""Figures of process reward models, against cases counted by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from agentark_core import prm_metrics, process_bench
from agentark_core.calibration import calibration
from agentark_core.errors import DataError
from agentark_core.statistics import share

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "process"


def test_auc_counts_pairs_and_halves_ties() -> None:
    found = prm_metrics.auc([0.9, 0.5, 0.5, 0.1], [True, True, False, False], ["a", "a", "b", "b"])
    assert found.value == pytest.approx((1 + 1 + 0.5 + 1) / 4) and found.n == 4
    assert found.low <= found.value <= found.high
    with pytest.raises(DataError, match="right and wrong steps"):
        prm_metrics.auc([0.9, 0.5], [True, True], ["a", "b"])


def test_auc_is_that_of_all_pairs_and_its_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(1)
    labels = generator.random(300) < 0.4
    scores = np.round(generator.normal(labels, 1), 1)
    questions = [str(n // 3) for n in range(300)]
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    found = prm_metrics.auc(scores.tolist(), labels.tolist(), questions)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.low < 0.76 < found.high, "normals one apart: Phi(1 / sqrt 2) = 0.760"


def test_the_first_step_below_the_threshold_is_the_found_error() -> None:
    scores = [[0.9, 0.2, 0.1], [0.9, 0.8], [0.4, 0.9], [0.9, 0.9]]
    labels = [1, -1, -1, 0]
    found = prm_metrics.first_error(scores, labels, ["a", "b", "c", "d"], threshold=0.5)
    assert (found.erroneous.value, found.correct.value, found.f1.value) == (0.5, 0.5, 0.5)
    assert (found.erroneous.n, found.correct.n, found.f1.n) == (2, 2, 4)
    chosen = prm_metrics.choose_threshold(scores, labels)
    assert 0.2 < chosen <= 0.4, "below 0.4 both right traces are found right"
    with pytest.raises(DataError, match="with and without a wrong step"):
        prm_metrics.first_error(scores[:1], labels[:1], ["a"], threshold=0.5)


def test_calibration_compares_shares_with_scores(tmp_path: Path) -> None:
    scores, labels = [0.95] * 10 + [0.05] * 10, [True] * 8 + [False] * 2 + [True] + [False] * 9
    table, error = calibration(scores, labels, [str(n) for n in range(20)])
    assert [(row.right.value, row.right.n) for row in table] == [(0.1, 10), (0.8, 10)]
    assert error.value == pytest.approx((abs(0.8 - 0.95) + abs(0.1 - 0.05)) / 2)
    prm_metrics.plot_reliability({"one": table}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_finds_no_wrong_step_has_an_interval_all_the_same() -> None:
    """By hand: 0 of 2 wrong steps found, 2 of 2 right solutions left alone; Wilson's limits of both."""
    found = prm_metrics.first_error([[0.9], [0.9], [0.9], [0.9]], [0, 0, -1, -1], ["a", "b", "c", "d"], threshold=0.5)
    assert (found.erroneous, found.correct) == (share(0, 2), share(2, 2)) and found.f1.value == 0.0
    high = share(0, 2).high
    assert (found.f1.low, found.f1.high) == (0.0, pytest.approx(2 * high / (high + 1)))


def test_best_of_n_against_the_majority_of_the_same_traces() -> None:
    found = prm_metrics.best_of_n(
        [[0.1, 0.9, 0.2], [0.3, 0.2, 0.1], [0.5, 0.5, 0.4]],
        [["7", "8", "7"], [None, "3", "3"], ["1", "2", "2"]],
        [[False, True, False], [False, True, True], [True, False, False]],
    )
    assert (found.best.value, found.majority.value) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (found.single, found.any.value, found.any.n) == (pytest.approx(4 / 9), 1.0, 3)
    assert (found.test.only_a, found.test.only_b) == (2, 1)


ROW = {"id": "x", "problem": "2 + 2?", "steps": ["We add.", "So 5."], "label": 1, "final_answer_correct": False}


def test_marked_solutions_are_read_from_every_form_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([ROW]))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    found = process_bench.read(tmp_path / "a.json")
    assert found == process_bench.read(tmp_path / "b.json.gz")
    assert (found[0].steps, found[0].first_error) == (("We add.\n\n", "So 5."), 1)
    for wrong in ({"label": 2}, {"steps": []}, {"problem": None}, {"label": None}):
        (tmp_path / "c.json").write_text(json.dumps([ROW, {**ROW, **wrong}]))
        with pytest.raises(DataError, match=r"c\.json, row 1: expected problem, steps"):
            process_bench.read(tmp_path / "c.json")
    with pytest.raises(DataError, match="not readable"):
        process_bench.read(tmp_path / "none.json")


@pytest.mark.skipif(not SHARED.exists(), reason="ProcessBench is not here")
def test_processbench_itself_is_read() -> None:
    assert len(process_bench.read(SHARED / "processbench_gsm8k.json")) == 400
    assert len(process_bench.read(SHARED / "processbench_math.json.gz")) == 1000
