"""The eight families of word problems that the embedded models learn, as plain data.

A family is a question template with integer parameters and several structurally different solution paths that all
give the same answer. A path is written as steps `x op y`; a letter is a parameter, a number is the result of that
earlier step: `"a+b 1*c 2-d"` means s1 = a + b, s2 = s1 * c, s3 = s2 - d, answer s3.

Each family holds out one value of one parameter (`held_out`): such problems are never trained on and form the `ood`
split (the value itself is seen in the other families, the combination is not).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Operand = str | int
"""A parameter's letter, a 1-based reference to an earlier step, or (in corrupted paths) a literal ("#17")."""

Step = tuple[str, Operand, Operand]
"""(operator, left, right)."""

_STEP = re.compile(r"([a-z]|\d)([-+*/])([a-z]|\d)")

NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Hana", "Ivo", "Mia", "Omar")
THINGS = ("pens", "cups", "books", "toys", "apples", "cards", "hats", "rings")


def parse_path(text: str) -> tuple[Step, ...]:
    """`"a+b 1*c"` -> (("+", "a", "b"), ("*", 1, "c"))."""
    steps: list[Step] = []
    for word in text.split():
        match = _STEP.fullmatch(word)
        assert match, word
        left, op, right = match.groups()
        steps.append((op, int(left) if left.isdigit() else left, int(right) if right.isdigit() else right))
    return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of problem.

    ranges gives each parameter's inclusive range; symmetric names parameters whose exchange is the same problem
    (they are sorted in the canonical key); held_out = (parameter, value) marks the `ood` problems.
    """

    name: str
    wordings: tuple[str, ...]
    ranges: dict[str, tuple[int, int]]
    symmetric: str
    held_out: tuple[str, int]
    paths: tuple[tuple[Step, ...], ...]


def _family(
    name: str,
    *wordings: str,
    ranges: dict[str, tuple[int, int]],
    held_out: tuple[str, int],
    paths: str,
    symmetric: str = "",
) -> Family:
    return Family(
        name=name,
        wordings=wordings,
        ranges=ranges,
        symmetric=symmetric,
        held_out=held_out,
        paths=tuple(parse_path(path) for path in paths.split(",")),
    )


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _family(
            "bags",
            "{who} fills {a} red bags and {b} blue bags with {c} {thing} each and gives away {d} {thing}. "
            "How many {thing} are left?",
            "There are {a} red bags and {b} blue bags with {c} {thing} in each bag. {who} takes {d} {thing}. "
            "How many {thing} remain?",
            ranges={"a": (5, 39), "b": (5, 39), "c": (2, 9), "d": (5, 90)},
            symmetric="ab",
            held_out=("c", 7),
            paths="a+b 1*c 2-d,a*c b*c 1+2 3-d,a*c 1-d b*c 2+3,b*c 1-d a*c 2+3",
        ),
        _family(
            "shop",
            "In a shop a red hat costs {a} coins and a blue hat costs {b} coins. {who} buys {c} of each and pays with "
            "{d} coins. How many coins are left?",
            "{who} has {d} coins and buys {c} red hats for {a} coins each and {c} blue hats for {b} coins each. "
            "How many coins remain?",
            ranges={"a": (5, 39), "b": (5, 39), "c": (2, 9), "d": (60, 499)},
            symmetric="ab",
            held_out=("c", 4),
            paths="a+b 1*c d-2,a*c b*c 1+2 d-3,a*c d-1 b*c 2-3,b*c d-1 a*c 2-3",
        ),
        _family(
            "work",
            "{who} starts with {d} {thing}, makes {a} {thing} and sells {b} {thing} every day. "
            "How many {thing} are there after {c} days?",
            "Every day {who} makes {a} {thing} and sells {b} {thing}. At the start there are {d} {thing}. "
            "How many {thing} are there after {c} days?",
            ranges={"a": (12, 60), "b": (4, 40), "c": (2, 9), "d": (10, 200)},
            held_out=("c", 6),
            paths="a-b 1*c 2+d,a*c b*c 1-2 3+d,a*c 1+d b*c 2-3",
        ),
        _family(
            "comparison",
            "{who} has {a} boxes and {other} has {b} boxes with {c} {thing} each. {who} loses {d} {thing}. "
            "How many more {thing} has {who} than {other}?",
            "{other} has {b} bags of {c} {thing} and {who} has {a} bags of {c} {thing}. {who} sells {d} {thing}. "
            "How many more {thing} has {who} than {other}?",
            ranges={"a": (12, 60), "b": (4, 40), "c": (2, 9), "d": (3, 90)},
            held_out=("c", 8),
            paths="a-b 1*c 2-d,a*c b*c 1-2 3-d,a*c 1-d b*c 2-3,b*c 1+d a*c 3-2",
        ),
        _family(
            "rest",
            "{who} has {n} coins and buys {a} {thing} for {c} coins each and {b} hats for {e} coins each. "
            "How many coins are left?",
            "{who} pays with {n} coins for {a} {thing} at {c} coins each and {b} cups at {e} coins each. "
            "How many coins remain?",
            ranges={"n": (60, 499), "a": (5, 39), "c": (2, 9), "b": (5, 39), "e": (2, 9)},
            held_out=("e", 3),
            paths="a*c b*e 1+2 n-3,a*c n-1 b*e 2-3,b*e n-1 a*c 2-3",
        ),
        _family(
            "boxes",
            "There are {a} boxes with {b} {thing} each. {who} puts {c} more {thing} in each box and sells {d} boxes. "
            "How many {thing} are left?",
            "{who} has {a} boxes of {b} {thing}, puts {c} more {thing} in each box and gives away {d} boxes. "
            "How many {thing} remain?",
            ranges={"a": (4, 9), "b": (5, 60), "c": (3, 60), "d": (2, 7)},
            held_out=("a", 8),
            paths="a-d b+c 2*1,b+c 1*a 1*d 2-3,a-d b*1 c*1 2+3",
        ),
        _family(
            "sums",
            "A book has {d} pages. {who} reads {a} pages on day one, {b} on day two and {c} on day three. "
            "How many pages are left?",
            "{who} has {d} {thing} and gives {a} to {other}, sells {b} and loses {c}. How many {thing} remain?",
            ranges={"a": (10, 99), "b": (10, 99), "c": (10, 99), "d": (60, 499)},
            symmetric="abc",
            held_out=("a", 45),
            paths="a+b 1+c d-2,b+c 1+a d-2,a+c 1+b d-2,d-a 1-b 2-c,d-a b+c 1-2,a+b d-1 2-c",
        ),
        _family(
            "rate",
            "{who} makes {n} {thing} in {b} days and works {c} more days at the same rate. {d} {thing} are sold. "
            "How many {thing} are left?",
            "In {b} days {who} makes {n} {thing}. {who} works {c} more days at the same rate and gives away {d} "
            "{thing}. How many {thing} remain?",
            ranges={"n": (12, 300), "b": (2, 9), "c": (2, 9), "d": (5, 90)},
            held_out=("c", 5),
            paths="n/b b+c 1*2 3-d,n/b 1*c n+2 3-d,n/b 1*c n-d 3+2",
        ),
    )
}
