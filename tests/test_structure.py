"""Operations and intermediate values read from traces as models write them, and distances between them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentark_core.structure import operation_distance, operations, text_distance

OPERATIONS = [
    ("48/2 = 24 clips in May. Altogether 48 + 24 = 72.", (("/", "24"), ("+", "72"))),
    ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.", (("/", "24"),)),
    (r"so $\frac{48}{2} = 24$ and $48 \times 24 = 1{,}152$", (("/", "24"), ("*", "1152"))),
    (r"\[ 3 \cdot 4 + 5 = 17 \]", (("*+", "17"),)),
    ("$5 x 3 = $15.00", (("*", "15"),)),
    ("12 eggs - 3 eggs - 4 eggs = 5 eggs", (("--", "5"),)),
    ("(2 + 3) * 4 = 5 * 4 = 20", (("*", "20"),)),
    ("20% * 50 = 10", (("*", "10"),)),
    ("Step 2: 7 - 9 = -2", (("-", "-2"),)),
    ("x = 5, so y = 7", ()),
    ("The answer is B.", ()),
    ("", ()),
    ("½ + ½ = 1", ()),
    ("-3 + 5 = 2", (("+", "2"),)),
    ("a + 5 = 7", ()),
    ("5 apples and 3 + 4 = 7", (("+", "7"),)),
]


@pytest.mark.parametrize(("text", "expected"), OPERATIONS)
def test_operations(text: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert operations(text) == expected


def test_distances_by_hand() -> None:
    a, b, c = ("+", "1"), ("-", "2"), ("*", "3")
    assert operation_distance([a, b, c], [a, b, c]) == 0
    assert operation_distance([a, b, c], [a, c]) == pytest.approx(1 / 3)
    assert operation_distance([a, b], [b, a]) == 0.5, "order counts"
    assert operation_distance([a], []) == 1
    assert operation_distance([], []) == 0
    assert text_distance("The cat sat.", "the cat, SAT") == 0
    assert text_distance("one two three", "one two four") == pytest.approx(1 - 1 / 3)


@given(st.text(), st.text())
def test_distances_are_symmetric_within_0_and_1_and_zero_to_itself(one: str, other: str) -> None:
    a, b = operations(one), operations(other)
    assert operation_distance(a, b) == operation_distance(b, a) and 0 <= operation_distance(a, b) <= 1
    assert text_distance(one, other) == text_distance(other, one) and 0 <= text_distance(one, other) <= 1
    assert operation_distance(a, a) == text_distance(one, one) == 0


HOSTILE = [
    "1+" * 10_000,
    "1 a b " * 5_000,
    "((((" * 5_000,
    "9" * 20_000,
    "1 = " * 5_000,
    "\\frac{" * 4_000,
    "1,1" * 7_000,
]


@pytest.mark.parametrize(
    "text", [*HOSTILE, *(text + "=1" for text in HOSTILE), "-1-1" * 5_000, "$1$" * 9_000, "1 + 2 = " * 3_000]
)
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    start = time.process_time()
    operations(text)
    assert time.process_time() - start < 1
