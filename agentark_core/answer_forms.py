r"""The forms an answer can take: cleaned LaTeX, exact numbers, lists. Only the standard library; nothing is evaluated.

normalise("\\dfrac{1}{2}\\text{ cm}")  -> "\\frac{1}{2}"
parse_number("\\$1,450,000")          -> Number(value=Fraction(1450000), style="integer")
list_items("(1, 4\\sqrt3)")           -> Items(brackets="()", items=["1", "4\\sqrt3"])
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import Literal

Kind = Literal["number", "math", "choice", "text", "free"]
"""A family of rules for answers; answers.KINDS has that of each task."""

MAX_DIGITS = 4_000
"""Longer numerals have no value here: Python's int() is quadratic in their length and stops at 4,300 digits."""

_MAX_DECIMALS = 1_000
"""Later decimals are cut off: answers that loop (0.681818...) have thousands."""

_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))
_REPLACED = (
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\cfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", ""),
    ("\\,", ""), ("\\;", ""), ("\\:", ""), ("\\quad", ""), ("{,}", ","), ("\\$", ""), ("$", ""), ("\\%", "%"),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\degree", ""), ("°", ""), ("−", "-"), ("–", "-"), ("π", "\\pi"),
    ("√", "\\sqrt"),
    ("∞", "\\infty"), ("∪", "\\cup"), ("\\cdot", "*"), ("\\times", "*"), ("×", "*"), ("≤", "\\le"), ("≥", "\\ge"),
    ("\\leq", "\\le"), ("\\geq", "\\ge"), ("\\ ", " "), ("~", " "), ("€", ""), ("£", ""),
    ("\u00a0", " "), ("\u202f", " "),
)  # fmt: skip
_TEXT_MACRO = re.compile(r"\\(?:text|textbf|textit|textnormal|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}")
_UNIT_MACRO = re.compile(r"(?<=[\d})])\s*\\(?:text|textbf|textnormal|mathrm|mbox)\s?\{[^{}]*\}(?:\^\{?[23]\}?)?$")
_BARE_FRAC = re.compile(r"\\frac\s?(\d|\{[^{}]*\})\s?(\d|\{[^{}]*\})")
_BARE_SQRT = re.compile(r"\\sqrt\s?(\d+|\([^()]*\)|[a-z])")
_BRACED = re.compile(r"([_^])\{(\w)\}")
_LETTER_MACRO = re.compile(r"^\\(?:text|textbf|mathrm|mathbf)\s?\{\s?\(?([A-Z])\)?\s?\}$")
_LONE_LETTER = re.compile(r"^\(([A-Z])\)$")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|pi)\b")
_MATRIX = re.compile(r"\\begin\{([pbv]matrix)\}(.*)\\end\{\1\}", re.DOTALL)
_ASSIGNMENT = re.compile(r"^\s*[A-Za-z](?:_\{?\w\}?)?\s*(?:=|\\in\b)\s*(?!.*=)")

_LETTER = re.compile(r"^[\s*_$(\[\"'{]{0,6}(?:\\(?:text|mathrm|mathbf|textbf)\{)?\(?([A-Ha-h])(?:[\s.):,;\]}*_$\"']|$)")

_DECIMAL = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?!\d)|\d+\.\d*|\.\d+|\d+"
_NUMERAL = re.compile(
    rf"(?P<sign>[-+]?)(?P<whole>{_DECIMAL})?(?:\s?\\frac\{{(?P<a>-?\d+)\}}\{{(?P<b>\d+)\}})?"
    r"(?:(?:[eE]|\*10\^\{?)(?P<exponent>-?\d{1,3})\}?)?"
)
_PLAIN = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
_SLASHED = re.compile(r"(?P<sign>[-+]?)(?:(?P<whole>\d+)\s)?\(?(?P<a>\d+)\)?\s?/\s?(?P<b>\d+)")
_UNIT = re.compile(
    r"\s*(?P<percent>%|(?i:percent(?:age)?|pct)\b)?(?:\s*(?P<scale>thousand|million|billion|trillion)\b)?"
    # a unit after a space is a word of three letters or a known sign: `3 xy`, `2b` and `4 sin x` are algebra
    r"(?:(?:\s?(?:[cmk]?m|[mk]?g|[mk]?l|lbs?|ft|oz|in|mph|km/h|m/s|hrs?|mins?|s|h)\b\.?"
    r"|\s+(?!(?:sin|cos|tan|log|exp|mod|max|min)\b)[A-Za-z][A-Za-z'\-/.]{2,30}(?:\s[A-Za-z][A-Za-z'\-/.]{0,30}){0,5})"
    r"(?:\^\{?[23]\}?|[²³])?)?\s*"
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: value for value, word in enumerate(_ONES)} | {word: 10 * value for value, word in enumerate(_TENS, 2)}
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")

Style = Literal["integer", "decimal", "fraction", "mixed", "words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """An exact value and how it was written. `reduced` is False for a fraction not in lowest terms."""

    value: Fraction
    style: Style
    percent: bool = False
    reduced: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The top-level elements of a list; brackets is "", "{}", "()", "[]", "(]", "[)" or, for a matrix, its shape."""

    brackets: str
    items: list[str]


def clean(text: str) -> str:
    """Strip white space, math delimiters, emphasis and the final full stop."""
    text = text.strip()
    if text.isalnum():
        return text
    for _ in range(4):
        before = text
        text = text.strip().rstrip(".,;:").strip().removeprefix("\\displaystyle")
        for left, right in _DELIMITERS:
            if len(text) >= len(left) + len(right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)]
        if text == before:
            break
    return text


def letter(text: str) -> str | None:
    """The choice letter (A-H, upper case) that an answer such as "B", "(b)", "\\text{B}" or "B. Liver" starts with."""
    found = _LETTER.match(text)
    if found is None or (found[1].islower() and len(clean(text)) > 4):
        return None
    return found[1].upper()


def normalise(text: str) -> str:
    """A canonical spelling of a LaTeX answer: equal spellings are equal answers."""
    text = clean(text)
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = _UNIT_MACRO.sub("", text.strip())
    text = _TEXT_MACRO.sub(r"\1", text)
    text = _BARE_FRAC.sub(lambda m: f"\\frac{{{m[1].strip('{}')}}}{{{m[2].strip('{}')}}}", text)
    text = _BARE_SQRT.sub(lambda m: f"\\sqrt{{{m[1].strip('()')}}}", text)
    text = clean(re.sub(r"\s", "", _ASSIGNMENT.sub("", text)))
    return _BRACED.sub(r"\1\2", _LONE_LETTER.sub(r"\1", text))


def latex(text: str) -> str:
    """A one-line LaTeX formula for the parser: no delimiters, no currency, Unicode signs spelled as commands."""
    text = " ".join(clean(text).replace("\\$", "").replace("$", "").split())
    for old, new in (
        ("−", "-"),
        ("–", "-"),
        ("π", "\\pi "),
        ("√", "\\sqrt "),
        ("∞", "\\infty "),
        ("×", "\\times "),
        ("°", ""),
    ):
        text = text.replace(old, new)
    return _BARE_SQRT.sub(lambda m: f"\\sqrt{{{m[1].strip('()')}}}", text)


def formula(text: str) -> str:
    """`latex` without a trailing unit, degree signs, `x =`, a lone letter's macro: what answer_values.py reads."""
    text = _LETTER_MACRO.sub(r"\1", _ASSIGNMENT.sub("", _UNIT_MACRO.sub("", latex(text))))
    if not _TRIGONOMETRIC.search(text):
        text = text.replace("^\\circ", "").replace("^{\\circ}", "")
    return text


@lru_cache(maxsize=64)  # of one case, which asks for both numbers several times
def parse_number(text: str) -> Number | None:
    """The number that the whole text states (units, currency, percent and words allowed), or None."""
    text = clean(text)
    if plain := _PLAIN.fullmatch(text):
        return Number(value=Fraction(text), style="decimal" if plain[1] else "integer")
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = _TEXT_MACRO.sub(
        r" \1", _BARE_FRAC.sub(lambda m: f"\\frac{{{m[1].strip('{}')}}}{{{m[2].strip('{}')}}}", text)
    )
    text = clean(_ASSIGNMENT.sub("", text))
    words = number_words(text.split(" ")[0]) if text[:1].isalpha() else None
    if words is not None and (rest := _UNIT.fullmatch(text, len(text.split(" ")[0]))):
        return Number(value=words * _SCALES.get(rest["scale"], 1), style="words")
    found = _SLASHED.match(text) or _NUMERAL.match(text)
    if found is None or not (rest := _UNIT.fullmatch(text, found.end())):
        return None
    parts = found.groupdict()
    if not parts["whole"] and not parts["a"]:
        return None
    integer, _, decimals = (parts["whole"] or "0").replace(",", "").replace(" ", "").partition(".")
    if max(len(integer), len(parts["a"] or ""), len(parts["b"] or "")) > MAX_DIGITS:
        return None
    value = Fraction(f"{integer or '0'}.{decimals[:_MAX_DECIMALS] or '0'}")
    style: Style = "decimal" if "." in (parts["whole"] or "") else "integer"
    reduced = True
    if parts["a"]:
        numerator, denominator = int(parts["a"]), int(parts["b"])
        if denominator == 0:
            return None
        style = "mixed" if parts["whole"] else "fraction"
        reduced = gcd(numerator, denominator) == 1
        value += Fraction(numerator, denominator)
    if parts.get("exponent"):
        value *= Fraction(10) ** int(parts["exponent"])
    if parts["sign"] == "-":
        value = -value
    value *= _SCALES.get(rest["scale"], 1)
    return Number(value=value, style=style, percent=bool(rest["percent"]), reduced=reduced)


def number_words(word: str) -> Fraction | None:
    """The value of an English number word from zero to ninety-nine."""
    tens, _, ones = word.lower().partition("-")
    if tens not in _WORDS or (ones and not (tens in _TENS and ones in _ONES[1:10])):
        return None
    return Fraction(_WORDS[tens] + (_WORDS[ones] if ones else 0))


def list_items(text: str) -> Items | None:
    """Elements of "1, -3", "\\{1, 2\\}", "(3, \\pi)" or "[0, 1)"; None if there is no top-level comma."""
    text = _TEXT_MACRO.sub(r"\1", clean(text))
    for old, new in (
        ("\\left", ""),
        ("\\right", ""),
        ("\\{", "{"),
        ("\\}", "}"),
        ("{,}", ""),
        (",\\!", ""),
        (" and ", ","),
        (" or ", ","),
    ):
        text = text.replace(old, new)
    if matrix := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in matrix[2].split("\\\\") if row.strip()]
        return Items(brackets=f"{[len(row) for row in rows]}", items=[item.strip() for row in rows for item in row])
    brackets = ""
    if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}" and _closes_at_end(text):
        brackets, text = text[0] + text[-1], text[1:-1]
    items, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char in ",;" and depth == 0:
            items.append(text[start:position].strip())
            start = position + 1
    items.append(text[start:].strip())
    items = [item for item in items if item]
    return Items(brackets=brackets, items=items) if len(items) > 1 else None


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return position == len(text) - 1
    return False


def right_side(text: str) -> str:
    """What an equation such as `6 * 7 = 42 \\approx 40` says: the exact side after its last `=`. Lists stay whole."""
    if "," in text or ";" in text:
        return text
    exact, _, rounded = text.replace("\\approx", "≈").partition("≈")
    if "=" not in exact and not re.search(r"\d", exact):
        return rounded.strip() or text
    return re.split(r"(?<![<>!])=", exact)[-1].strip() or text


def plain_text(text: str) -> str:
    """Short text without case, accents' encoding, articles, punctuation and repeated spaces."""
    text = unicodedata.normalize("NFKC", _TEXT_MACRO.sub(r"\1", clean(text))).casefold()
    text = "".join(char if char.isalnum() or char.isspace() else " " for char in text)
    return " ".join(_ARTICLES.sub(" ", text).split())
