r"""Equality of lists, tuples, matrices and unions of intervals by the values of their elements (answer_values.py).

    same_values("1 \\pm 2", "3, -1") -> True      same_values("(1, 2)", "(2, 1)") -> False
    same_values("[0,1] \\cup [1,2]", "[0,2]") -> True      same_values("(1,2)", "\\{1,2\\}") -> None: ask the algebra

"Different" is said wherever no reading of the brackets makes the two equal; "equal" only where the reading is plain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentark_core.answer_forms import Items, formula, list_items
from agentark_core.answer_values import differ, value

_MAX_ITEMS = 40
_MAX_NESTING = 3
_CLOSE = 1e-9
_THOUSANDS = re.compile(r"\(?\d{1,3}(?:,\s?\d{3})+\)?")
_SEMICOLON = re.compile(r"(?<!\\);")
_INTERVALS = ("()", "[]", "(]", "[)")


def same_values(answer: str, gold: str) -> bool | None:
    """Whether both state the same values, or None if that is open."""
    different = _differ(answer, gold, nesting=0)
    return None if different is None else not different


def _differ(answer: str, gold: str, *, nesting: int) -> bool | None:
    """True if certainly different, False if equal, None if open."""
    if any(_SEMICOLON.search(text) and "," in text for text in (answer, gold)):
        return None  # `p=5,q=2; p=7,q=2`: which separator divides the elements is open
    if "\\cup" in answer or "\\cup" in gold:
        return _unions_differ(answer, gold)
    items, gold_items = _items(answer), _items(gold)
    if len(items.items) == len(gold_items.items) == 1:
        return differ(formula(items.items[0]), formula(gold_items.items[0]))
    leaves = [_leaves(text, nesting=nesting) for text in items.items + gold_items.items]
    if None in leaves or sum(filter(None, leaves)) > _MAX_ITEMS:
        return None
    brackets, gold_brackets = items.brackets.strip("{}"), gold_items.brackets.strip("{}")
    single, other = (answer, gold) if len(items.items) == 1 else (gold, answer)
    if (brackets or gold_brackets) and 1 in (len(items.items), len(gold_items.items)):
        # a pair, a point or a matrix is no single number; `(1,234)` may be one
        return None if _THOUSANDS.fullmatch(other.strip()) or value(formula(single), point=0.5) is None else True

    def compare(a: str, b: str) -> bool | None:
        return _differ(a, b, nesting=nesting + 1)

    pairs = [[compare(a, b) for b in gold_items.items] for a in items.items]
    if len(gold_items.items) == 1:  # the same value in several spellings, or a list that is not the gold
        return _all_or_none([row[0] for row in pairs])
    if len(items.items) != len(gold_items.items) and not brackets and not gold_brackets:
        return True
    if brackets and brackets == gold_brackets and len(items.items) == len(gold_items.items):
        return _all_or_none([row[index] for index, row in enumerate(pairs)])
    unmatched = _all_or_none([_matches_none(row) for row in [*pairs, *zip(*pairs, strict=True)]])
    return unmatched if unmatched or brackets == gold_brackets == "" else None


def _items(text: str) -> Items:
    """The elements of a list; `a \\pm b` outside a pair is two of them."""
    items = list_items(text) or Items(brackets="", items=[text])
    if items.brackets not in ("", "{}"):
        return items
    split = []
    for item in items.items:
        signs = item.count("\\pm")
        split += [item.replace("\\pm", sign) for sign in ("+", "-")] if signs == 1 else [item]
    return Items(brackets=items.brackets, items=split)


def _leaves(text: str, *, nesting: int) -> int | None:
    """The number of elements with a value, down to the nested ones; None if one has none."""
    if value(formula(text), point=0.5) is not None:
        return 1
    items = list_items(text) if nesting < _MAX_NESTING else None
    if items is None or len(items.items) > _MAX_ITEMS:
        return None
    leaves = [_leaves(item, nesting=nesting + 1) for item in items.items]
    return None if None in leaves else sum(filter(None, leaves))


def _matches_none(differences: Sequence[bool | None]) -> bool | None:
    """True if no other element can equal this one, False if one does, None if that is open."""
    if False in differences:
        return False
    return None if None in differences else True


def _all_or_none(differences: Sequence[bool | None]) -> bool | None:
    """Equal if nothing differs, different if anything does, else open."""
    if True in differences:
        return True
    return None if None in differences else False


_Span = tuple[float, bool, float, bool]
"""Left end, whether it belongs to the interval, right end, whether that belongs to it."""


def _unions_differ(answer: str, gold: str) -> bool | None:
    """Two unions of intervals, or one and a single value."""
    spans, gold_spans = _union(answer), _union(gold)
    if spans is None or gold_spans is None:
        single = answer if gold_spans else gold
        return True if (spans or gold_spans) and value(formula(single), point=0.5) is not None else None
    if len(spans) != len(gold_spans):
        return True
    return any(
        (a[1], a[3]) != (b[1], b[3]) or not (_near(a[0], b[0]) and _near(a[2], b[2]))
        for a, b in zip(spans, gold_spans, strict=True)
    )


def _union(text: str) -> list[_Span] | None:
    """The disjoint intervals of `[0,1) \\cup \\{2\\}`, in order; None if an end is no fixed real number."""
    spans: list[_Span] = []
    for part in formula(text).split("\\cup")[: _MAX_ITEMS + 1]:
        part = part.replace("\\left", "").replace("\\right", "").replace("\\{", "{").replace("\\}", "}").strip()
        brackets, ends = part[:1] + part[-1:], [_real(end) for end in part[1:-1].split(",")]
        if brackets == "{}" and len(ends) == 1:
            brackets, ends = "[]", ends * 2
        left, right = (ends[0], ends[-1]) if len(ends) == 2 else (None, None)
        if brackets not in _INTERVALS or left is None or right is None or left > right:
            return None
        spans.append((left, brackets[0] == "[", right, brackets[1] == "]"))
    if len(spans) > _MAX_ITEMS:
        return None
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span[0], not span[1])):
        last = merged[-1] if merged else None
        touching = last is not None and _near(last[2], span[0])
        if last is None or (span[0] > last[2] and not touching) or (touching and not (last[3] or span[1])):
            merged.append(span)
            continue
        right, closed = max((last[2], last[3]), (span[2], span[3]))
        merged[-1] = (last[0], last[1], right, closed)
    return merged


def _real(text: str) -> float | None:
    """The value of a formula without variables."""
    one, two = (value(formula(text), point=point) for point in (0.5, 0.7))
    return one.real if one is not None and one == two and one.imag == 0 else None


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= _CLOSE * max(1.0, abs(a), abs(b))
