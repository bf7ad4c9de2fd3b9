"""Flips with the peer that was followed, and what agents do next to right peers, on debates made by hand."""

from __future__ import annotations

from math import sqrt

import pytest

from agentark_core import trajectories
from agentark_core.dynamics import dynamics
from agentark_core.types import Debate, Problem, Turn, TurnStatus, Verdict

GOLD = "18"


def debate(name: str, rounds: list[list[str]], *, statuses: dict[tuple[int, int], TurnStatus] | None = None) -> Debate:
    """One text an agent and round; its last word is its answer."""
    turns = tuple(
        Turn(
            work_id=name,
            problem_id=name,
            round=r,
            agent=a,
            seed=0,
            text=text,
            answer=text.split()[-1],
            prompt_tokens=1,
            cached_tokens=0,
            completion_tokens=1,
            finish_reason="stop",
            status=(statuses or {}).get((r, a), "ok"),
        )
        for r, texts in enumerate(rounds, start=1)
        for a, text in enumerate(texts, start=1)
    )
    problem = Problem(problem_id=name, dataset="d", task="number", question="q", gold=GOLD)
    return Debate(work_id=name, problem=problem, turns=turns, stop_reason="rounds")


def verdicts(*debates: Debate) -> dict[tuple[str, int, int], Verdict]:
    return {
        (t.work_id, t.round, t.agent): Verdict(
            label="undecided" if t.answer == "?" else "correct" if t.answer == GOLD else "incorrect",
            method="number",
            extracted=t.answer,
        )
        for d in debates
        for t in d.turns
    }


def flips(made: Debate) -> list[tuple[int, bool, int, int, int, int, int]]:
    return [
        (
            flip.after.agent,
            flip.to_right,
            flip.before.round,
            flip.after.round,
            flip.followed.agent if flip.followed else 0,
            flip.shared_operations,
            flip.peers_right,
        )
        for flip in trajectories.flips(made, verdicts(made))
    ]


def test_a_corrected_agent_followed_the_peer_with_its_answer_and_most_of_its_new_operations() -> None:
    first = ["2 * 8 = 16 so 16", "10 + 8 = 18 so 18", "2 * 9 = 18, 9 * 2 = 18, so 18"]
    second = ["2 * 9 = 18, 9 * 2 = 18 so 18", "10 + 8 = 18 so 18", "2 * 9 = 18 so 18"]
    assert flips(debate("q", [first, second])) == [(1, True, 1, 2, 3, 1, 2)], "2 * 9 and 9 * 2 are one operation"


def test_a_flip_to_wrong_and_one_without_a_peer_to_follow() -> None:
    assert flips(debate("q", [["18", "5"], ["5", "7"]])) == [(1, False, 1, 2, 2, 0, 0)]
    assert flips(debate("q", [["18", "5"], ["6", "5"]])) == [(1, False, 1, 2, 0, 0, 0)]


def test_an_undecided_or_cut_round_is_passed_over() -> None:
    assert flips(debate("q", [["5"], ["?"], ["18"]])) == [(1, True, 1, 3, 0, 0, 0)]
    assert flips(debate("q", [["5"], ["18"], ["18"]], statuses={(2, 1): "truncated"})) == [(1, True, 1, 3, 0, 0, 0)]
    assert flips(debate("q", [["5"], ["18"]], statuses={(1, 1): "truncated"})) == []


def test_every_flip_there_and_back_is_one_row_with_both_texts() -> None:
    made = debate("q", [["a 18", "b 5"], ["a 5", "b 18"], ["a 18", "b 18"]])
    table = trajectories.to_table(trajectories.flips(made, verdicts(made)))
    rows = [(r["agent"], r["to_right"], r["before"], r["after"], r["followed_agent"]) for r in table.to_pylist()]
    assert rows == [(1, False, "a 18", "a 5", 2), (2, True, "b 5", "b 18", 1), (1, True, "a 5", "a 18", 2)]
    assert trajectories.to_table([]).schema == table.schema


def test_dynamics_count_agents_by_the_number_of_right_peers() -> None:
    debates = [
        debate("a", [["18", "5", "5"], ["18", "18", "5"]]),  # two wrong agents beside one right: one learns
        debate("b", [["18", "5", "6"], ["5", "5", "6"]]),  # nobody learns, and the right one is lost
        debate("c", [["18", "18", "5"], ["18", "18", "18"]]),
    ]
    found = dynamics(debates, verdicts(*debates))
    assert [(m, s.k, s.n, s.questions) for m, s in found.to_right.items()] == [(1, 1, 4, 2), (2, 1, 1, 1)]
    assert [(m, s.k, s.n) for m, s in found.to_wrong.items()] == [(0, 1, 2), (1, 0, 2)]
    assert [(m, s.k, s.n) for m, s in found.minority.items()] == [(1, 1, 2)]
    one = found.to_right[1]  # clusters (1, 2) and (0, 2): residuals 0.5 and -0.5
    assert one.high == pytest.approx(min(1, 0.25 + 1.959964 * sqrt(2 * 0.5) / 4))
    assert found.to_right[2].low < 0.3, "one question says little"


def test_dynamics_of_nothing_and_of_one_round_are_empty() -> None:
    assert not dynamics([], {}).to_right
    made = debate("q", [["18", "5"]])
    assert not dynamics([made], verdicts(made)).minority
