"""Wrong solutions that look like a small model's: the synthetic peers of the debate training.

Each takes a correct path and breaks it in one place; later steps are recomputed from the wrong value, so errors
propagate as real ones do.
"""

from __future__ import annotations

import random

from agentark_core.arkling.families import FAMILIES
from agentark_core.arkling.generator import Spec, apply, render, solve

Ref = tuple[str, int]
"""("n", value) a number, ("s", index) the result of an earlier step (0-based)."""

KINDS = ("slip", "slip", "slip", "operand", "operator", "skip", "boxed")


def wrong_solution(spec: Spec, rng: random.Random) -> str:
    """Text of one solution whose answer differs from the gold."""
    solved = solve(spec)
    assert solved is not None
    gold = solved[0][-1][3]
    while True:
        text, answer = _corrupt(spec, rng.choice(KINDS), rng)
        if answer not in (None, gold):
            return text


def _corrupt(spec: Spec, kind: str, rng: random.Random) -> tuple[str, int | None]:
    path = rng.choice(FAMILIES[spec.family].paths)
    params = spec.params
    steps: list[tuple[str, Ref, Ref]] = [
        (op, *(("n", params[x]) if isinstance(x, str) else ("s", x - 1) for x in (left, right)))  # type: ignore[misc]
        for op, left, right in path
    ]
    at = rng.randrange(len(steps))
    op, left, right = steps[at]
    if kind == "operand":
        other: list[Ref] = [("n", value) for value in params.values()] + [("s", index) for index in range(at)]
        steps[at] = (op, rng.choice(other), right) if rng.random() < 0.5 else (op, left, rng.choice(other))
    elif kind == "operator":
        steps[at] = ({"+": "-", "-": "+", "*": "+", "/": "-"}[op], left, right)
    elif kind == "skip":
        if len(steps) < 2:
            return "", None
        steps = _skip(steps, at, rng.choice((left, right)))
    done: list[tuple[int, str, int, int]] = []
    for index, (op, left, right) in enumerate(steps):
        x, y = (value if tag == "n" else done[value][3] for tag, value in (left, right))
        result = apply(op, x, y)
        if result is not None and kind == "slip" and index == at:
            result = slip(result, rng)
        if result is None or not 0 < result <= 999:
            return "", None
        done.append((x, op, y, result))
    answer = slip(done[-1][3], rng) if kind == "boxed" else done[-1][3]
    return render(done, answer=answer), answer


def _skip(steps: list[tuple[str, Ref, Ref]], at: int, instead: Ref) -> list[tuple[str, Ref, Ref]]:
    """Drop step `at`; later references to it use `instead`."""

    def move(ref: Ref) -> Ref:
        tag, value = ref
        if tag == "n" or value < at:
            return ref
        return instead if value == at else (tag, value - 1)

    return [(op, move(left), move(right)) for index, (op, left, right) in enumerate(steps) if index != at]


def slip(value: int, rng: random.Random) -> int:
    """value with one digit wrong (off by one or any), never value itself, always positive."""
    while True:
        place = 10 ** rng.randrange(len(str(value)))
        delta = rng.choice((-1, 1, -1, 1, -2, 2, rng.randint(-9, 9)))
        if delta and value + delta * place > 0:
            return value + delta * place
