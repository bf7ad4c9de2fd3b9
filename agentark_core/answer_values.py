r"""The value of a short LaTeX formula at fixed points, in complex floats: a fast and safe test before real algebra.

    differ("2\\sqrt{3}", "3\\sqrt{2}") -> True     differ("2x", "x + x") -> False     differ("\\int x", "1") -> None

Two formulas that differ at one point are different (equal ones agree everywhere up to rounding), so most wrong answers
never need sympy. The grammar is small on purpose: numerals, one-letter variables, \pi, e, i, \frac, \sqrt, powers,
sin cos tan sec csc cot ln, + - * / and implicit products. Anything else is None: "ask the algebra". A loop of bounded
depth over floats: no power of big integers, no eval, overflow is None.
"""

from __future__ import annotations

import cmath
import math
import re
import zlib
from collections.abc import Callable

MAX_CHARS = 300
_MAX_DEPTH = 30

_TOKEN = re.compile(
    r"\s*(\d{1,3}(?:,\d{3})+(?!\d)|\d+\.?\d*|\.\d+|\\[a-zA-Z]+"
    r"|[a-zA-Z]_(?:\w|\{\w{1,6}\})|[a-zA-Z+\-*/^(){}\[\]!])"
)
_SPELLED = (
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\cfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", ""),
    ("\\,", " "), ("\\;", " "), ("\\cdot", "*"), ("\\times", "*"), ("{,}", ","),
)  # fmt: skip
_BASE = re.compile(r"(?<=\d)_(?:\d|\{\d{1,2}\})(?!\w)")
_INFINITE = {"\\infty": 1e300, "+\\infty": 1e300, "-\\infty": -1e300}
_GREEK = re.compile(r"\\(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|nu|rho|sigma|tau|phi|varphi|psi|omega)")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}|\d\s[a-zA-Z]{2,}\b")
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "\\sin": cmath.sin,
    "\\cos": cmath.cos,
    "\\tan": cmath.tan,
    "\\sec": lambda x: 1 / cmath.cos(x),
    "\\csc": lambda x: 1 / cmath.sin(x),
    "\\cot": lambda x: 1 / cmath.tan(x),
    "\\ln": cmath.log,
    "\\sqrt": cmath.sqrt,
}
_CONSTANTS = {"\\pi": math.pi, "e": math.e, "i": 1j}
_POINTS = (0.3719, 0.7183)
"""Two bases of the variables' values; each letter gets its own value at each point."""


class _Unknown(Exception):
    """Outside the grammar."""


def differ(a: str, b: str) -> bool | None:
    """True if the formulas certainly have different values, False if they agree at all points, None if unknown."""
    agree = True
    for point in _POINTS:
        x, y = value(a, point=point), value(b, point=point)
        if x is None or y is None:
            return None
        gap, scale = abs(x - y), max(1.0, abs(x), abs(y))
        if gap > 1e-5 * scale:
            return True
        agree = agree and gap < 1e-9 * scale
    return False if agree else None


def value(formula: str, *, point: float) -> complex | None:
    """The value with every variable at its fixed number for this point, or None outside the grammar."""
    if len(formula) > MAX_CHARS or _WORD.search(formula):
        return None
    if formula.strip() in _INFINITE:
        return complex(_INFINITE[formula.strip()])
    for old, new in _SPELLED:
        formula = formula.replace(old, new)
    formula = _BASE.sub("", formula)
    tokens, position = [], 0
    while position < len(formula.rstrip()):
        found = _TOKEN.match(formula, position)
        if found is None:
            return None
        tokens.append(found[1])
        position = found.end()
    parser = _Parser(tokens, point=point)
    try:
        result = parser.sum(0)
    except (_Unknown, OverflowError, ZeroDivisionError, ValueError):
        return None
    return result if not parser.tokens and cmath.isfinite(result) else None


def _raise(base: complex, exponent: complex) -> complex:
    """A power; a root of a negative number is left to the algebra (real and principal root differ)."""
    if base.real < 0 and base.imag == 0 and exponent != round(exponent.real):
        raise _Unknown
    return base**exponent


class _Parser:
    """Recursive descent over the tokens (kept reversed: the next token is the last element)."""

    def __init__(self, tokens: list[str], *, point: float) -> None:
        self.tokens = tokens[::-1]
        self._point = point

    def _peek(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            raise _Unknown
        self.tokens.pop()

    def sum(self, depth: int) -> complex:
        if depth > _MAX_DEPTH:
            raise _Unknown
        total = self._product(depth)
        while self._peek() in ("+", "-"):
            sign = self.tokens.pop()
            term = self._product(depth)
            total = total + term if sign == "+" else total - term
        return total

    def _product(self, depth: int) -> complex:
        sign = 1
        while self._peek() in ("+", "-"):
            sign = -sign if self.tokens.pop() == "-" else sign
        result = self._power(depth)
        while self._peek() and self._peek() not in ("+", "-", ")", "}", "]"):
            if self._peek() == "/":
                self.tokens.pop()
                result /= self._power(depth)
                continue
            if self._peek() == "*":
                self.tokens.pop()
            elif self._peek()[0].isdigit():
                raise _Unknown  # `2 3`: a mixed number, a typo, or a list
            result *= self._power(depth)
        return sign * result

    def _power(self, depth: int) -> complex:
        if self._peek() == "-":
            self.tokens.pop()
            return -self._power(depth + 1)
        base = self._atom(depth)
        if self._peek() == "^":
            self.tokens.pop()
            return _raise(base, self._argument(depth))
        if self._peek() == "!":
            raise _Unknown
        return base

    def _argument(self, depth: int) -> complex:
        """A braced group, or one digit or letter as TeX reads `\\frac43` and `x^2`."""
        token = self._peek()
        if token == "{":
            return self._group("}", depth)
        if token.isdigit() and len(token) > 1:
            self.tokens[-1] = token[1:]
            return float(token[0])
        return self._atom(depth)

    def _group(self, closing: str, depth: int) -> complex:
        self.tokens.pop()
        inner = self.sum(depth + 1)
        self._take(closing)
        return inner

    def _atom(self, depth: int) -> complex:
        if depth > _MAX_DEPTH or not self.tokens:
            raise _Unknown
        token = self._peek()
        if token in ("(", "{"):
            return self._group(")" if token == "(" else "}", depth)
        self.tokens.pop()
        if token[0].isdigit() or token[0] == ".":
            number = float(token.replace(",", ""))
            if self._peek() == "\\frac":  # 1\frac{1}{2} is a mixed number
                return number + self._atom(depth + 1)
            return number
        if token == "\\frac":
            numerator = self._argument(depth + 1)
            return numerator / self._argument(depth + 1)
        if token == "\\sqrt" and self._peek() == "[":
            degree = self._group("]", depth)
            return _raise(self._argument(depth + 1), 1 / degree)
        if token in _FUNCTIONS:
            return self._function(token, depth + 1)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token[0].isalpha() or _GREEK.fullmatch(token):
            name = token.replace("{", "").replace("}", "")
            number = ord(name) if len(name) == 1 else zlib.crc32(name.encode())
            return math.fmod(number * self._point, 1.0) + 0.25
        raise _Unknown

    def _function(self, name: str, depth: int) -> complex:
        exponent: complex = 1
        if name != "\\sqrt" and self._peek() == "^":
            self.tokens.pop()
            exponent = self._argument(depth)
            if exponent == -1:
                raise _Unknown  # an inverse function, not a power
        argument = self._argument(depth) if name == "\\sqrt" else self._function_argument(depth)
        return _FUNCTIONS[name](argument) ** exponent

    def _function_argument(self, depth: int) -> complex:
        """`\\sin 2x` takes the whole product of numbers and variables; a bracket or the next function ends it."""
        if self._peek() in ("(", "{"):
            return self._power(depth)
        result = self._power(depth)
        while (token := self._peek()) and (token == "\\pi" or (len(token) == 1 and token.isalpha())):
            result *= self._power(depth)
        return result
