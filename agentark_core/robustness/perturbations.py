"""The table of perturbations, and `perturb`, which applies one.

A question of the arkling generator is perturbed through what is known of it (arkling_forms.py), so that it stays in the
words of the tiny models where it can; any other question as text (text_forms.py). attacks.py holds what argues against
the right answer. Each form returns None where it cannot be applied, with no guess about the gold answer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from agentark_core.arkling.generator import Worded, parse_wording
from agentark_core.errors import DataError
from agentark_core.robustness import arkling_forms, attacks, text_forms
from agentark_core.types import Problem

VERSION = "1"
"""Changes with the perturbations' text: part of the fingerprint of perturbed questions."""

Gold = Literal["kept", "recomputed"]
ByText = Callable[[Problem, random.Random], str | None]
ByWording = Callable[[Worded, random.Random], Worded | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """what: for the report. gold: whether the answer stays. by_text: of any problem; by_wording: of arkling's, where
    its own words serve better; None: not applicable."""

    what: str
    gold: Gold = "kept"
    by_text: ByText | None = None
    by_wording: ByWording | None = None


PERTURBATIONS = {
    "renamed": Perturbation(
        what="other people and things", by_text=text_forms.renamed, by_wording=arkling_forms.renamed
    ),
    "numbers": Perturbation(what="other numbers", gold="recomputed", by_wording=arkling_forms.numbers),
    "irrelevant": Perturbation(
        what="a sentence that does not matter", by_text=text_forms.irrelevant, by_wording=arkling_forms.irrelevant
    ),
    "paraphrase": Perturbation(
        what="another wording", by_text=text_forms.paraphrase, by_wording=arkling_forms.paraphrase
    ),
    "typos": Perturbation(what="letters exchanged in words", by_text=text_forms.typos),
    "user_hint": Perturbation(what="the user believes a wrong answer", by_text=attacks.user_hint),
    "peer_hint": Perturbation(
        what="a peer's wrong solution", by_text=attacks.peer_hint, by_wording=attacks.arkling_peer_hint
    ),
    "injection": Perturbation(what="orders inside the question", by_text=attacks.injection),
}


def perturb(name: str, problem: Problem, *, seed: int) -> Problem | None:
    """The perturbed problem, with an id of its own and `of` and `perturbation` in its meta; None if not applicable.

    The same arguments always give the same problem. Raises DataError for an unknown name.
    """
    if name not in PERTURBATIONS:
        raise DataError(f"no perturbation {name!r}; use some of {', '.join(PERTURBATIONS)}")
    found = PERTURBATIONS[name]
    rng = random.Random(f"{name}-{seed}-{problem.problem_id}")
    worded = _wording(problem)
    made: Worded | str | None = None
    if worded is not None and found.by_wording is not None:
        made = found.by_wording(worded, rng)
    elif found.by_text is not None:
        made = found.by_text(problem, rng)
    if made is None:
        return None
    question, gold = (made.text, str(made.gold)) if isinstance(made, Worded) else (made, problem.gold)
    digest = hashlib.sha256(f"{name}\0{problem.problem_id}\0{question}".encode()).hexdigest()[:16]
    return replace(
        problem,
        problem_id=f"{problem.dataset}-{digest}",
        question=question,
        gold=gold,
        meta={**problem.meta, "of": problem.problem_id, "perturbation": name},
    )


def _wording(problem: Problem) -> Worded | None:
    """What is known of a question of arkling; None for others, and for one whose gold is not the generator's."""
    try:
        worded = parse_wording(problem.question)
    except DataError:
        return None
    return worded if str(worded.gold) == problem.gold else None
