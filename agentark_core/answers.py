r"""Find the final answer in a response, and compare answers by cheap exact rules. Only the standard library.

    extract("So 3 * 4 = 12.\nThe answer is $\\boxed{12}$.", task="gsm8k")  -> "12"
    equivalent("1,200.0", "1200", task="number")                           -> True
    group(["12", "12.0", None, "7"], task="number")                        -> [0, 0, None, 1]

Responses are hostile text: nothing is evaluated, only the last MAX_TEXT characters are read, and every regex is linear
(bounded repeats, no nested quantifiers). The statement that comes last wins: a box, `#### 7`, "the answer is 7" or
`A: 7`; without any of them the last sentence decides. Where each may stand is answer_search.py's business; forms
(LaTeX, numbers, lists) live in answer_forms.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agentark_core.answer_forms import Kind, letter, list_items, normalise, parse_number, plain_text
from agentark_core.answer_search import (
    anchored,
    boxed,
    choice,
    concluding_expression,
    concluding_number,
    last_line,
    number_part,
    prose,
)
from agentark_core.errors import DataError

KINDS: dict[str, Kind] = {
    "gsm8k": "number",
    "gsm8k_reversed": "number",
    "number": "number",
    "math": "math",
    "medmcqa": "choice",
    "choice": "choice",
    "text": "text",
    "hotpotqa": "free",
    "qasper": "free",
    "qmsum": "free",
    "truthfulqa": "free",
    "free_text": "free",
}
"""Task name -> family of rules. Answers of the family `free` are prose: they have scores (text_metrics.py) and no
verdict."""

MAX_TEXT = 10_000
"""Characters of a response that are read, from its end."""

_MAX_KEY = 2_000
_MAX_NESTING = 3


def kind_of(task: str) -> Kind:
    """The family of rules of a task; DataError names the known tasks."""
    try:
        return KINDS[task]
    except KeyError:
        raise DataError(f"unknown task {task[:40]!r}: use one of {', '.join(sorted(KINDS))}") from None


def extract(text: str, *, task: str) -> str | None:
    """The final answer of a response as it was written (cleaned of delimiters), or None."""
    kind = kind_of(task)
    text = _window(text)
    if kind == "choice":
        return choice(text)
    if kind == "free":
        return prose(text)
    position, answer = boxed(text, joined=kind == "math")
    if position >= 0 and answer is None:
        return None
    stated_at, stated = anchored(text, kind=kind, after=position)
    if stated is not None and stated_at > position:
        return stated
    if answer is not None:
        return number_part(answer) if kind == "number" else answer
    if kind == "number":
        return concluding_number(text)
    return concluding_expression(text) if kind == "math" else last_line(text)


def _window(text: str) -> str:
    """The part that is read: the end, or, if the end has no box, what follows the last box before it."""
    if len(text) <= MAX_TEXT or "boxed" in text[-MAX_TEXT:]:
        return text[-MAX_TEXT:]
    box = text.rfind("\\boxed")
    return text[box : box + MAX_TEXT] if box >= 0 else text[-MAX_TEXT:]


def equivalent(a: str, b: str, *, task: str) -> bool:
    """Cheap equality of two extracted answers: exact numbers, letters, lists, normalised text. No algebra."""
    return _key(a, kind=kind_of(task)) == _key(b, kind=kind_of(task))


def group(answers: Sequence[str | None], *, task: str) -> list[int | None]:
    """Cluster number of each answer, numbered in first-seen order; None stays None."""
    kind = kind_of(task)
    clusters: dict[object, int] = {}
    return [None if a is None else clusters.setdefault(_key(a, kind=kind), len(clusters)) for a in answers]


def agreement(answers: Sequence[str | None], *, task: str) -> float:
    """Share (0..1) of the answers in the largest group of equivalent ones; a missing answer agrees with nothing."""
    sizes = Counter(number for number in group(answers, task=task) if number is not None)
    return max(sizes.values(), default=0) / len(answers)


def majority(answers: Sequence[str | None], *, task: str) -> str | None:
    """The answer that most samples gave, equal by the verifier's rules of `task`; None if no sample has an answer.

    Returned in the wording seen first. A tie goes to the answer seen first; a missing answer has no vote.
    """
    members: dict[int, list[int]] = {}
    for index, number in enumerate(group(answers, task=task)):
        if number is not None:
            members.setdefault(number, []).append(index)
    if not members:
        return None
    return answers[max(members.values(), key=len)[0]]


def _key(answer: str, *, kind: Kind, nesting: int = 0) -> object:
    """A hashable form; equal keys are equivalent answers."""
    if kind == "choice":
        return letter(answer) or plain_text(answer)
    if kind in ("text", "free"):
        return plain_text(answer)
    number = parse_number(answer)
    if number is not None:
        return number.value
    items = list_items(answer) if len(answer) <= _MAX_KEY and nesting < _MAX_NESTING else None
    if items is not None:
        values: list[object] = [_key(item, kind="math", nesting=nesting + 1) for item in items.items]
        return (items.brackets, frozenset(values) if items.brackets in ("", "{}") else tuple(values))
    return normalise(answer)
