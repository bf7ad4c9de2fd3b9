"""Statistics against values by hand, against scipy and against simulation with a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm, ttest_1samp

from agentark_core import statistics
from agentark_core.statistics import (
    detectable_difference,
    detectable_drop,
    detectable_mean,
    mcnemar,
    mcnemar_power,
    paired_difference,
    ratio,
    sign_flip,
    unpaired,
)


def test_a_paired_bootstrap_uses_the_correlation_and_states_its_seed() -> None:
    rng = np.random.default_rng(1)
    question_Q = rng.normal(size=400)
    a_Q, b_Q = question_Q + rng.normal(0.1, 0.2, 400), question_Q + rng.normal(0, 0.2, 400)
    found = paired_difference(a_Q, b_Q)
    d_Q = a_Q - b_Q
    half = 1.96 * d_Q.std(ddof=1) / 20
    assert found.value == pytest.approx(d_Q.mean())
    assert (found.low, found.high) == pytest.approx((d_Q.mean() - half, d_Q.mean() + half), abs=0.002)
    assert found == paired_difference(a_Q, b_Q, seed=0) != paired_difference(a_Q, b_Q, seed=1)
    with pytest.raises(ValueError, match="one value of each method"):
        paired_difference([1.0], [1.0, 2.0])


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        a_Q = rng.random(80) < 0.5
        found = paired_difference(a_Q, rng.random(80) < 0.3)
        hits += found.low <= 0.2 <= found.high
    assert binomtest(hits, 300, 0.94).pvalue > 0.001


def test_means_that_do_not_vary_have_wilsons_interval() -> None:
    assert statistics.mean([1.0] * 10) == statistics.share(10, 10)
    assert statistics.mean([0.0] * 10) == statistics.share(0, 10)
    found = statistics.mean([0.5] * 10)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 10)


def test_a_ratio_has_the_interval_of_the_delta_method() -> None:
    rng = np.random.default_rng(3)
    student_Q, debate_Q = rng.random(600) < 0.41, rng.random(600) < 0.835
    found = ratio(student_Q, debate_Q)
    assert found is not None
    r, b = student_Q.mean() / debate_Q.mean(), debate_Q.mean()
    half = 1.96 * (student_Q - r * debate_Q).std(ddof=1) / np.sqrt(600) / b  # Cochran (1977), section 6
    assert found.value == pytest.approx(r)
    assert (found.low, found.high) == pytest.approx((r - half, r + half), abs=0.008)
    assert ratio([True, False], [False, False]) is ratio([True], [True]) is None
    never = ratio([False] * 10, [True] * 5 + [False] * 5)
    assert never is not None
    assert (never.value, never.low, never.high) == (0, 0, statistics.wilson(0, 10)[1] / 0.5)


def test_accuracy_per_1000_tokens_counts_by_hand() -> None:
    found = ratio([True, True, False, True], [0.5, 0.25, 1.0, 0.25])  # 3 right, 2,000 tokens
    assert found is not None and found.value == pytest.approx(1.5)
    assert found.low < 1.5 < found.high


def test_unpaired_newcombe_equals_the_published_example() -> None:
    """Newcombe (1998, 873-890), table II, method 10: 56/70 - 48/80 gives 0.0524 to 0.3339."""
    found = unpaired(statistics.share(56, 70), statistics.share(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_power_equals_what_simulated_tests_find() -> None:
    rng = np.random.default_rng(4)
    n, discordance, difference = 300, 0.2, 0.08
    only_a, only_b = (discordance + difference) / 2, (discordance - difference) / 2
    counts = rng.multinomial(n, [only_a, only_b, 1 - discordance], size=4000)
    found = sum(mcnemar(int(a), int(b)) <= 0.05 for a, b, _ in counts)
    expected = mcnemar_power(n, discordance=discordance, difference=difference)
    assert binomtest(found, 4000, expected).pvalue > 0.001
    assert mcnemar_power(n, discordance=discordance, difference=0.0) < 0.05, "the exact test keeps its level"


def test_the_detectable_difference_is_near_the_formula_for_large_n() -> None:
    """Connor, Biometrics 43 (1987) 207: sqrt(n) d = z sqrt(psi) + z' sqrt(psi - d^2), without continuity correction."""
    n, psi = 5_000, 0.2
    found = detectable_difference(n, discordant=1_000)
    assert found is not None
    formula = (norm.ppf(0.975) * np.sqrt(psi) + norm.ppf(0.8) * np.sqrt(psi - found**2)) / np.sqrt(n)
    assert found == pytest.approx(formula, rel=0.03) and found > formula, "the exact test is a little weaker"
    assert mcnemar_power(n, discordance=psi, difference=found) == pytest.approx(0.8, abs=0.002)


def test_the_detectable_difference_shrinks_with_n_and_grows_with_the_number_of_tests() -> None:
    small, large = detectable_difference(100, discordant=20), detectable_difference(400, discordant=80)
    strict = detectable_difference(400, discordant=80, alpha=0.05 / 10)
    assert small is not None and large is not None and strict is not None
    assert small > large and strict > large
    none_differ = detectable_difference(100, discordant=0)
    assert none_differ is not None and 0.05 < none_differ < 0.15, "all discordant questions one way: 6 or more of 100"
    assert detectable_difference(5, discordant=2) is None, "five questions cannot reach p = 0.05"


def test_flipped_signs_are_the_exact_mcnemar_test_where_scores_are_right_or_wrong() -> None:
    # 5 of 6 that differ are on one side: 2 * (1 + 6) / 64.
    assert sign_flip([1, 1, 1, 1, 1, -1, 0, 0]) == pytest.approx(mcnemar(5, 1)) == pytest.approx(14 / 64)
    # Means of +-3 +-1 +-1: 5/3 and -5/3 are two of eight patterns.
    assert sign_flip([3, 1, 1]) == pytest.approx(2 / 8)
    assert sign_flip([0.0, 0.0]) == sign_flip([4.0]) == 1.0
    drawn = sign_flip([1.0] * 12 + [-1.0] * 4 + [0.0] * 20)
    assert drawn == pytest.approx(mcnemar(12, 4), abs=0.02) and drawn != mcnemar(12, 4)
    assert sign_flip([1.0] * 40) == pytest.approx(2 / 10_000), "no less than the signs that were drawn can tell"


def test_a_detectable_mean_is_found_in_four_of_five_trials() -> None:
    # t(0.975, 24) = 2.0639, t(0.8, 24) = 0.8569; deviation 10, 25 questions.
    found = detectable_mean(25, deviation=10)
    assert found == pytest.approx((2.0639 + 0.8569) * 10 / 5, abs=1e-3)
    generator = np.random.default_rng(0)
    trials = generator.normal(found, 10, size=(4_000, 25))
    assert np.mean(ttest_1samp(trials, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)
    assert detectable_mean(25, deviation=0) is detectable_mean(1, deviation=1) is None


def test_a_detectable_drop_is_found_in_four_of_five_trials() -> None:
    found = detectable_drop(0.6, 300, 200)
    assert found is not None
    generator = np.random.default_rng(0)
    a, b = generator.binomial(300, 0.6, 20_000) / 300, generator.binomial(200, 0.6 - found, 20_000) / 200
    pooled = (300 * a + 200 * b) / 500
    z = (a - b) / np.sqrt(pooled * (1 - pooled) * (1 / 300 + 1 / 200))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.02)
    assert detectable_drop(0.0, 300, 200) is None, "nothing to lose"
    assert detectable_drop(0.02, 50, 50) is None, "one of fifty right: none at all would not be found"
