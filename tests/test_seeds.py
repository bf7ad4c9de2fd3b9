"""Several seeds: the decomposition by hand, and the coverage of its intervals where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from agentark_core.errors import DataError
from agentark_core.seeds import difference_over_seeds, mean_over_seeds

A_S_Q = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
"""Means by seed 0.5, 0.25, 0.75; by question 1, 2/3, 1/3, 0; in all 0.5."""


def test_mean_and_its_three_parts_equal_values_by_hand() -> None:
    """MS seeds = 4 * 0.0625 = 0.25; MS questions = 3 * var(1, 2/3, 1/3, 0) = 5/9; squares: 3 = 0.5 + 5/3 + rest, so MS
    rest = (5/6) / 6 = 5/36."""
    found = mean_over_seeds(A_S_Q)
    assert (found.seeds, found.questions) == ((3,), 4)
    assert (found.value, found.seed_df) == pytest.approx((0.5, 2))
    assert found.se_seeds**2 == pytest.approx((0.25 - 5 / 36) / 12)
    assert found.se_questions**2 == pytest.approx((5 / 9 - 5 / 36) / 12)
    assert found.se_rest**2 == pytest.approx(5 / 36 / 12)
    half = np.sqrt(t.ppf(0.975, 2) ** 2 * 0.25 / 12 + t.ppf(0.975, 3) ** 2 * (5 / 9 - 5 / 36) / 12)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert found.p_value is None


def test_a_fixed_arm_adds_no_variance_of_seeds() -> None:
    base_1_Q = [[1, 0, 0, 0]]
    found = difference_over_seeds(A_S_Q, base_1_Q)
    assert found.value == pytest.approx(0.25) and found.seeds == (3, 1)
    assert found.se_seeds == pytest.approx(mean_over_seeds(A_S_Q).se_seeds)
    d_Q = np.array([0, 2 / 3, 1 / 3, 0])
    assert found.se_questions**2 == pytest.approx(max(d_Q.var(ddof=1) / 4 - 5 / 36 / 12, 0))
    back = difference_over_seeds(base_1_Q, A_S_Q)
    assert (back.value, back.low, back.p_value) == pytest.approx((-found.value, -found.high, found.p_value))


def test_p_value_is_the_level_at_which_the_interval_ends_at_zero() -> None:
    rng = np.random.default_rng(0)
    a_S_Q, b_S_Q = rng.random((3, 200)) < 0.5, rng.random((4, 200)) < 0.4
    found = difference_over_seeds(a_S_Q, b_S_Q)
    assert found.p_value is not None
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    assert 2 < found.seed_df < 5
    same = difference_over_seeds(a_S_Q, a_S_Q)
    assert (same.value, same.p_value) == (0, 1)


def test_without_any_variance_the_interval_is_a_point() -> None:
    found = difference_over_seeds(np.ones((3, 5)), np.zeros((3, 5)))
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert found.p_value is not None and found.p_value < 1e-9


@pytest.mark.parametrize("seed_sd", [0.0, 0.02, 0.05])
def test_intervals_of_three_seeds_cover_the_truth_at_least_as_often_as_they_say(seed_sd: float) -> None:
    rng = np.random.default_rng(5)
    S, Q, times = 3, 300, 600
    question_sd, rest_sd = 0.35, 0.33
    hits = paired_hits = 0
    for _ in range(times):
        question_Q = question_sd * rng.normal(size=Q)
        a_S_Q, b_S_Q = (
            question_Q + seed_sd * rng.normal(size=(S, 1)) + rest_sd * rng.normal(size=(S, Q)) for _ in range(2)
        )
        found, difference = mean_over_seeds(a_S_Q), difference_over_seeds(a_S_Q, b_S_Q)
        hits += found.low <= 0 <= found.high
        paired_hits += difference.low <= 0 <= difference.high
    assert hits / times > 0.935 and paired_hits / times > 0.935  # 0.95 less two standard errors of 600 trials


def test_estimated_parts_are_unbiased() -> None:
    rng = np.random.default_rng(6)
    parts = []
    for _ in range(400):
        y_S_Q = 0.3 * rng.normal(size=200) + 0.1 * rng.normal(size=(4, 1)) + 0.2 * rng.normal(size=(4, 200))
        found = mean_over_seeds(y_S_Q)
        parts.append([found.se_seeds**2, found.se_questions**2, found.se_rest**2])
    assert np.mean(parts, axis=0) == pytest.approx([0.01 / 4, 0.09 / 200, 0.04 / 800], rel=0.12)


def test_the_detectable_difference_of_seeds_is_found_in_four_of_five_trials() -> None:
    rng = np.random.default_rng(7)

    def draw(shift: float) -> np.ndarray:
        return shift + 0.02 * rng.normal(size=(5, 1)) + 0.45 * rng.normal(size=(5, 400))

    detectable = np.mean([difference_over_seeds(draw(0), draw(0)).detectable for _ in range(50)])
    found = np.mean([(difference_over_seeds(draw(detectable), draw(0)).p_value or 0) < 0.05 for _ in range(300)])
    assert 0.7 < found < 0.9


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(DataError, match="one seed says nothing"):
        mean_over_seeds([[1, 0, 1]])
    with pytest.raises(DataError, match="3 questions against 2"):
        difference_over_seeds([[1, 0, 1], [1, 1, 1]], [[1, 0]])
    with pytest.raises(DataError, match="no seeds to combine"):
        difference_over_seeds([[1, 0, 1]], [[1, 0, 0]])
    with pytest.raises(DataError, match="seeds x questions"):
        mean_over_seeds([1, 0, 1])  # type: ignore[list-item]
