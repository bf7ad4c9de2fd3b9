from __future__ import annotations

from agentark_core.held_out import drop_held_out, question_key
from agentark_core.types import Problem


def problem(question: str) -> Problem:
    return Problem(problem_id=question, dataset="d", task="number", question=question, gold="1")


def test_case_space_and_punctuation_do_not_hide_a_test_question() -> None:
    kept, dropped = drop_held_out(
        [problem("What is $2+2$?"), problem("What is 3 + 3?")], held_out=["what is 2 + 2"], source="f"
    )
    assert [p.question for p in kept] == ["What is 3 + 3?"]
    assert [(row.file, row.row) for row in dropped] == [("f", 1)]


def test_numbers_still_tell_questions_apart() -> None:
    assert question_key("Add 1 and 2") != question_key("Add 1 and 3")
