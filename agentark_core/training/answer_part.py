r"""Where the answer begins in a completion, so that both parts of Eq. 1 are logged: log p(r | x) and log p(y* | r, x).

    "Step 1: 3 + 4 = 7\n\\boxed{7}<end>"  ->  reasoning "Step 1: 3 + 4 = 7\n", answer "\\boxed{7}<end>"

The answer is the last step (steps.py) that states the text's final answer, and all that follows it, the end of the turn
among it. A text that states none is reasoning throughout.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from agentark_core.answers import equivalent, extract
from agentark_core.chat import ChatFormat
from agentark_core.steps import split

TASK = "math"
"""Rules by which the answer is found; a row does not say its task, and these read every form that prompts ask for."""


def answer_text(text: str) -> str:
    """The end of text from its answer step on, without outer white space; empty if no step states the answer."""
    answer = extract(text, task=TASK)
    if answer is None:
        return ""
    steps = split(text)
    for number in range(len(steps) - 1, -1, -1):
        stated = extract(steps[number], task=TASK)
        if stated is not None and equivalent(stated, answer, task=TASK):
            return "".join(steps[number:]).strip()
    return ""


def first_token(chat: ChatFormat, ids: Sequence[int], *, text: str) -> int:
    """Position in a completion's ids at which the answer of its text begins; len(ids) if there is none."""
    answer = answer_text(text)
    if not answer:
        return len(ids)

    def holds(length: int) -> bool:
        tail = ids[len(ids) - length :]
        return answer in chat.tokenizer.decode(tail, clean_up_tokenization_spaces=False)

    # The shortest tail that holds the answer. Bisection reads about as many tokens as the completion has.
    shortest = 1 + bisect_left(range(1, len(ids) + 1), True, key=holds)
    return max(0, len(ids) - shortest) if shortest <= len(ids) else len(ids)
