"""pass@k and maj@k against every subset, and on real samples against the labels of their source."""

from __future__ import annotations

import gzip
import json
from itertools import combinations, permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentark_core import answers
from agentark_core.errors import DataError
from agentark_core.pass_at_k import maj_at_k, majority_chance, pass_at_k
from agentark_core.verify import Case, Verifier

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "verifier" / "qwen_math_cot_100x8.jsonl.gz"


def test_pass_at_k_equals_values_by_hand() -> None:
    correct = [[True, False, True, False], [False] * 4, [True] * 4]
    assert pass_at_k(correct, 1).value == pytest.approx((0.5 + 0 + 1) / 3)
    assert pass_at_k(correct, 2).value == pytest.approx((1 - 1 / 6 + 0 + 1) / 3)
    assert pass_at_k(correct, 3).value == pytest.approx(2 / 3)
    found = pass_at_k(correct, 2)
    assert found.n == 3 and found.low <= found.value <= found.high
    with pytest.raises(DataError, match="k = 5 needs as many samples of every question; the fewest here are 4"):
        pass_at_k(correct, 5)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(right: list[bool], k: int) -> None:
    if k <= len(right):
        subsets = [any(chosen) for chosen in combinations(right, k)]
        assert pass_at_k([right, right], k).value == pytest.approx(sum(subsets) / len(subsets))


def first_seen(votes: tuple[int | None, ...]) -> int | None:
    winner = answers.majority([None if vote is None else str(vote) for vote in votes], task="number")
    return None if winner is None else int(winner)


@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=6), st.integers(1, 4))
def test_maj_at_k_is_our_own_vote_over_all_orders(groups: list[int | None], k: int) -> None:
    if k <= len(groups):
        right = [group in (0, 2) for group in groups]  # two right answers that the grouping keeps apart
        votes = [first_seen(chosen) in (0, 2) for chosen in permutations(groups, k)]
        assert majority_chance(groups, right, k) == pytest.approx(sum(votes) / len(votes))


def test_maj_at_k_counts_ties_in_parts_and_silence_as_wrong() -> None:
    assert majority_chance([0, 0, 1], [True, True, False], 1) == pytest.approx(2 / 3)
    assert majority_chance([0, 0, 1], [True, True, False], 2) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert majority_chance([None, None, 0], [False, False, True], 2) == pytest.approx(2 / 3)
    assert majority_chance([None, None], [False, False], 2) == 0
    with pytest.raises(DataError, match="fewest here are 0"):
        maj_at_k([], [], 1)


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded samples are not here")
def test_recorded_samples_agree_with_their_source() -> None:
    """100 questions of MATH with 8 samples each: the source's scores and answers, then our own verdicts."""
    with gzip.open(RECORDED, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    scores = [[bool(score) for score in row["score"]] for row in rows]
    groups = [answers.group([answer or None for answer in row["pred"]], task="math") for row in rows]
    assert pass_at_k(scores, 1).value == pytest.approx(sum(map(sum, scores)) / 800)
    assert pass_at_k(scores, 8).value == sum(map(any, scores)) / 100
    cases = [
        Case(response=text, gold=row["gt"], task="math", question=row["question"])
        for row in rows
        for text in row["code"]
    ]
    with Verifier(workers=1) as verifier:
        labels = [verdict.label == "correct" for verdict in verifier.verify_many(cases)]
    ours = [labels[start : start + 8] for start in range(0, 800, 8)]
    differ = [number for number in range(100) if ours[number] != scores[number]]
    assert len(differ) <= 2, "the source's own scores"
    for k in (1, 2, 4, 8):
        assert pass_at_k(ours, k).value == pytest.approx(pass_at_k(scores, k).value, abs=0.02)
        assert maj_at_k(groups, ours, k).value == pytest.approx(maj_at_k(groups, scores, k).value, abs=0.02)
        assert pass_at_k(scores, k).value >= maj_at_k(groups, scores, k).value
