"""What each benchmark asks, from its row's parts: the question of a prompt. One place for all of them.

Around it stands the wording of the model's family (prompts.py: `general` asks for steps and a box, `arkling` for
nothing), so a benchmark says here only what its answer is. Worked examples are earlier turns of the same chat, each
asked in exactly these words (`shot_answer` is their reply). Contexts are data: they come before the question, so that
several questions on one document share a prefix.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from agentark_core.prompts import Wording, first_answer
from agentark_core.types import Message

PLAIN = "{question}"
ASKED: dict[str, str] = {
    "hotpotqa": "Paragraphs, of which only some matter:\n\n{context}\n\nQuestion: {question}\n\nThe final answer is as "
    "short as possible, in words of the paragraphs where you can: a name, a date, a number, a phrase, or yes or no.",
    "qasper": "A paper:\n\n{context}\n\nQuestion about the paper: {question}\n\nThe final answer is as short as "
    "possible, in words of the paper where you can; Yes or No where that is asked; Unanswerable if the paper does not "
    "tell.",
    "qmsum": "Transcript of a meeting:\n\n{context}\n\nRequest: {question}\n\nThe final answer is one paragraph that "
    "says what the meeting says about this, and nothing else. It goes into the box as a whole.",
    "medmcqa": "{question}\n\nThe final answer is the letter of the right option.",
    "truthfulqa_mc": "{question}\n\nThe final answer is the number of the right option.",
    "truthfulqa": "{question}\n\nThe final answer is one short sentence. It goes into the box as a whole.",
    "free_text": "{context}\n\nQuestion: {question}",
}
"""Task (or form of a benchmark) -> template where the question alone does not say enough; the others ask just that."""

_CALCULATOR = re.compile(r"<<[^<>]{0,200}>>")
_LAST_LINE = re.compile(r"\n?(?:####[^\n]*|The answer is:[^\n]*)\s*\Z")


def asked(task: str, *, question: str, context: str = "") -> str:
    """The text of Problem.question."""
    if task == "free_text" and not context:
        return question
    return ASKED.get(task, PLAIN).format(question=question, context=context)


def bare(question: str, *, task: str) -> str:
    """The text of Problem.question without what every question of the task begins and ends with."""
    template = ASKED.get(task, PLAIN)
    return question.removeprefix(template[: template.index("{")]).removesuffix(template[template.rindex("}") + 1 :])


def shot_answer(solution: str, *, gold: str) -> str:
    """A worked example's reply: the row's own steps, if it has any, and the gold in a box on the last line.

    GSM8K's calculator marks and the last lines `#### 7` and `The answer is: 7` are left out. A solution that boxes its
    answer stays as it is.
    """
    if "\\boxed" in solution:
        return solution.strip()
    steps = _CALCULATOR.sub("", solution).rstrip()
    while (shorter := _LAST_LINE.sub("", steps).rstrip()) != steps:
        steps = shorter
    return f"{steps}\n\\boxed{{{gold}}}".lstrip()


def shot_chat(shots: Sequence[tuple[str, str]], *, wording: Wording) -> list[Message]:
    """Worked examples (question, reply) as the turns that come before every chat about a problem."""
    chat: list[Message] = []
    for question, reply in shots:
        chat += [*first_answer(question, wording=wording), {"role": "assistant", "content": reply}]
    return chat


def prompt_revision(name: str) -> str:
    """`prompt-` and the sha256 (8 hex digits) of a template; empty where the question alone is asked."""
    return f"prompt-{hashlib.sha256(ASKED[name].encode()).hexdigest()[:8]}" if name in ASKED else ""
