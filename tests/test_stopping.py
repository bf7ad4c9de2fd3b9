"""How debates of a sample would end with other numbers of agents and rounds."""

from __future__ import annotations

import random

import pytest

from agentark_core.bill import expected_rounds
from agentark_core.stopping import Groups, stopping

SPLIT, AGREED = [0, 1, 2, 0, 0], [0, 0, 0, 0, 0]


def test_the_sampled_configuration_is_counted_not_modelled() -> None:
    sample: list[Groups] = [[AGREED], [SPLIT, AGREED], [SPLIT, SPLIT, AGREED], [SPLIT, SPLIT, SPLIT]]
    result = stopping(sample, num_agents=5, num_rounds=3, quorum=1.0)
    assert result.ended == pytest.approx((0.25, 0.25, 0.5))
    assert result.split == pytest.approx(0.25)


def test_a_shorter_debate_is_cut_and_a_longer_one_goes_on_as_the_last_round_did() -> None:
    sample: list[Groups] = [[AGREED], [AGREED], [SPLIT, AGREED], [SPLIT, SPLIT]]
    assert stopping(sample, num_agents=5, num_rounds=1, quorum=1.0).ended == (1.0,)
    assert stopping(sample, num_agents=5, num_rounds=1, quorum=1.0).split == pytest.approx(0.5)
    assert stopping(sample, num_agents=5, num_rounds=4, quorum=1.0).ended == pytest.approx((0.5, 0.25, 0.125, 0.125))


def test_fewer_agents_are_subsets_of_those_sampled() -> None:
    # Two of five agree unless one of them is agent 2 or 3: the pairs of {1, 4, 5} are 3 of 10.
    result = stopping([[SPLIT, SPLIT]], num_agents=2, num_rounds=2, quorum=1.0)
    assert result.ended == pytest.approx((0.3, 0.7))
    # The pairs that are left in round 2 are just those that do not agree.
    assert result.split == pytest.approx(0.7)


def test_a_quorum_stops_sooner_and_agents_without_an_answer_disagree() -> None:
    sample: list[Groups] = [[[0, 0, 0, 0, None]], [[0, 0, 0, None, None], AGREED]]
    result = stopping(sample, num_agents=5, num_rounds=2, quorum=0.8)
    assert result.ended == pytest.approx((0.5, 0.5))
    assert result.split == pytest.approx(0.5)


def test_without_a_quorum_every_round_is_held_and_split_counts_the_last() -> None:
    sample: list[Groups] = [[AGREED, SPLIT], [SPLIT, AGREED], [SPLIT, AGREED], [AGREED, AGREED]]
    result = stopping(sample, num_agents=5, num_rounds=2, quorum=0.0)
    assert (result.ended, result.split) == ((0.0, 1.0), pytest.approx(0.25))


def test_more_agents_follow_the_power_law_of_a_beta_agreement() -> None:
    """p ~ Beta(2, 1): m agents give the same right answer with E[p^m] = 2 / (2 + m), and never agree on a wrong one."""
    rng = random.Random(1)
    sample: list[Groups] = []
    for _ in range(20_000):
        p = rng.betavariate(2, 1)
        sample.append([[0 if rng.random() < p else None for _ in range(5)]])
    for agents, tolerance in ((3, 0.01), (5, 0.01), (10, 0.05), (20, 0.05)):
        ended = stopping(sample, num_agents=agents, num_rounds=2, quorum=1.0).ended
        assert ended[0] == pytest.approx(2 / (2 + agents), abs=tolerance)


def test_two_sampled_agents_say_nothing_about_ten() -> None:
    result = stopping([[[0, 0]], [[0, 1], [0, 0]]], num_agents=10, num_rounds=3, quorum=1.0)
    assert (expected_rounds(result.ended), result.split) == (3, 1)


def test_a_round_that_only_all_agents_held_is_carried_on_unchanged() -> None:
    # Of three different answers any pair has one half behind one answer.
    result = stopping([[[0, 1, 2], [0, 0, 1]]], num_agents=6, num_rounds=2, quorum=0.5)
    assert (result.ended, result.split) == ((0.0, 1.0), 1.0)
