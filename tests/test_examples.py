"""Which traces become training rows, in which order, and that every candidate is accounted for."""

from __future__ import annotations

import dataclasses

from agentark_core import examples, prompts
from agentark_core.config import ExamplesConfig
from agentark_core.types import Debate, Problem, Turn, TurnStatus, Verdict, VerdictLabel

PROBLEM = Problem(problem_id="p1", dataset="d", task="number", question="2 + 2?", gold="4")


def turn(round: int, agent: int, text: str, *, status: TurnStatus = "ok") -> Turn:
    return Turn(
        work_id="w1",
        problem_id="p1",
        round=round,
        agent=agent,
        seed=0,
        text=text,
        answer="4",
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        finish_reason="stop",
        status=status,
        role="agent" if agent else "summariser",
    )


def verdicts(labels: dict[tuple[int, int], VerdictLabel]) -> dict[tuple[str, int, int], Verdict]:
    return {("w1", *key): Verdict(label=label, method="number", extracted="4") for key, label in labels.items()}


def build(
    turns: list[Turn], labels: dict[tuple[int, int], VerdictLabel], *, kind: examples.Kind = "rsft", **config: object
):
    debate = Debate(work_id="w1", problem=PROBLEM, turns=tuple(turns), stop_reason="rounds")
    return examples.build(
        [debate],
        verdicts(labels),
        kind=kind,
        config=ExamplesConfig.model_validate(config),
        wording="general",
        source_fingerprint="f1",
    )


TURNS = [
    *(turn(1, agent, f"first {agent}") for agent in (1, 2, 3, 4)),
    turn(2, 1, "right"),
    turn(2, 2, "right"),
    turn(2, 3, "other"),
    turn(2, 4, "cut", status="truncated"),
    turn(3, 0, "summary"),
]
LABELS: dict[tuple[int, int], VerdictLabel] = {
    (1, 1): "correct",
    (1, 2): "incorrect",
    (1, 3): "undecided",
    (1, 4): "incorrect",
    (2, 1): "correct",
    (2, 2): "correct",
    (2, 3): "correct",
    (2, 4): "correct",
    (3, 0): "correct",
}


def test_correct_final_traces_and_the_summary_are_kept_corrective_first() -> None:
    rows, counts = build(TURNS, LABELS)
    assert [(row.round, row.agent, row.corrective) for row in rows] == [(2, 2, True), (2, 3, False), (3, 0, False)]
    assert counts == {
        "candidates": 5,
        "kept": 3,
        "corrective": 1,
        "duplicate": 1,
        "near_duplicate": 0,
        "over_cap": 0,
        "truncated": 1,
    }
    assert {row.weight for row in rows} == {1.0}
    assert [row.completion for row in rows] == ["right", "other", "summary"]
    expected = tuple((m["role"], m["content"]) for m in prompts.first_answer("2 + 2?", wording="general"))
    assert {row.prompt for row in rows} == {expected}
    assert len({row.example_id for row in rows}) == 3


def test_a_trace_of_which_hardly_a_word_differs_is_a_near_duplicate_within_its_question_only() -> None:
    text = "First we add the 2 red apples and the 2 green apples to see that there are 4 apples in the whole basket {}."
    turns = [turn(2, 1, text.format("now")), turn(2, 2, text.format("then")), turn(2, 3, "2 + 2 = 4")]
    labels: dict[tuple[int, int], VerdictLabel] = {(2, agent): "correct" for agent in (1, 2, 3)}
    rows, counts = build(turns, labels)
    assert [row.agent for row in rows] == [1, 3] and (counts["duplicate"], counts["near_duplicate"]) == (0, 1)
    other = [dataclasses.replace(t, work_id="w2", problem_id="p2") for t in turns[:1]]
    both = [Debate(work_id=t[0].work_id, problem=PROBLEM, turns=tuple(t), stop_reason="rounds") for t in (turns, other)]
    known = verdicts(labels) | {("w2", 2, 1): Verdict(label="correct", method="number", extracted="4")}
    rows, _ = examples.build(both, known, config=ExamplesConfig(), wording="general", source_fingerprint="f1")
    assert [(row.work_id, row.agent) for row in rows] == [("w1", 1), ("w1", 3), ("w2", 1)]


def test_the_cap_keeps_the_corrective_trace() -> None:
    rows, counts = build(TURNS, LABELS, max_per_problem=1)
    assert [row.agent for row in rows] == [2]
    assert counts["over_cap"] == 2


def test_without_summary_it_is_no_candidate() -> None:
    rows, counts = build(TURNS, LABELS, include_summary=False)
    assert counts["candidates"] == 4
    assert 0 not in {row.agent for row in rows}


def test_incorrect_undecided_and_unverified_are_counted_apart() -> None:
    rows, counts = build(TURNS, {(2, 1): "incorrect", (2, 2): "undecided", (2, 4): "correct"})
    assert not rows
    assert counts == {
        "candidates": 5,
        "kept": 0,
        "corrective": 0,
        "duplicate": 0,
        "near_duplicate": 0,
        "incorrect": 1,
        "over_cap": 0,
        "truncated": 1,
        "undecided": 1,
        "unverified": 2,
    }


def test_no_debates_give_no_rows() -> None:
    rows, counts = examples.build([], {}, config=ExamplesConfig(), wording="arkling", source_fingerprint="f")
    assert rows == []
    assert counts["candidates"] == 0


def test_the_table_has_trl_s_columns_and_round_trips() -> None:
    rows, _ = build(TURNS, LABELS)
    table = examples.to_table(rows)
    assert table.column("prompt")[0].as_py()[0]["role"] == "user"
    assert table.column("completion")[0].as_py() == [{"role": "assistant", "content": "right"}]
    assert not any(field.nullable for field in table.schema)
    assert examples.from_table(table) == rows
    assert examples.from_table(examples.to_table([])) == []


TWO_WAYS = [
    turn(1, 1, "3 + 3 = 6"),
    turn(1, 2, "2 * 3 = 6, 6 - 2 = 4"),
    turn(2, 1, "2 + 2 = 4"),
    turn(2, 2, "2 * 3 = 6, 6 - 2 = 4"),
    turn(2, 3, "so 2 + 2 = 4"),
]


def augment(labels: dict[tuple[int, int], VerdictLabel], **config: object):
    debate = Debate(work_id="w1", problem=PROBLEM, turns=tuple(TWO_WAYS), stop_reason="rounds")
    return examples.build(
        [debate],
        verdicts(labels),
        kind="augmentation",
        config=ExamplesConfig.model_validate(config),
        wording="general",
        source_fingerprint="f1",
    )


def test_augmentation_keeps_traces_of_different_structure_and_weighs_a_question_once() -> None:
    labels: dict[tuple[int, int], VerdictLabel] = {(1, 1): "incorrect", (1, 2): "correct"}
    rows, counts = augment({**labels, (2, 1): "correct", (2, 2): "correct", (2, 3): "correct"})
    assert [(row.agent, row.corrective, row.weight) for row in rows] == [(1, True, 0.5), (2, False, 0.5)]
    assert counts == {
        "candidates": 3,
        "kept": 2,
        "corrective": 1,
        "duplicate": 0,
        "near_duplicate": 0,
        "same_structure": 1,
        "k2": 1,
    }
    rows, _ = augment({**labels, (2, 1): "correct", (2, 2): "correct"}, augmentation_traces=1)
    assert [(row.agent, row.weight) for row in rows] == [(1, 1.0)]


def test_augmentation_leaves_out_a_question_with_one_correct_agent() -> None:
    rows, counts = augment({(2, 1): "correct", (2, 2): "incorrect", (2, 3): "undecided"})
    assert rows == []
    assert counts == {
        "candidates": 3,
        "kept": 0,
        "corrective": 0,
        "duplicate": 0,
        "near_duplicate": 0,
        "few_correct": 1,
        "incorrect": 1,
        "undecided": 1,
    }


def test_answer_only_rows_hold_the_gold_answer_once_a_question_with_the_trace_that_vouches_for_it() -> None:
    rows, counts = build(TURNS, LABELS, kind="answer")
    rsft, _ = build(TURNS, LABELS)
    assert [row.completion for row in rows] == ["\\boxed{4}"]
    assert rows[0].prompt == rsft[0].prompt and (rows[0].agent, rows[0].round) == (rsft[0].agent, rsft[0].round)
    assert counts["same_question"] == len(rsft) - 1 + 1, "the repeated text too"
    nobody, _ = build(TURNS, dict.fromkeys(LABELS, "incorrect"), kind="answer")
    assert nobody == []


def test_controls_select_other_traces_and_account_for_all() -> None:
    plain, _ = build(TURNS, LABELS)
    without, counts = build(TURNS, LABELS, rsft_traces="uncorrected")
    assert [row.completion for row in without] == [row.completion for row in plain if not row.corrective]
    assert counts["not_asked_for"] == len(plain) - len(without) > 0
    alone, counts = build(TURNS, LABELS, rsft_traces="corrective")
    assert [row.completion for row in alone] == [row.completion for row in plain if row.corrective]
    assert counts["not_asked_for"] == len(without) > 0
    (one,), counts = build(TURNS, LABELS, rsft_traces="first")
    assert (one.round, one.agent) == min((row.round, row.agent) for row in plain)
    assert counts["not_asked_for"] == len(plain) - 1
    first, counts = build(TURNS, LABELS, round="first")
    assert [row.completion for row in first] == ["first 1"] and counts["candidates"] == 4
    assert not first[0].corrective

    turns = [
        dataclasses.replace(turn(1, agent, f"text {agent}"), answer=str(5 if agent < 3 else 4)) for agent in (1, 2, 3)
    ]
    labels: dict[tuple[int, int], VerdictLabel] = {(1, 1): "incorrect", (1, 2): "incorrect", (1, 3): "correct"}
    voted, counts = build(turns, labels, select="majority")
    assert [row.completion for row in voted] == ["text 1", "text 2"], "the vote may be wrong"
    assert counts["minority"] == 1
