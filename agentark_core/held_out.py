"""What is kept apart: training questions that are also test questions.

Two questions are the same if they differ only in case, white space and punctuation (ten MATH train/test pairs do).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentark_core.types import BadRow, Problem


def question_key(question: str) -> str:
    """The letters and digits of a question, lower case."""
    return "".join(character for character in question.casefold() if character.isalnum())


def drop_held_out(
    problems: Sequence[Problem], *, held_out: Iterable[str], source: str
) -> tuple[tuple[Problem, ...], tuple[BadRow, ...]]:
    """Split problems into those that are not among the held-out questions, and the dropped ones as rows with reasons.

    A dropped row's number is its position (1-based) among the loaded problems.
    """
    forbidden = {question_key(question) for question in held_out}
    kept = tuple(problem for problem in problems if question_key(problem.question) not in forbidden)
    dropped = tuple(
        BadRow(file=source, row=row, reason="also a held-out test question", excerpt=problem.question[:200])
        for row, problem in enumerate(problems, start=1)
        if question_key(problem.question) in forbidden
    )
    assert len(kept) + len(dropped) == len(problems)
    return kept, dropped
