r"""Verdicts by rules: is the final answer of a response right? The reasoning is never read.

    verify_fast("... \\boxed{1,200}", gold="1200", task="gsm8k")
        -> Verdict(label="correct", method="number", extracted="1,200")

Two stages. The fast path decides numbers, choice letters, lists and equal spellings in microseconds. What is left goes
as two short formulas to killable children (verify_pool.py) where Math-Verify decides. `undecided` is never counted as
wrong: its method is "timeout", "memory", "too_large" (refused before any algebra) or "unparsed".

Form counts where the question or the convention of MATH makes it part of the answer: see `form_fault`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from agentark_core.answer_forms import (
    Items,
    Number,
    formula,
    latex,
    list_items,
    normalise,
    parse_number,
    plain_text,
    right_side,
)
from agentark_core.answer_values import differ, value
from agentark_core.answers import Kind, equivalent, extract, kind_of, letter
from agentark_core.types import Verdict
from agentark_core.verify_pool import Outcome, WorkerPool

VERIFIER_VERSION = "rules-1"
"""Changes with the rules: part of the verdicts' fingerprint."""

MAX_FORMULA = 1_500
"""Characters of an answer that algebra is tried on."""

_TOLERANCE = Fraction(1, 10**6)
"""Relative to min(1, |gold|), for decimals only: Math-Verify compares to six places as well."""

_MAX_ITEMS = 40
_MAX_CACHED = 100_000
_TOO_LARGE = re.compile(
    r"\^\s?\{?\s?-?\s?\d[\d,. ]{4,}"  # an exponent of five digits
    r"|\^\s?\{?\s?-?[\d.]{1,9}\s?\}?\s?\^"  # a tower of numbers
    r"|\^\s?\{[^{}]{0,40}\d\s?\^"
    r"|\^\s?\{[^{}]{0,40}\^\s?\{[^{}]{0,40}\^"
    r"|\)\s?\^\s?\{?\s?\d{3,}"  # a power of a sum or of a power
    r"|\d{4,}\s?\}?\s?!|!\s?!|\)\s?!|!\s?\^"
    r"|\\(?:int|sum|prod|lim)(?![a-z])|matrix\}\s?\^"
    r"|\\[dt]?binom\s?\{?\s?(?:\d{5,}|\d+\s?\^|[^{}]{0,40}\^)"
    r"|\d{200,}"
)
_STARS = re.compile(r"(?<=[\d)])\s?\*\*\s?(?=[\d(-])")
_OPERATION = re.compile(r"\\[a-zA-Z]+|[-+*/^=]")
_SYMBOL = re.compile(r"[\d\\^_+*/=<>(){}\[\]|]")
_TWO_LETTERS = re.compile(r"[A-Za-z]{2}")
_OPTION = re.compile(r"^\s{0,3}\(?([A-J])[.):]\s{0,3}([^\n]{1,400})$", re.MULTILINE)
_COMMON_FRACTION = re.compile(r"\b(?:common|improper|simplified|reduced|proper) fraction|as a fraction", re.IGNORECASE)
_SIMPLIFY = re.compile(r"\bsimplify\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One response to verify. question is used for the options of a choice and the form it asks for."""

    response: str
    gold: str
    task: str
    question: str = ""


def verify_fast(response: str, *, gold: str, task: str, question: str = "") -> Verdict | None:
    """A verdict without algebra, or None if algebra is needed. Raises DataError on an unknown task."""
    kind = kind_of(task)
    answer, gold = _answer_and_gold(response, gold=gold, task=task)
    if answer is None:
        return Verdict(label="incorrect", method="no_answer", extracted=None, reason="no final answer found")
    if kind == "choice":
        return _verify_choice(answer, gold=gold, question=question)
    if kind == "text":
        return _verdict(plain_text(answer) == plain_text(gold), method="text", answer=answer)
    return _verify_value(answer, gold=gold, kind=kind, task=task, question=question)


def form_fault(answer: str, *, gold: str, question: str) -> str:
    """Why an answer of the right value has the wrong form, or "".

    A fraction must be in lowest terms if the gold is such a fraction; where the question asks for a fraction, a decimal is not one;
    where it says "simplify", a result of more than twice the gold's operations is not simplified (the expression of the
    question itself always has the right value).
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


def _answer_and_gold(response: str, *, gold: str, task: str) -> tuple[str | None, str]:
    """Both as compared: the answer in a gold that is a whole solution (`... #### 72`, `\\boxed{72}`), and only the right
    side of an answer that is an equation where the gold is none."""
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
        return _verdict(True, method="choice", answer=answer)
    if chosen is None or right is None:
        reason = "the answer names no option" if chosen is None else "the gold names no option"
        return Verdict(label="undecided", method="choice", extracted=answer, reason=reason)
    return _verdict(chosen == right, method="choice", answer=chosen)


def _verify_value(answer: str, *, gold: str, kind: Kind, task: str, question: str) -> Verdict | None:
    number, gold_number = parse_number(answer), parse_number(gold)
    if number and gold_number:
        if not _same_number(number, gold=gold_number):
            return _verdict(False, method="number", answer=answer)
        return _correct_if_formed(answer, gold=gold, question=question, method="number")
    if kind == "number" and gold_number is None and "\\" not in gold and " " in gold.strip():
        verdict = _verdict(plain_text(answer) == plain_text(gold), method="gold_text", answer=answer)
        return Verdict(
            label=verdict.label, method="gold_text", extracted=answer, reason="the gold is no number: compared as text"
        )
    if normalise(answer) == normalise(gold) and normalise(gold):
        return _correct_if_formed(answer, gold=gold, question=question, method="same_text")
    if equivalent(answer, gold, task=task):
        return _correct_if_formed(answer, gold=gold, question=question, method="list")
    words, gold_words = _only_words(answer), _only_words(gold)
    if (words and (gold_words or gold_number)) or (gold_words and number):
        return _verdict(words and gold_words and plain_text(answer) == plain_text(gold), method="text", answer=answer)
    same = _same_values(answer, gold=gold)
    if same is not None:
        if not same:
            return _verdict(False, method="value", answer=answer)
        return _correct_if_formed(answer, gold=gold, question=question, method="value")
    if _too_large(answer) or _too_large(gold):
        return Verdict(
            label="undecided", method="too_large", extracted=answer[:200], reason="too large to evaluate safely"
        )
    return None


def _same_number(number: Number, *, gold: Number) -> bool:
    """Equal values; a percent sign that only one side has may be a unit (40% for 40) or a factor (40% for 0.4)."""
    values = [number.value]
    if number.percent != gold.percent:
        values.append(number.value / 100 if number.percent else number.value * 100)
    slack = _TOLERANCE * min(Fraction(1), abs(gold.value)) if "decimal" in (number.style, gold.style) else Fraction(0)
    return any(abs(value - gold.value) <= slack for value in values)


def _correct_if_formed(answer: str, *, gold: str, question: str, method: str) -> Verdict:
    fault = form_fault(answer, gold=gold, question=question)
    if fault:
        return Verdict(label="incorrect", method="form", extracted=answer, reason=fault)
    return _verdict(True, method=method, answer=answer)


def _verdict(correct: bool, *, method: str, answer: str) -> Verdict:
    return Verdict(label="correct" if correct else "incorrect", method=method, extracted=answer)


def _only_words(text: str) -> bool:
    text = normalise(text) if "\\" in text else text
    return _SYMBOL.search(text) is None and _TWO_LETTERS.search(text) is not None


def _same_values(answer: str, *, gold: str) -> bool | None:
    """Equality by numeric values, element by element; None if some element has no value or the brackets differ."""
    items, gold_items = (list_items(text) or Items(brackets="", items=[text]) for text in (answer, gold))
    if len(items.items) + len(gold_items.items) > _MAX_ITEMS:
        return None
    values, gold_values = ([formula(item) for item in items.items], [formula(item) for item in gold_items.items])
    if not all(value(text, point=0.5) is not None for text in values + gold_values):
        return None
    brackets, gold_brackets = items.brackets.strip("{}"), gold_items.brackets.strip("{}")
    if len(gold_values) == 1 and not brackets:  # the same value in several spellings, or a list that is not the gold
        return _all_or_none([differ(text, gold_values[0]) for text in values])
    if len(values) != len(gold_values):
        return False if not brackets and not gold_brackets else None
    if brackets != gold_brackets:
        return None
    if brackets or len(values) == 1:
        return _all_or_none([differ(a, b) for a, b in zip(values, gold_values, strict=True)])
    return _all_or_none(
        [_matches_none(a, gold_values) for a in values] + [_matches_none(b, values) for b in gold_values]
    )


def _matches_none(text: str, others: Sequence[str]) -> bool | None:
    """True if no other formula can equal this one, False if one does, None if that is open."""
    differences = [differ(text, other) for other in others]
    if False in differences:
        return False
    return None if None in differences else True


def _all_or_none(differences: Sequence[bool | None]) -> bool | None:
    """Equal if nothing differs, different if anything does, else open."""
    if True in differences:
        return False
    return None if None in differences else True


def _too_large(text: str) -> bool:
    """Whether evaluating the formula could take more than the limits: refused at once, so that a few hostile answers
    do not slow the ordinary ones down. The limits of the children remain for what this misses."""
    return len(text) > MAX_FORMULA or bool(_TOO_LARGE.search(_STARS.sub("^", text)))


class Verifier:
    """Verifies many cases: fast path first, children for the rest, started only when something is left for them.

    One verdict per distinct (gold, answer) pair is computed and kept, so repeated answers cost nothing.
    """

    def __init__(self, *, workers: int, time_limit_s: float = 2.0, memory_limit_bytes: int = 2**30) -> None:
        self.pool = WorkerPool(workers=workers, time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes)
        self._known: dict[tuple[str, str], Outcome] = {}

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def verify_many(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict per case, in order. Raises DataError on an unknown task."""
        verdicts = [verify_fast(c.response, gold=c.gold, task=c.task, question=c.question) for c in cases]
        left: dict[int, tuple[str, str]] = {}
        for index, (case, verdict) in enumerate(zip(cases, verdicts, strict=True)):
            if verdict is None:
                answer, gold = _answer_and_gold(case.response, gold=case.gold, task=case.task)
                left[index] = (latex(gold), latex(answer or ""))
        if len(self._known) > _MAX_CACHED:
            self._known.clear()
        new = [pair for pair in dict.fromkeys(left.values()) if pair not in self._known]
        self._known.update(zip(new, self.pool.compare(new), strict=True))
        for index, pair in left.items():
            verdicts[index] = _from_outcome(self._known[pair], case=cases[index])
        return [verdict for verdict in verdicts if verdict is not None]


def _from_outcome(outcome: Outcome, *, case: Case) -> Verdict:
    found, gold = _answer_and_gold(case.response, gold=case.gold, task=case.task)
    answer = found or ""
    if outcome == "equal":
        return _correct_if_formed(answer, gold=gold, question=case.question, method="math_verify")
    if outcome == "different":
        return _verdict(False, method="math_verify", answer=answer)
    reasons = {"timeout": "time limit", "memory": "memory limit", "unparsed": "no formula that the parser reads"}
    return Verdict(label="undecided", method=outcome, extracted=answer, reason=reasons[outcome])
