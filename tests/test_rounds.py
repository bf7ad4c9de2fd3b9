"""What rounds change, against cases counted by hand."""

from __future__ import annotations

import dataclasses

from debate_helpers import make_debate

from agentark_core.dynamics import self_correction
from agentark_core.records import TurnKey
from agentark_core.rounds import flips
from agentark_core.types import Debate, Verdict

DEBATES = [
    make_debate(1, [[6, 7, 6], [6, 6, 7], [6, 6, 6]], gold=6),
    make_debate(2, [[5, 5, 5], [5, 4, 5], [4, 4, 5]], gold=5),
    make_debate(3, [[2, 2, 2]], gold=1, stop_reason="consensus"),
]


def verdicts_of(debates: list[Debate]) -> dict[TurnKey, Verdict]:
    return {
        (turn.work_id, turn.round, turn.agent): Verdict(
            label="correct" if turn.answer == debate.problem.gold else "incorrect",
            method="number",
            extracted=turn.answer,
        )
        for debate in debates
        for turn in debate.turns
    }


def test_flips_are_counted_over_agents_and_the_vote_over_all_questions() -> None:
    first, second, third = flips(DEBATES, verdicts_of(DEBATES))
    assert (first.turns, first.pairs, first.to_right, first.to_wrong) == (9, 0, 0, 0)
    assert (second.turns, second.pairs, second.to_right, second.to_wrong) == (6, 6, 1, 2)
    assert (third.turns, third.pairs, third.to_right, third.to_wrong) == (6, 6, 1, 1)
    assert [(row.questions, row.correct) for row in (first, second, third)] == [(3, 2), (3, 2), (3, 1)]


def test_a_right_vote_of_a_debate_that_ended_early_stands_in_later_rounds() -> None:
    debates = [make_debate(1, [[6, 6, 6]], gold=6), make_debate(2, [[5, 1, 1], [5, 5, 1]], gold=5)]
    assert [row.correct for row in flips(debates, verdicts_of(debates))] == [1, 2]


def test_undecided_answers_are_neither_flips_nor_correct() -> None:
    debates = [make_debate(1, [[6, 7, 7], [6, 6, 6]], gold=6)]
    verdicts = verdicts_of(debates)
    for key in (("w-t-0000000000000001", 1, 2), ("w-t-0000000000000001", 2, 3)):
        verdicts[key] = Verdict(label="undecided", method="timeout", extracted="7")
    first, second = flips(debates, verdicts)
    # The vote of round 1 is 7, in the words of agent 2, whose verdict is undecided.
    assert (first.correct, first.undecided) == (0, 1)
    assert (second.pairs, second.to_right, second.to_wrong) == (1, 0, 0)
    assert (second.correct, second.undecided) == (1, 0)


def test_missing_answers_shortened_prompts_and_summaries() -> None:
    debate = make_debate(1, [[None, None, 7], [6, 6, None]], gold=6)
    turns = [dataclasses.replace(turn, shown_limit=400 * (turn.round - 1)) for turn in debate.turns]
    summary = dataclasses.replace(turns[-1], round=3, agent=0, role="summariser")
    whole = dataclasses.replace(debate, turns=(*turns, summary))
    first, second = flips([whole], verdicts_of([whole]))
    assert (first.shortened, second.shortened) == (0, 3)
    assert first.statuses == {"no_answer": 2, "ok": 1}
    assert (second.to_right, second.to_wrong, second.pairs) == (2, 0, 3)
    assert (first.correct, second.correct) == (0, 1)
    assert flips([], {}) == []


def test_self_correction_counts_agents_that_were_wrong_before_their_last_round() -> None:
    found = self_correction(DEBATES, verdicts_of(DEBATES))
    # Question 1: agents 2 and 3 were wrong and end right. Question 2: agent 2 was wrong and stays so; agent 1 was right
    # until the last round. Question 3 has one round.
    assert found is not None
    assert (found.k, found.n, found.questions) == (2, 3, 2)
    assert found.low <= found.share == 2 / 3 <= found.high
    assert self_correction(DEBATES[2:], verdicts_of(DEBATES)) is None
    one_round = {
        **verdicts_of(DEBATES),
        DEBATES[0].turns[-1].key: Verdict(label="undecided", method="x", extracted=None),
    }
    found = self_correction(DEBATES[:1], one_round)
    assert found is not None and (found.k, found.n) == (1, 1), "agent 3 has no decided round after its error"
