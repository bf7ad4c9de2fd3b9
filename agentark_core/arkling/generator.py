"""Seeded generator of multi-step word problems with several valid solution paths, and an exact step checker.

Example: family `bags`, values (22, 11, 9, 198)
    Q: Ann fills 22 red bags and 11 blue bags with 9 pens each and gives away 98 pens. How many pens are left?
    Step 1: 22 + 11 = 33
    Step 2: 33 * 9 = 297
    Step 3: 297 - 98 = 199
    \\boxed{199}

Splits are disjoint by construction: a problem's canonical key (family and parameters, without names and wording)
decides its split. Held-out parameter values form `ood`, families that are never trained on `longer` and `unseen`; the
hash of the key decides the rest.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from string import Formatter
from typing import Literal

from agentark_core.arkling.families import FAMILIES, NAMES, THINGS, Step
from agentark_core.errors import DataError
from agentark_core.types import Problem

GENERATOR_VERSION = "1"
MAX_RESULT = 499

Split = Literal["train", "validation", "distil", "test", "ood", "longer", "unseen"]
SPLITS: tuple[Split, ...] = ("train", "validation", "distil", "test", "ood", "longer", "unseen")

_SYMBOL = {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y}
_LINE = re.compile(r"Step (\d{1,3}): (\d{1,9}) ([-+*/]) (\d{1,9}) = (\d{1,9})")
_BOXED = re.compile(r"\\boxed\{(\d{1,9})\}")


@dataclass(frozen=True, slots=True)
class Spec:
    """A problem without its wording: family and parameter values in the order of the family's ranges."""

    family: str
    values: tuple[int, ...]

    @property
    def params(self) -> dict[str, int]:
        """Parameter letter -> value."""
        return dict(zip(FAMILIES[self.family].ranges, self.values, strict=True))

    @property
    def key(self) -> str:
        """Canonical key; exchanging symmetric parameters gives the same key."""
        family, params = FAMILIES[self.family], self.params
        names = [name for name in params if name in family.symmetric]
        params.update(zip(names, sorted(params[name] for name in names), strict=True))
        return self.family + ":" + ",".join(str(value) for value in params.values())

    @property
    def digest(self) -> str:
        """16 hex digits of the key's sha256."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:16]

    @property
    def split(self) -> Split:
        """The one split that this problem belongs to."""
        family = FAMILIES[self.family]
        if family.split:
            return family.split
        assert family.held_out is not None, family
        name, value = family.held_out
        symmetric = family.symmetric
        params = self.params
        if any(params[n] == value for n in (symmetric if name in symmetric else name)):
            return "ood"
        bucket = int(self.digest, 16) % 100
        return "validation" if bucket < 2 else "train" if bucket < 70 else "distil" if bucket < 85 else "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A problem with its wording. words: who, other and thing, those that the wording has (more do no harm)."""

    spec: Spec
    wording: str
    words: dict[str, str]

    @property
    def text(self) -> str:
        """The question."""
        return "Q: " + self.wording.format(**self.words, **self.spec.params)

    @property
    def gold(self) -> int:
        """The answer. The values must be usable."""
        solved = solve(self.spec)
        assert solved is not None, self.spec
        return solved[0][-1][3]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCheck:
    """What is true of one `Step` line. arithmetic: the equation holds; available: both operands are numbers of the
    question or results of earlier lines; both False when the line cannot be parsed."""

    line: str
    arithmetic: bool
    available: bool


def apply(op: str, left: int, right: int) -> int | None:
    """left op right, or None when the result is not a positive integer."""
    if op == "/":
        return left // right if right > 0 and left % right == 0 and left > 0 else None
    value = _SYMBOL[op](left, right)
    return value if value > 0 else None


def evaluate(path: tuple[Step, ...], params: dict[str, int]) -> list[tuple[int, str, int, int]] | None:
    """Each step as (left, op, right, result); None when a result is not a positive integer."""
    done: list[tuple[int, str, int, int]] = []
    for op, left, right in path:
        x = params[left] if isinstance(left, str) else done[left - 1][3]
        y = params[right] if isinstance(right, str) else done[right - 1][3]
        result = apply(op, x, y)
        if result is None:
            return None
        done.append((x, op, y, result))
    return done


def render(steps: list[tuple[int, str, int, int]], *, answer: int | None = None) -> str:
    """A solution's text; answer defaults to the last result."""
    lines = [f"Step {i}: {x} {op} {y} = {r}\n" for i, (x, op, y, r) in enumerate(steps, 1)]
    return "".join(lines) + f"\\boxed{{{steps[-1][3] if answer is None else answer}}}"


def solve(spec: Spec) -> list[list[tuple[int, str, int, int]]] | None:
    """All evaluated paths, asserted equal; None when the values are not usable (too large, not positive or exact)."""
    params = spec.params
    solved = []
    for path in FAMILIES[spec.family].paths:
        steps = evaluate(path, params)
        if steps is None or not all(_small(*step) for step in steps):
            return None
        solved.append(steps)
    assert len({steps[-1][3] for steps in solved}) == 1, spec
    return solved


def _small(x: int, op: str, y: int, result: int) -> bool:
    return result <= MAX_RESULT and (op != "*" or (min(x, y) <= 9 and max(x, y) <= 99))


def solutions(spec: Spec) -> list[str]:
    """The text of every valid path."""
    solved = solve(spec)
    assert solved is not None, spec
    return list(dict.fromkeys(render(steps) for steps in solved))


def question(spec: Spec, rng: random.Random) -> str:
    """One wording of the problem, with names and things drawn from rng."""
    who, other = rng.sample(NAMES, 2)
    wording = rng.choice(FAMILIES[spec.family].wordings)
    return Worded(spec=spec, wording=wording, words={"who": who, "other": other, "thing": rng.choice(THINGS)}).text


def parse_question(text: str) -> Spec:
    """The problem that `question` worded. Raises DataError if text is none of its wordings."""
    return parse_wording(text).spec


def parse_wording(text: str) -> Worded:
    """The problem and its words, as `question` chose them. Raises DataError if text is none of its wordings."""
    for family, wording, pattern in _wordings():
        if match := pattern.fullmatch(text):
            spec = Spec(family, tuple(int(match[name]) for name in FAMILIES[family].ranges))
            if solve(spec) is not None:
                words = {name: word for name, word in match.groupdict().items() if name not in FAMILIES[family].ranges}
                return Worded(spec=spec, wording=wording, words=words)
    raise DataError(f"not a question of arkling: {text[:80]!r}; only the generator's own problems have exact labels")


@cache
def _wordings() -> list[tuple[str, str, re.Pattern[str]]]:
    """(family, wording, pattern with a group for each parameter and word) of every wording."""
    patterns = []
    for family in FAMILIES.values():
        for wording in family.wordings:
            pattern, seen = "Q: ", set()
            for words, name, _, _ in Formatter().parse(wording):
                pattern += re.escape(words)
                if name in seen:
                    pattern += f"(?P={name})"
                elif name is not None:
                    seen.add(name)
                    form = r"\d{1,9}" if name in family.ranges else r"[A-Za-z]{1,20}"
                    pattern += f"(?P<{name}>{form})"
            patterns.append((family.name, wording, re.compile(pattern, re.ASCII)))
    return patterns


def draw(rng: random.Random, split: Split) -> Spec:
    """One usable problem of the split (repeats are possible over many draws)."""
    whole = split if split in ("longer", "unseen") else ""
    family = rng.choice([family for family in FAMILIES.values() if family.split == whole])
    while True:
        values = {name: rng.randint(low, high) for name, (low, high) in family.ranges.items()}
        if split == "ood" and family.held_out:
            values[family.held_out[0]] = family.held_out[1]
        spec = Spec(family.name, tuple(values.values()))
        if spec.split == split and solve(spec) is not None:
            return spec


def specs(split: Split, *, seed: int = 0) -> Iterator[Spec]:
    """Deterministic stream of the split's problems without repeats. Raises DataError when it has run dry."""
    rng = random.Random(f"arkling-{GENERATOR_VERSION}-{split}-{seed}")
    seen: set[str] = set()
    misses = 0
    while misses < 2000:
        spec = draw(rng, split)
        if spec.key in seen:
            misses += 1
            continue
        misses = 0
        seen.add(spec.key)
        yield spec
    raise DataError(f"arkling split {split!r} has only about {len(seen)} problems; ask for fewer (limit, offset)")


def problems(split: str, *, limit: int, offset: int = 0, seed: int = 0) -> list[Problem]:
    """Problems offset .. offset+limit-1 of the split's stream; the same arguments always give the same problems.

    Keys are unique within a split over all offsets, and no key is in two splits.
    Raises DataError for an unknown split or a limit below 1.
    """
    if split not in SPLITS:
        raise DataError(f"arkling has no split {split!r}; use one of {', '.join(SPLITS)}")
    if limit < 1 or offset < 0:
        raise DataError(f"arkling generates problems: limit must be at least 1 and offset 0 (got {limit}, {offset})")
    found: list[Problem] = []
    for index, spec in enumerate(specs(split, seed=seed)):
        if index >= offset:
            found.append(_problem(spec, split))
        if len(found) == limit:
            break
    return found


def _problem(spec: Spec, split: str) -> Problem:
    return Problem(
        problem_id=f"arkling-{spec.digest}",
        dataset="arkling",
        task="number",
        question=question(spec, random.Random(spec.digest)),
        gold=str((solve(spec) or [])[0][-1][3]),
        split=split,
        meta={"family": spec.family},
    )


def parse_solution(text: str) -> int | None:
    """The boxed answer when text is exactly numbered step lines and one boxed line, else None (strict)."""
    *lines, last = text.split("\n")
    boxed = _BOXED.fullmatch(last)
    if boxed is None or not lines:
        return None
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) != number:
            return None
    return int(boxed[1])


def check_steps(question: str, text: str) -> list[StepCheck]:
    """Check every line of text that starts with `Step`, exactly (integers, no tolerance)."""
    known = {int(number) for number in re.findall(r"\d{1,9}", question)}
    checks = []
    for line in text.splitlines():
        if not line.startswith("Step"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            checks.append(StepCheck(line=line, arithmetic=False, available=False))
            continue
        x, op, y, result = int(match[2]), match[3], int(match[4]), int(match[5])
        arithmetic = result == (_SYMBOL[op](x, y) if op != "/" else apply(op, x, y))
        checks.append(StepCheck(line=line, arithmetic=arithmetic, available=x in known and y in known))
        known.add(result)
    return checks


def check_lines(question: str, text: str) -> list[bool]:
    """Whether each of text.splitlines() is right: a `Step`, a box or white space; any other line is wrong.

    A `Step` line is right if `check_steps` finds nothing wrong and its equation is on a solution path of the problem
    (the operands of a sum or product in either order): a true equation that leads nowhere is wrong, and what is
    computed from a wrong result too. A box is right if it holds the answer. Raises DataError as `parse_question` does.
    """
    spec = parse_question(question)
    solved = solve(spec)
    assert solved is not None, spec
    valid = {_commuted(x, op, y, result) for path in solved for x, op, y, result in path}
    checks = iter(check_steps(question, text))
    right = []
    for line in text.splitlines():
        if line.startswith("Step"):
            check, match = next(checks), _LINE.fullmatch(line.strip())
            equation = match and _commuted(int(match[2]), match[3], int(match[4]), int(match[5]))
            right.append(check.arithmetic and check.available and equation in valid)
        else:
            box = _BOXED.fullmatch(line.strip())
            right.append(int(box[1]) == solved[0][-1][3] if box else not line.strip())
    return right


def _commuted(x: int, op: str, y: int, result: int) -> tuple[int, str, int, int]:
    return (min(x, y), op, max(x, y), result) if op in "+*" else (x, op, y, result)
