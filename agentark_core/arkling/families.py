"""The eight families of word problems that the embedded models learn, and eleven that they never see, as plain data.

A family is a question template with integer parameters and several structurally different solution paths that all
give the same answer. A path is written as steps `x op y`; a letter is a parameter, a number is the result of that
earlier step: `"a+b 1*c 2-d"` means s1 = a + b, s2 = s1 * c, s3 = s2 - d, answer s3.

Each learned family holds out one value of one parameter (`held_out`): such problems are never trained on and form the
`ood` split (the value itself is seen in the other families, the combination is not). The others are whole splits of
their own: `longer`, each learned family with one step more than its shortest path, and `unseen`, other structures. They
use no word that the learned families lack, so the embedded models' tokenizer knows them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

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
    (they are sorted in the canonical key); held_out = (parameter, value) marks the `ood` problems; or else split is
    where all problems of the family belong.
    """

    name: str
    wordings: tuple[str, ...]
    ranges: dict[str, tuple[int, int]]
    symmetric: str
    held_out: tuple[str, int] | None
    split: Literal["", "longer", "unseen"]
    paths: tuple[tuple[Step, ...], ...]


def _family(
    name: str,
    *wordings: str,
    ranges: dict[str, tuple[int, int]],
    paths: str,
    held_out: tuple[str, int] | None = None,
    split: Literal["", "longer", "unseen"] = "",
    symmetric: str = "",
) -> Family:
    return Family(
        name=name,
        wordings=wordings,
        ranges=ranges,
        symmetric=symmetric,
        held_out=held_out,
        split=split,
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
        _family(
            "longer bags",
            "{who} fills {a} red bags and {b} blue bags with {c} {thing} each, gives away {d} {thing} and sells {e} "
            "{thing}. How many {thing} are left?",
            "There are {a} red bags and {b} blue bags with {c} {thing} in each bag. {who} takes {d} {thing} and sells "
            "{e} {thing}. How many {thing} remain?",
            ranges={"a": (5, 39), "b": (5, 39), "c": (2, 9), "d": (5, 90), "e": (5, 90)},
            split="longer",
            symmetric="ab",
            paths="a+b 1*c 2-d 3-e,a+b 1*c d+e 2-3,a*c b*c 1+2 3-d 4-e",
        ),
        _family(
            "longer shop",
            "In a shop a red hat costs {a} coins and a blue hat costs {b} coins. {who} buys {c} of each, pays with {d} "
            "coins and gives away {e} coins. How many coins are left?",
            "{who} has {d} coins, buys {c} red hats for {a} coins each and {c} blue hats for {b} coins each and loses "
            "{e} coins. How many coins remain?",
            ranges={"a": (5, 39), "b": (5, 39), "c": (2, 9), "d": (60, 499), "e": (5, 90)},
            split="longer",
            symmetric="ab",
            paths="a+b 1*c d-2 3-e,a+b 1*c d-e 3-2,a*c b*c 1+2 d-3 4-e",
        ),
        _family(
            "longer work",
            "{who} starts with {d} {thing}, makes {a} {thing}, sells {b} {thing} and loses {e} {thing} every day. "
            "How many {thing} are there after {c} days?",
            "Every day {who} makes {a} {thing}, sells {b} {thing} and gives away {e} {thing}. At the start there are "
            "{d} {thing}. How many {thing} are there after {c} days?",
            ranges={"a": (12, 60), "b": (4, 40), "c": (2, 9), "d": (10, 200), "e": (2, 20)},
            split="longer",
            paths="a-b 1-e 2*c 3+d,b+e a-1 2*c 3+d,a*c b*c e*c 1-2 4-3 5+d",
        ),
        _family(
            "longer comparison",
            "{who} has {a} boxes and {other} has {b} boxes with {c} {thing} each. {who} loses {d} {thing} and sells "
            "{e} {thing}. How many more {thing} has {who} than {other}?",
            "{other} has {b} bags of {c} {thing} and {who} has {a} bags of {c} {thing}. {who} sells {d} {thing} and "
            "gives away {e} {thing}. How many more {thing} has {who} than {other}?",
            ranges={"a": (12, 60), "b": (4, 40), "c": (2, 9), "d": (3, 90), "e": (3, 90)},
            split="longer",
            paths="a-b 1*c 2-d 3-e,a-b 1*c d+e 2-3,a*c b*c 1-2 3-d 4-e",
        ),
        _family(
            "longer rest",
            "{who} has {n} coins, buys {a} {thing} for {c} coins each and {b} hats for {e} coins each and loses {d} "
            "coins. How many coins are left?",
            "{who} pays with {n} coins for {a} {thing} at {c} coins each and {b} cups at {e} coins each and gives away "
            "{d} coins. How many coins remain?",
            ranges={"n": (60, 499), "a": (5, 39), "c": (2, 9), "b": (5, 39), "e": (2, 9), "d": (5, 90)},
            split="longer",
            paths="a*c b*e 1+2 n-3 4-d,a*c n-1 b*e 2-3 4-d,n-d a*c b*e 1-2 4-3",
        ),
        _family(
            "longer boxes",
            "There are {a} boxes with {b} {thing} each. {who} puts {c} more {thing} in each box, sells {d} boxes and "
            "loses {e} {thing}. How many {thing} are left?",
            "{who} has {a} boxes of {b} {thing}, puts {c} more {thing} in each box, gives away {d} boxes and sells {e} "
            "{thing}. How many {thing} remain?",
            ranges={"a": (4, 9), "b": (5, 60), "c": (3, 60), "d": (2, 7), "e": (5, 90)},
            split="longer",
            paths="a-d b+c 2*1 3-e,b+c 1*a 1*d 2-3 4-e,a-d b*1 c*1 2+3 4-e",
        ),
        _family(
            "longer sums",
            "A book has {d} pages. {who} reads {a} pages on day one, {b} on day two and {c} on day three and takes {e} "
            "pages away. How many pages are left?",
            "{who} has {d} {thing} and gives {a} to {other}, sells {b}, loses {c} and puts {e} in a box. How many "
            "{thing} remain?",
            ranges={"a": (10, 99), "b": (10, 99), "c": (10, 99), "e": (10, 99), "d": (60, 499)},
            split="longer",
            symmetric="abce",
            paths="a+b 1+c 2+e d-3,d-a 1-b 2-c 3-e,a+b c+e 1+2 d-3",
        ),
        _family(
            "longer rate",
            "{who} makes {n} {thing} in {b} days and works {c} more days at the same rate. {d} {thing} are sold and "
            "{who} loses {e} {thing}. How many {thing} are left?",
            "In {b} days {who} makes {n} {thing}. {who} works {c} more days at the same rate, sells {d} {thing} and "
            "gives away {e} {thing}. How many {thing} remain?",
            ranges={"n": (12, 300), "b": (2, 9), "c": (2, 9), "d": (5, 90), "e": (5, 90)},
            split="longer",
            paths="n/b b+c 1*2 3-d 4-e,n/b 1*c n+2 3-d 4-e,n/b 1*c n-d 3+2 4-e",
        ),
        _family(
            "unseen pairs",
            "{who} has {a} boxes of {b} {thing} and {other} has {c} bags of {d} {thing}. How many {thing} are there?",
            "There are {a} boxes with {b} {thing} each and {c} bags with {d} {thing} each. How many {thing} are there?",
            ranges={"a": (2, 9), "b": (5, 60), "c": (2, 9), "d": (5, 60)},
            split="unseen",
            paths="a*b c*d 1+2,c*d a*b 2+1",
        ),
        _family(
            "unseen share",
            "{who} has {n} {thing} and puts {a} in each box. {other} takes {b} boxes and {who} buys {c} boxes. How "
            "many boxes are there?",
            "There are {n} {thing} in boxes of {a} {thing} each. {who} sells {b} boxes and buys {c} more boxes. How "
            "many boxes are there?",
            ranges={"n": (12, 300), "a": (2, 9), "b": (2, 40), "c": (2, 40)},
            split="unseen",
            paths="n/a 1-b 2+c,n/a 1+c 2-b,n/a c-b 1+2",
        ),
        _family(
            "unseen pages",
            "A book has {n} pages. {who} reads {a} pages every day for {b} days and {c} pages more. How many pages are "
            "left?",
            "Every day {who} reads {a} pages of a book with {n} pages. How many pages are left after {b} days and {c} "
            "more pages?",
            ranges={"n": (60, 499), "a": (5, 60), "b": (2, 9), "c": (5, 90)},
            split="unseen",
            paths="a*b n-1 2-c,a*b 1+c n-2,n-c a*b 1-2",
        ),
    )
}
