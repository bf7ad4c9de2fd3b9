"""Labelled steps for a process reward model: which traces, which labels, and whose wrong steps stand against them."""

from __future__ import annotations

from typing import Any

import pytest
from debate_helpers import make_problem, make_turn

from agentark_core import process
from agentark_core.arkling import generator
from agentark_core.config import ExamplesConfig
from agentark_core.errors import DataError
from agentark_core.types import Debate, Problem, Turn, Verdict, VerdictLabel

PROBLEM = make_problem(1, gold=199)
RIGHT = "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 297\nStep 3: 297 - 98 = 199\n\\boxed{199}"
EACH = "Step 1: 22 * 9 = 198\nStep 2: 198 + 99 = 297\nStep 3: 297 - 98 = 199\n\\boxed{199}"
SAME_SUM = "Step 1: 11 + 22 = 33\nStep 2: 33 * 9 = 297\nStep 3: 297 - 98 = 199\n\\boxed{199}"
LATE = "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 297\nStep 3: 297 - 98 = 189\n\\boxed{189}"
EARLY = "Step 1: 22 + 11 = 43\nStep 2: 43 * 9 = 387\nStep 3: 387 - 98 = 289\n\\boxed{289}"


def turn(round: int, agent: int, text: str) -> Turn:
    return make_turn(PROBLEM, round=round, agent=agent, answer=1, text=text)


def build(
    turns: list[Turn], labels: list[VerdictLabel], *, problem: Problem = PROBLEM, **config: object
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    debate = Debate(work_id=turns[0].work_id, problem=problem, turns=tuple(turns), stop_reason="rounds")
    verdicts = {
        t.key: Verdict(label=label, method="number", extracted="1") for t, label in zip(turns, labels, strict=True)
    }
    table, counts = process.build(
        [debate], verdicts, config=ExamplesConfig.model_validate(config), wording="general", source_fingerprint="f"
    )
    return table.to_pylist(), counts


def negatives(rows: list[dict[str, Any]]) -> dict[int, list[list[tuple[int, int]]]]:
    """By agent, for each step, the (agent, step) of its negatives."""
    agents = {row["example_id"]: row["agent"] for row in rows}
    return {
        row["agent"]: [[(agents[n["example_id"]], n["step"]) for n in step] for step in row["negatives"]]
        for row in rows
    }


DEBATE = [turn(1, 4, EARLY), turn(2, 1, RIGHT), turn(2, 2, EACH), turn(2, 3, LATE), turn(2, 4, EARLY + " ")]
LABELS: list[VerdictLabel] = ["incorrect", "correct", "correct", "incorrect", "incorrect"]


def test_rows_join_to_their_trace_and_every_step_has_a_label_a_weight_and_a_reason() -> None:
    rows, counts = build(DEBATE, LABELS, negatives="nearest")
    assert [row["agent"] for row in rows] == [1, 2, 3, 4] and [row["correct"] for row in rows] == [
        True,
        True,
        False,
        False,
    ]
    assert ["".join(row["completions"]) for row in rows] == [t.text for t in DEBATE[1:]]
    assert rows[0]["labels"] == [False, True, True, True] and rows[0]["weights"] == [0.0, 1.0, 1.0, 1.0]
    assert rows[0]["reasons"] == ["unmatched", "agrees", "agrees", "agrees"]
    assert rows[2]["labels"] == [False] * 4 and rows[2]["weights"] == [0.0, 0.0, 1.0, 1.0]
    assert rows[2]["reasons"] == ["supported", "supported", "unsupported", "refuted"]
    assert counts == {
        "candidates": 4,
        "kept": 4,
        "positive": 6,
        "negative": 6,
        "silent": 4,
        "contrasts": 6,
    }
    assert not any(field.nullable for field in process.SCHEMA)


def test_soft_evidence_keeps_the_shares_and_eq7_the_side_of_a_half_that_they_are_on() -> None:
    texts = [RIGHT, EACH, EACH + " ", EACH + "  ", SAME_SUM, LATE]
    turns = [turn(2, agent, text) for agent, text in enumerate(texts, start=1)]
    verdicts: list[VerdictLabel] = ["correct"] * 5 + ["incorrect"]
    hard, hard_counts = build(turns, verdicts)
    soft, counts = build(turns, verdicts, step_labels="soft_evidence")
    assert soft[0]["labels"] == [0.25, 1.0, 1.0, 1.0], "22 + 11 = 33 is stated by one of four witnesses"
    assert soft[1]["labels"] == [0.5, 1.0, 1.0, 1.0], "22 * 9 = 198 by two of four"
    assert soft[5]["labels"] == hard[5]["labels"] == [0.0] * 4
    assert [row["labels"] for row in hard[:5]] == [[1.0] * 4] * 5
    assert [row["weights"] for row in soft] == [row["weights"] for row in hard]
    assert negatives(hard)[1] == [[(6, 2)], [(6, 2)], [(6, 2)], [(6, 3)]]
    assert negatives(soft)[1] == [[], [(6, 2)], [(6, 2)], [(6, 3)]], "0.25 is no positive step"
    assert negatives(soft)[2] == negatives(hard)[2], "0.5 is one"
    assert (hard_counts["positive"], hard_counts["negative"]) == (20, 2)
    assert (counts["positive"], counts["negative"], counts["silent"]) == (18, 4, hard_counts["silent"])


def test_a_right_step_is_set_against_the_nearest_wrong_step_of_each_other_agent() -> None:
    found = negatives(build(DEBATE, LABELS, negatives="nearest")[0])
    assert found[1] == [[], [(3, 2), (4, 1)], [(3, 2), (4, 2)], [(3, 3), (4, 3)]]
    assert found[3] == [[], [], [], []], "an incorrect trace has no right step by evidence"


def test_the_first_wrong_step_and_solutions_of_any_round_are_options() -> None:
    found = negatives(build(DEBATE, LABELS, negatives="first_wrong")[0])
    assert found[1][1:] == [[(3, 2), (4, 0)]] * 3
    turns = [turn(1, 1, EARLY), turn(1, 2, LATE), turn(2, 1, RIGHT), turn(2, 2, EACH)]
    labels: list[VerdictLabel] = ["incorrect", "incorrect", "correct", "correct"]
    last = negatives(build(turns, labels, negatives="nearest")[0])
    assert not any(any(step) for steps in last.values() for step in steps)
    rows, counts = build(turns, labels)
    assert counts["candidates"] == 4 and [(row["round"], row["agent"]) for row in rows] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]
    by_row = {row["example_id"]: (row["round"], row["agent"]) for row in rows}
    pairs = {(row["agent"], by_row[n["example_id"]]) for row in rows for step in row["negatives"] for n in step}
    assert pairs == {(1, (1, 2)), (2, (1, 1))}, "never its own earlier solution"


def test_every_candidate_has_one_fate() -> None:
    turns = [
        turn(2, 1, RIGHT),
        turn(2, 2, RIGHT),
        turn(2, 3, LATE),
        turn(2, 4, "I do not know how."),
        make_turn(PROBLEM, round=2, agent=5, answer=1, text="cut", status="truncated"),
        make_turn(PROBLEM, round=3, agent=0, answer=199, text=EACH, role="summariser"),
    ]
    labels: list[VerdictLabel] = ["correct", "correct", "undecided", "incorrect", "correct", "correct"]
    rows, counts = build(turns, labels)
    assert [row["agent"] for row in rows] == [1, 0]
    fates = {"kept": 2, "duplicate": 1, "undecided": 1, "unlabelled": 1, "truncated": 1}
    assert {name: counts[name] for name in fates} == fates and counts["candidates"] == sum(fates.values()) == 6
    assert build(turns, labels, include_summary=False)[1]["candidates"] == 5


def test_exact_labels_are_for_arkling_and_count_the_right_steps_of_wrong_traces() -> None:
    with pytest.raises(DataError, match="arkling"):
        build(DEBATE, LABELS, step_labels="exact")
    [problem] = generator.problems("distil", limit=1)
    right = generator.solutions(generator.parse_question(problem.question))[0]
    first, rest = right.split("\n", 1)
    wrong = f"{first}\nStep 2: 1 + 1 = 3\n{rest}"
    rows, counts = build(
        [turn(2, 1, right), turn(2, 2, wrong)], ["correct", "incorrect"], problem=problem, step_labels="exact"
    )
    assert all(rows[0]["labels"]) and rows[1]["labels"][:2] == [True, False]
    assert {reason for row in rows for reason in row["reasons"]} == {"exact"}
    assert negatives(rows)[1][0] == [(2, 1)] and negatives(rows)[2][0] == [] and counts["silent"] == 0
