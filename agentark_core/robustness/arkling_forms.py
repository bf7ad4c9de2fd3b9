"""Perturbations of arkling's questions through their specification, in words that the tiny models know."""

from __future__ import annotations

import random
from dataclasses import replace

from agentark_core.arkling.families import FAMILIES, NAMES, THINGS
from agentark_core.arkling.generator import Spec, Worded, solve


def renamed(worded: Worded, rng: random.Random) -> Worded:
    """Other people and another thing."""
    who, other = rng.sample([name for name in NAMES if name not in worded.words.values()], 2)
    thing = rng.choice(_unmentioned_things(worded))
    return replace(worded, words={"who": who, "other": other, "thing": thing})


def numbers(worded: Worded, rng: random.Random) -> Worded:
    """Another problem of the same family and split in the same words; its gold follows from its numbers."""
    spec = worded.spec
    while True:
        values = tuple(rng.randint(low, high) for low, high in FAMILIES[spec.family].ranges.values())
        drawn = Spec(spec.family, values)
        if drawn.split == spec.split and drawn.key != spec.key and solve(drawn) is not None:
            return replace(worded, spec=drawn)


def paraphrase(worded: Worded, rng: random.Random) -> Worded:
    """The family's other wording; words that only it has are drawn."""
    other_wordings = [wording for wording in FAMILIES[worded.spec.family].wordings if wording != worded.wording]
    other = rng.choice([name for name in NAMES if name not in worded.words.values()])
    words = {"other": other, "thing": rng.choice(THINGS), **worded.words}
    return replace(worded, wording=rng.choice(other_wordings), words=words)


def irrelevant(worded: Worded, rng: random.Random) -> str:
    """A sentence before the question, about somebody and things that are not in it, with a number of its own."""
    who = rng.choice([name for name in NAMES if name not in worded.words.values()])
    number = rng.choice([n for n in range(10, 100) if n not in worded.spec.values])
    sentence = f"{who} has {number} {rng.choice(_unmentioned_things(worded))}."
    return worded.text.replace("Q: ", f"Q: {sentence} ", 1)


def _unmentioned_things(worded: Worded) -> list[str]:
    """Things of the generator's list that the question does not name (hats and cups also stand in wordings)."""
    return [thing for thing in THINGS if thing not in worded.text and thing.removesuffix("s") not in worded.text]
