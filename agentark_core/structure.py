r"""How a solution reasons, without a model: its operations and intermediate values, and how far two of them are apart.

    "48/2 = 24 clips in May. Altogether $48 + 24 = 72$." -> (("/", "24"), ("+", "72"))

An operation is one equation of numbers: its operator signs in order, and the value after the last equals sign. Numbers
are compared as values (1,200 = 1200.0). What has no such equation (a choice of medicine, a proof in words) has no
operations; only its words can then differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import pairwise

MAX_TEXT = 20_000
"""Characters of a trace that are looked at; longer ones are mostly loops."""

MAX_OPERATIONS = 64

STRUCTURE_VERSION = "structure-1"

MAX_WALK = 40
"""Tokens before an equals sign that may belong to its expression."""

MAX_UNIT = 2
"""Words after a number that may name what is counted: `12 fresh eggs`."""

_LATEX = (
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\d?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm)\{([^{}]{0,40})\}"), r" \1"),
    (re.compile(r"\\[,;!%$]|\\(?:left|right|quad)\b|<<[^<>]{0,80}>>|[{}\\$]|(?<=\d),(?=\d{3})"), ""),
)
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|[A-Za-z]+|\S")
_SIGN = {**{sign: sign for sign in "+-*/^"}, "x": "*", "×": "*", "·": "*", "÷": "/", "−": "-"}
_SKIPPED = set("()[]%")
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")

Operation = tuple[str, str]
"""(operator signs in order, value): ("+", "72")."""


@lru_cache(maxsize=64)  # the solutions of one debate, which are held against each other
def operations(text: str) -> tuple[Operation, ...]:
    """The operations of a trace in order, at most MAX_OPERATIONS of the first MAX_TEXT characters."""
    text = text[:MAX_TEXT]
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    tokens = _TOKEN.findall(text)
    found: list[Operation] = []
    for place, token in enumerate(tokens):
        if token == "=" and len(found) < MAX_OPERATIONS:
            signs, value = _signs_before(tokens, place), _value_after(tokens, place)
            if signs and value:
                found.append((signs, value))
    return tuple(found)


def _signs_before(tokens: Sequence[str], place: int) -> str:
    """The operator signs of the expression that ends before tokens[place]; walks to the left while it is one."""
    signs: list[str] = []
    units = 0
    operand = False  # a number was met since the last sign
    for token in reversed(tokens[max(0, place - MAX_WALK) : place]):
        if token[0].isdigit():
            if operand:
                break
            operand, units = True, 0
        elif token in _SIGN and operand:
            signs.append(_SIGN[token])
            operand = False
        elif token.isalpha() and not operand and units < MAX_UNIT:
            units += 1
        elif token not in _SKIPPED:
            break
    if not operand and signs and signs[-1] != "-":
        return ""  # an operator without its first number
    return "".join(reversed(signs if operand else signs[:-1]))


def _value_after(tokens: Sequence[str], place: int) -> str:
    """The number after tokens[place], unless an expression goes on from it."""
    rest = list(tokens[place + 1 : place + 4])
    sign = "-" if rest and rest[0] in ("-", "−") else ""
    if sign:
        rest = rest[1:]
    if not rest or not rest[0][0].isdigit() or (len(rest) > 1 and rest[1] in _SIGN):
        return ""
    return _value(sign + rest[0])


def operation_distance(one: Sequence[Operation], other: Sequence[Operation]) -> float:
    """1 - length of the longest common subsequence of operations over the longer length; 0 where both have none."""
    longest = max(len(one), len(other))
    if longest == 0 or one == other:
        return 0.0
    row = [0] * (len(other) + 1)
    for operation in one:
        before = row
        row = [0]
        for column, against in enumerate(other):
            row.append(before[column] + 1 if operation == against else max(before[column + 1], row[column]))
    return 1 - row[-1] / longest


def text_distance(one: str, other: str) -> float:
    """1 - Jaccard similarity of the sets of word pairs (lower case, without punctuation)."""
    a, b = _pairs(one), _pairs(other)
    return 1 - len(a & b) / len(a | b) if a or b else 0.0


def _pairs(text: str) -> set[tuple[str, str]]:
    return set(pairwise(_WORD.findall(text[:MAX_TEXT].lower())))


def _value(number: str) -> str:
    try:
        value = Decimal(number.replace(",", ""))
    except InvalidOperation:
        return number
    return f"{value.normalize():f}" if abs(value) < Decimal(10) ** 40 else number
