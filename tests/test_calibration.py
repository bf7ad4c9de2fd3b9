"""Reliability, calibration error and Brier score against hand-written values and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from agentark_core.calibration import brier, calibration


def test_bins_of_equal_mass_hold_equal_scores_together() -> None:
    scores = [0.5] * 4 + [1.0] * 16
    labels = [True] * 2 + [False] * 2 + [True] * 12 + [False] * 4
    table, error = calibration(scores, labels, [str(n) for n in range(20)], binning="equal mass")
    assert [(row.low, row.high, row.right.value, row.right.n) for row in table] == [
        (0.5, 0.5, 0.5, 4),
        (1, 1, 0.75, 16),
    ]
    assert error.value == pytest.approx(16 / 20 * 0.25) and error.low <= error.value <= error.high and error.n == 20


def test_bins_and_brier_score_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = rng.choice([0.25, 0.375, 0.5, 0.75, 1.0], size=400) * rng.choice([1.0, 0.9], size=400)
    labels = rng.random(400) < 0.8 * scores
    table, error = calibration(scores.tolist(), labels.tolist(), [str(n) for n in range(400)], binning="equal mass")
    right, confidence = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    assert [row.right.value for row in table] == pytest.approx(right.tolist())
    assert [row.mean_score for row in table] == pytest.approx(confidence.tolist())
    gaps = [row.right.n * abs(row.right.value - row.mean_score) for row in table]
    assert error.value == pytest.approx(sum(gaps) / 400)
    found = brier(scores.tolist(), labels.tolist())
    assert found.value == pytest.approx(brier_score_loss(labels, scores)) and found.low < found.value < found.high


def test_units_of_one_question_are_drawn_together() -> None:
    scores, labels = [0.9] * 40, ([True] * 4 + [False] * 4) * 5
    alone = calibration(scores, labels, [str(n) for n in range(40)])[1]
    together = calibration(scores, labels, [str(n // 4) for n in range(40)])[1]
    assert together.value == pytest.approx(alone.value) == pytest.approx(0.4)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
