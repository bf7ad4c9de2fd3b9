"""Perturbations of any question as text. None of them changes what is asked, so the gold answer stays."""

from __future__ import annotations

import random
import re

from agentark_core.answers import kind_of
from agentark_core.types import Problem

SWAPPED = (
    (
        *("Alice", "Amy", "Anna", "Claire", "Emily", "Emma", "Jane", "Janet", "Jessica", "Julia", "Karen", "Kate"),
        *("Laura", "Lisa", "Maria", "Mary", "Nancy", "Natalia", "Olivia", "Rachel", "Sarah", "Sophia", "Susan", "Tina"),
    ),
    (
        *("Adam", "Albert", "Andrew", "Ben", "Bob", "Brian", "Carl", "Daniel", "David", "Eric", "Henry", "Jack"),
        *("James", "Jerry", "John", "Josh", "Kevin", "Mike", "Peter", "Robert", "Ryan", "Steve", "Tom"),
    ),
    ("brownie", "cookie", "doughnut", "muffin", "pancake", "pretzel"),
    ("badge", "balloon", "bracelet", "button", "candle", "marble", "pencil", "ribbon", "sticker"),
)
"""First names of women and of men, things to eat, things to keep: a word becomes another of its list, so that pronouns,
articles and plurals stay right."""

SENTENCES = {
    "dog": "The neighbour's dog is {number} months old.",
    "librar": "The town's library opened {number} years ago.",
    "degree": "It was {number} degrees warm on the day before.",
    "bus": "The bus to the station takes {number} minutes.",
    "cousin": "A cousin who lives abroad is {number} years old.",
}
"""By what a question must not speak of, for then they could matter (after Shi et al. 2023, arXiv 2302.00093)."""

TEMPLATES = (
    "Here is a question for you.\n\n{question}",
    "Please work out the following.\n\n{question}",
    "A pupil wants to know this:\n\n{question}",
    "{question}\n\nWhat is the answer?",
)

_OPTION = re.compile(r"^\(?[A-H][.):]\s", re.MULTILINE)
_FORMULA = re.compile(r"\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+(?:\{[^}]*\})?", re.DOTALL)
_WORD = re.compile(r"(?<![\w\\{'-])[a-z]{5,}(?![\w'}-])")
_MEANING = re.compile(
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|teen|twenty|thirty|forty|fifty|hundred|thousand"
    r"|million|first|second|third|fourth|fifth|dozen|twice|triple|double|half|quarter|least|except|without|never|nothing|incorrect)"
)
_WORDS_PER_TYPO = 8


def renamed(problem: Problem, rng: random.Random) -> str | None:
    """Words of SWAPPED become others of the same list; None if the question has none.

    Not in choice questions: a name there is often a term (the Jack-knife position).
    """
    text = problem.question
    if kind_of(problem.task) == "choice":
        return None
    swaps: dict[str, str] = {}
    for words in SWAPPED:
        present = [word for word in words if re.search(rf"\b{word}s?\b", text, re.IGNORECASE)]
        absent = [word for word in words if word not in present]
        if len(absent) < len(present):
            return None
        for old, new in zip(present, rng.sample(absent, len(present)), strict=True):
            swaps |= {old: new, f"{old}s": f"{new}s"}
            swaps |= {old.capitalize(): new.capitalize(), f"{old}s".capitalize(): f"{new}s".capitalize()}
    made = re.sub(r"\b[A-Za-z]+\b", lambda match: swaps.get(match[0], match[0]), text)
    return made if made != text else None


def irrelevant(problem: Problem, rng: random.Random) -> str | None:
    """A sentence before the question, with a number that the question does not have; None if each could matter."""
    text = problem.question
    sentences = [sentence for about, sentence in SENTENCES.items() if about not in text.lower()]
    if not sentences:
        return None
    number = rng.choice([n for n in range(12, 100) if str(n) not in text] or [101])
    return f"{rng.choice(sentences).format(number=number)} {text}"


def paraphrase(problem: Problem, rng: random.Random) -> str:
    """The question inside another request."""
    return rng.choice(TEMPLATES).replace("{question}", problem.question)


def typos(problem: Problem, rng: random.Random) -> str | None:
    """Two neighbouring inner letters exchanged in one of eight long words, at least one.

    Names, formulas, options, numbers in words and words that carry the sense (half, least, except) stay.
    None if there is no word for it.
    """
    text = problem.question
    options = _OPTION.search(text)
    formulas = [match.span() for match in _FORMULA.finditer(text)]
    places = [
        match.span()
        for match in _WORD.finditer(text, 0, options.start() if options else len(text))
        if not _MEANING.search(match[0])
        and not any(start < match.end() and match.start() < end for start, end in formulas)
        and _exchangeable(match[0])
    ]
    if not places:
        return None
    for start, end in rng.sample(places, -(-len(places) // _WORDS_PER_TYPO)):
        word = text[start:end]
        at = rng.choice(_exchangeable(word))
        text = text[:start] + word[:at] + word[at + 1] + word[at] + word[at + 2 :] + text[end:]
    return text


def _exchangeable(word: str) -> list[int]:
    return [at for at in range(1, len(word) - 2) if word[at] != word[at + 1]]
