"""The structural selector, on traces written by hand and by property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentark_core.diverse import MIN_OPERATIONS, diverse
from agentark_core.structure import operation_distance, operations

SUM_FIRST = "3 + 4 = 7. Then 7 * 2 = 14."
SUM_FIRST_IN_OTHER_WORDS = "First add: 3 + 4 = 7, and doubling gives 7 * 2 = 14, which is it."
DOUBLE_FIRST = "3 * 2 = 6 and 4 * 2 = 8, together 6 + 8 = 14."
COUNTED = "2 + 2 = 4; 4 + 4 = 8; 8 + 6 = 14."


def test_the_first_trace_stays_and_other_words_are_no_other_structure() -> None:
    assert diverse([SUM_FIRST, SUM_FIRST_IN_OTHER_WORDS, DOUBLE_FIRST], limit=3) == [0, 2]
    assert diverse([SUM_FIRST_IN_OTHER_WORDS, SUM_FIRST], limit=3) == [0]
    assert diverse([SUM_FIRST, DOUBLE_FIRST, COUNTED], limit=2)[0] == 0
    assert diverse([], limit=3) == []


def test_without_operations_the_words_decide() -> None:
    nerve = "The facial nerve passes through the parotid gland, so the answer is B."
    other = "Facial palsy after surgery of a salivary gland points at the seventh cranial nerve. The answer is B."
    assert diverse([nerve, nerve.replace("passes", "runs"), other], limit=3) == [0, 2]


TRACE = st.lists(st.sampled_from(["1 + 2 = 3.", "2 * 3 = 6.", "9 - 4 = 5.", "8 / 4 = 2.", "so it is"]), max_size=6).map(
    " ".join
)


@given(st.lists(TRACE, max_size=8), st.integers(1, 4))
def test_choices_are_distinct_within_the_limit_and_structurally_apart(traces: list[str], limit: int) -> None:
    chosen = diverse(traces, limit=limit)
    assert len(chosen) == len(set(chosen)) <= limit and (not traces or chosen[0] == 0)
    for position, one in enumerate(chosen):
        for other in chosen[:position]:
            a, b = operations(traces[one]), operations(traces[other])
            assert operation_distance(a, b) >= MIN_OPERATIONS or not (a or b)
    assert diverse(traces, limit=limit) == chosen
