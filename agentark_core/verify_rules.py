r"""Verdicts by rules: is the final answer of a response right? The reasoning is never read.

    verify_fast("... \\boxed{1,200}", gold="1200", task="gsm8k")
        -> Verdict(label="correct", method="number", extracted="1,200")

The fast path: numbers, choice letters, lists and equal spellings, in microseconds. None means that algebra is needed
(verify.py). Formulas too large to evaluate are refused here, "undecided", before any algebra.

Form counts where the question or the convention of MATH makes it part of the answer: see `form_fault`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from agentark_core.answer_forms import (
    Kind,
    Number,
    latex,
    letter,
    normalise,
    parse_number,
    plain_text,
    right_side,
)
from agentark_core.answer_lists import same_values
from agentark_core.answers import equivalent, extract, kind_of
from agentark_core.types import Verdict

MAX_FORMULA = 1_500
"""Characters of an answer that algebra is tried on."""

_TOLERANCE = Fraction(1, 10**6)
"""Relative to min(1, |gold|), for decimals only: Math-Verify compares to six places as well."""

_MAX_DEPTH = 10
"""Of brackets: the LaTeX parser takes a second for ten that hold nothing else, ten for forty. Recorded answers: 4."""

_TOO_LARGE = re.compile(
    r"\^\s?\{?\s?-?\s?\d[\d,. ]{4,}"  # an exponent of five digits
    r"|\^\s?\{?\s?-?[\d.]{1,9}\s?\}?\s?\^"  # a tower of numbers
    r"|\^\s?\{[^{}]{0,40}\d\s?\^"
    r"|\^\s?\{[^{}]{0,40}\^\s?\{[^{}]{0,40}\^"
    r"|\)\s?\^\s?\{?\s?\d{3,}"  # a power of a sum or of a power
    r"|\d{4,}\s?\}?\s?!|!\s?!|\)\s?!|!\s?\^"
    r"|\\(?:int|sum|prod|lim)(?![a-z])|matrix\}\s?\^"
    r"|\\[dt]?binom\s?\{?\s?(?:\d{5,}|\d+\s?\^|[^{}]{0,40}\^)"
    r"|\d{200,}|[A-Za-z]{60,}"
)
_STARS = re.compile(r"(?<=[\d)])\s?\*\*\s?(?=[\d(-])")
_OPERATION = re.compile(r"\\[a-zA-Z]+|[-+*/^=]")
_SYMBOL = re.compile(r"[\d\\^_+*/=<>(){}\[\]|]")
_PROGRAM = re.compile(r"__[A-Za-z]{2,20}__")  # no formula has two subscripts in a row
_TWO_LETTERS = re.compile(r"[A-Za-z]{2}")
_OPTION = re.compile(r"^\s{0,3}\(?([A-H])[.):]\s{0,3}([^\n]{1,400})$", re.MULTILINE)
_COMMON_FRACTION = re.compile(r"\b(?:common|improper|simplified|reduced|proper) fraction|as a fraction", re.IGNORECASE)
_SIMPLIFY = re.compile(r"\bsimplify\b", re.IGNORECASE)


def verify_fast(response: str, *, gold: str, task: str, question: str = "") -> Verdict | None:
    """A verdict without algebra, or None if algebra is needed. Raises DataError on an unknown task."""
    kind = kind_of(task)
    answer, gold = answer_and_gold(response, gold=gold, task=task)
    if answer is None:
        return Verdict(label="incorrect", method="no_answer", extracted=None, reason="no final answer found")
    if kind == "free":
        return Verdict(label="undecided", method="free_text", extracted=answer, reason="prose has scores, no verdict")
    if kind == "choice":
        return _verify_choice(answer, gold=gold, question=question)
    if kind == "text":
        return verdict(plain_text(answer) == plain_text(gold), method="text", answer=answer)
    return _verify_value(answer, gold=gold, kind=kind, task=task, question=question)


def form_fault(answer: str, *, gold: str, question: str) -> str:
    """Why an answer of the right value has the wrong form, or "".

    A fraction must be in lowest terms if the gold is such a fraction; where the question asks for a fraction, a decimal
    is not one; where it says "simplify", a result of more than twice the gold's operations is not simplified (the
    expression of the question itself always has the right value).
    """
    number, gold_number = parse_number(answer), parse_number(gold)
    if number and gold_number and gold_number.style == "fraction" and gold_number.reduced and not number.reduced:
        return "the fraction is not in lowest terms"
    if _COMMON_FRACTION.search(question) and "frac" in gold and "frac" not in answer and re.search(r"\d\.\d", answer):
        return "the question asks for a fraction"
    if _SIMPLIFY.search(question) and not number:
        operations, gold_operations = (len(_OPERATION.findall(latex(text))) for text in (answer, gold))
        if operations > 2 * gold_operations + 2:
            return "the expression is not simplified"
    return ""


def answer_and_gold(response: str, *, gold: str, task: str) -> tuple[str | None, str]:
    """Both as compared: of a gold that is a whole solution (`... #### 72`, `\\boxed{72}`) its answer, of an answer that
    is an equation where the gold is none the right side."""
    if kind_of(task) == "free":
        return extract(response, task=task), gold
    if "\\boxed" in gold or "####" in gold or "\n" in gold:
        gold = extract(gold, task=task) or gold
    answer = extract(response, task=task)
    if answer is not None and kind_of(task) in ("number", "math") and "=" not in gold:
        answer = right_side(answer)
    return answer, gold


def _verify_choice(answer: str, *, gold: str, question: str) -> Verdict:
    options = {plain_text(text): option for option, text in _OPTION.findall(question)}
    chosen = letter(answer) or options.get(plain_text(answer))
    right = letter(gold) or options.get(plain_text(gold))
    if chosen is None and plain_text(answer) == plain_text(gold):
        return verdict(True, method="choice", answer=answer)
    if chosen is None or right is None:
        reason = "the answer names no option" if chosen is None else "the gold names no option"
        return Verdict(label="undecided", method="choice", extracted=answer, reason=reason)
    return verdict(chosen == right, method="choice", answer=chosen)


def _verify_value(answer: str, *, gold: str, kind: Kind, task: str, question: str) -> Verdict | None:
    if len(answer) > 4 * (len(gold) + MAX_FORMULA):
        return _refused(answer)
    number, gold_number = parse_number(answer), parse_number(gold)
    if number and gold_number:
        if not _same_number(number, gold=gold_number):
            return verdict(False, method="number", answer=answer)
        return correct_if_formed(answer, gold=gold, question=question, method="number")
    if kind == "number" and gold_number is None and "\\" not in gold and " " in gold.strip():
        same = verdict(plain_text(answer) == plain_text(gold), method="gold_text", answer=answer)
        return Verdict(
            label=same.label, method="gold_text", extracted=answer, reason="the gold is no number: compared as text"
        )
    if normalise(answer) == normalise(gold) and normalise(gold):
        return correct_if_formed(answer, gold=gold, question=question, method="same_text")
    if equivalent(answer, gold, task=task):
        return correct_if_formed(answer, gold=gold, question=question, method="list")
    words, gold_words = _only_words(answer), _only_words(gold)
    if (words and (gold_words or gold_number)) or (gold_words and number):
        return verdict(words and gold_words and plain_text(answer) == plain_text(gold), method="text", answer=answer)
    if _PROGRAM.search(answer) and not _PROGRAM.search(gold):
        return verdict(False, method="text", answer=answer)
    agree = same_values(answer, gold)
    if agree is not None:
        if not agree:
            return verdict(False, method="value", answer=answer)
        return correct_if_formed(answer, gold=gold, question=question, method="value")
    return _refused(answer) if _too_large(answer) or _too_large(gold) else None


def _refused(answer: str) -> Verdict:
    return Verdict(label="undecided", method="too_large", extracted=answer[:200], reason="too large to evaluate safely")


def _same_number(number: Number, *, gold: Number) -> bool:
    """Equal values; a percent sign that only one side has may be a unit (40% for 40) or a factor (40% for 0.4)."""
    values = [number.value]
    if number.percent != gold.percent:
        values.append(number.value / 100 if number.percent else number.value * 100)
    slack = _TOLERANCE * min(Fraction(1), abs(gold.value)) if "decimal" in (number.style, gold.style) else Fraction(0)
    return any(abs(value - gold.value) <= slack for value in values)


def correct_if_formed(answer: str, *, gold: str, question: str, method: str) -> Verdict:
    """The verdict on an answer of the right value: correct unless `form_fault` finds something."""
    fault = form_fault(answer, gold=gold, question=question)
    if fault:
        return Verdict(label="incorrect", method="form", extracted=answer, reason=fault)
    return verdict(True, method=method, answer=answer)


def verdict(correct: bool, *, method: str, answer: str) -> Verdict:
    """A decided verdict on an extracted answer."""
    return Verdict(label="correct" if correct else "incorrect", method=method, extracted=answer)


def _only_words(text: str) -> bool:
    text = normalise(text) if "\\" in text else text
    return _SYMBOL.search(text) is None and _TWO_LETTERS.search(text) is not None


def _too_large(text: str) -> bool:
    """Whether evaluating the formula could take more than the limits: refused at once, so that a few hostile answers
    do not slow the ordinary ones down. The limits of the children remain for what this misses."""
    return len(text) > MAX_FORMULA or _depth(text) > _MAX_DEPTH or bool(_TOO_LARGE.search(_STARS.sub("^", text)))


def _depth(text: str) -> int:
    """How deep brackets nest; those that never close count as well."""
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}" and depth > 0)
        deepest = max(deepest, depth)
    return deepest
