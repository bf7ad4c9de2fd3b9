"""Extraction and cheap equality of answers: tables of texts, and properties on arbitrary text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentark_core.answer_forms import letter, list_items, normalise, parse_number, right_side
from agentark_core.answer_lists import same_values
from agentark_core.answer_values import differ
from agentark_core.answers import KINDS, MAX_TEXT, equivalent, extract, group
from agentark_core.errors import DataError

EXTRACTED = [
    ("gsm8k", "She has 3 + 4 = 7 eggs.\n#### 7", "7"),
    ("gsm8k", "... so $<<2*9=18>>18 a day.\nA: 18", "18"),
    ("gsm8k", "Step 9: #### 1,350\nStep 10: The answer is: 1,350", "1,350"),
    ("gsm8k", "So it costs $\\boxed{\\$1,450,000}$.", "\\$1,450,000"),
    ("gsm8k", "Thus, he is on the \\(\\boxed{21}\\)st floor.", "21"),
    ("gsm8k", "It takes \\boxed{12 hours}.", "12 hours"),
    ("gsm8k", "20 + 14 = 34 hours. So she spends 34 hours on practice in 4 weeks.", "34"),
    ("gsm8k", "Therefore, the cost will be \\$324.", "\\$324"),
    ("gsm8k", "```output\n3.0\n```\nThree trucks will be needed for 80 stones in one trip.", "3"),
    ("gsm8k", "I do not know.", None),
    ("number", "\\boxed{x = 12.5}", "x = 12.5"),
    ("math", "so $\\boxed{\\frac{1}{2}}$ and then $\\boxed{\\text{even}}$.", "\\text{even}"),
    ("math", "\\boxed{\\boxed{7}}", "7"),
    ("math", "$\\boxed{2}$ and $\\boxed{3}$", "2, 3"),
    ("math", "\\boxed{9}. Wait, no.\n\nThe answer is: 10.", "10"),
    ("math", "\\boxed{9}. We check our answer: $3 \\cdot 3 = 9$, so the answer is correct.", "9"),
    ("math", "Final Answer: The volume of $ABCD$ is 120. I hope it is correct.", "120"),
    ("math", "Final Answer: The final answer is $-12+15i$. I hope it is correct.", "-12+15i"),
    ("math", "Therefore, facing **west**.", "west"),
    ("math", "So $x = 14$ and $y = 15$.", "x = 14, y = 15"),
    ("math", "we stop at \\boxed{12", None),
    ("medmcqa", '{"step_by_step_thinking": "B or C?", "answer_choice": "C"}', "C"),
    ("medmcqa", '{"answer_choice": "D. Hurler syndrome" }', "D"),
    ("medmcqa", '{\\"answer_choice\\": \\"B\\"}', "B"),
    ("medmcqa", "{'answer_choice': A}", "A"),
    ("choice", "The correct answer is (B).", "B"),
    ("choice", "I think that a lesion is likely, and so I choose\n\nC) Liver", "C"),
    ("choice", "**Answer:** \\boxed{\\text{A}}", "A"),
    ("choice", "b", "B"),
    ("text", "Thinking...\nThe answer is The Beatles.", "The Beatles"),
]


@pytest.mark.parametrize(("task", "text", "expected"), EXTRACTED)
def test_the_last_stated_answer_is_extracted(task: str, text: str, expected: str | None) -> None:
    assert extract(text, task=task) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,450,000", 1450000), ("\\$36", 36), ("50,\\!625", 50625), ("10{,}000", 10000), ("40.0\\%", 40), (".5", 0.5),
        ("1\\frac{9}{10}", 1.9), ("1 9/10", 1.9), ("-\\dfrac{1}{4}", -0.25), ("\\frac43", 4 / 3), ("48^\\circ", 48),
        ("18\\text{ ways.}", 18), ("twenty-one", 21), ("3 million dollars", 3e6), ("12 hours", 12), ("1.5e3", 1500),
    ],
)  # fmt: skip
def test_numbers_are_read_with_units_currency_and_words(text: str, value: float) -> None:
    number = parse_number(text)
    assert number is not None
    assert float(number.value) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["4a-2", "2b", "3 xy", "5r^5", "4 \\sin x", "x", "", "1/0", "\\frac{1}{0}", "1, 2", "7" * 9000]
)
def test_algebra_and_nonsense_are_no_numbers(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("a", "b", "task", "equal"),
    [
        ("1,200.0", "1200", "gsm8k", True), ("1/3", "0.333", "number", False), ("A", "(a)", "choice", True),
        ("A", "B", "choice", False), ("the Beatles!", "Beatles", "text", True), ("-1, 2", "2,-1", "math", True),
        ("(-1,2)", "(2,-1)", "math", False), ("\\tfrac12", "\\frac{1}{2}", "math", True), ("x=3", "3", "math", True),
        ("\\text{(C)}", "C", "math", True), ("2\\sqrt3", "2 \\sqrt{3}", "math", True),

        ("[0,1)", "(0,1)", "math", False),
    ],
)  # fmt: skip
def test_equivalence_is_exact(a: str, b: str, task: str, equal: bool) -> None:
    assert equivalent(a, b, task=task) is equal
    assert equivalent(b, a, task=task) is equal


def test_groups_are_numbered_in_first_seen_order() -> None:
    assert group(["12", None, "7", "12.0", "$7"], task="gsm8k") == [0, None, 1, 0, 1]
    assert group([], task="choice") == []


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"unknown task 'gsm9k'.*gsm8k.*medmcqa"):
        extract("7", task="gsm9k")


def test_letters_of_words_are_no_choices() -> None:
    assert letter("B. Liver") == "B"
    assert letter("Because") is None
    assert letter("a lesion") is None


def test_only_the_exact_right_side_of_an_equation_counts() -> None:
    assert right_side("6 \\times 7 = 42 \\approx 40") == "42"
    assert right_side("x \\approx 11") == "11"
    assert right_side("x = 1, y = 2") == "x = 1, y = 2"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("2\\sqrt{3}", "\\sqrt{12}", False), ("2\\sqrt{3}", "3\\sqrt{2}", True), ("(x+1)^2", "x^2+2x+1", False),
        ("\\cot x", "\\frac{\\cos x}{\\sin x}", False), ("5r^5", "\\frac{5}{r}", True), ("\\int x", "1", None),
        ("9^{9^{9}}", "1", None), ("\\sqrt[3]{-8}", "-2", None), ("6+9i", "9i+6", False), ("2 3", "6", None),
        ("(" * 200 + "1" + ")" * 200, "1", None),
    ],
)  # fmt: skip
def test_values_tell_different_formulas_apart(a: str, b: str, expected: bool | None) -> None:
    assert differ(a, b) is expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("1 \\pm 2", "3,-1", True), ("3i,-3i", "\\pm 3", False), ("(1,2)", "(2,1)", False),
        ("(1,2)", "\\{1,2\\}", None),
        ("(1,2)", "(1,3,4)", False), ("40", "(-3,2)", False), ("1234", "(1,234)", None), ("4", "\\infty", False),
        ("(5,\\infty)", "(5,+\\infty)", True), ("[0,1] \\cup [1,2]", "[0,2]", True),
        ("(0,1) \\cup (1,2)", "(0,2)", False),
        ("x \\in (3,4) \\cup \\{2\\}", "\\{2\\} \\cup (3,4)", True), ("[0,a) \\cup (3,4)", "[0,b) \\cup (3,4)", None),
        ("(1,2), (3,4)", "(3,4), (1,2)", True), ("(1,2), (3,4)", "7", False), ("p=5,q=2; p=7,q=2", "(5,2),(7,2)", None),
        ("40_9", "40", True), ("1202_3", "41121_3", False), ("x_{1}+1", "1+x_1", True), ("\\text{(E)}", "24", False),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1, 3)", False), ("2\\theta", "\\theta + \\phi", False),
        ("(" + "1," * 30 + "1)", "(" + "1," * 30 + "1)", None),
    ],
)  # fmt: skip
def test_lists_and_unions_are_compared_by_value(a: str, b: str, expected: bool | None) -> None:
    assert same_values(a, b) is expected
    assert same_values(b, a) is expected


PIECES = st.sampled_from(
    [
        "\\boxed{",
        "}",
        "{",
        "$",
        "answer is",
        "#### ",
        "\n",
        "7",
        "1,",
        "\\frac{",
        "(",
        "A:",
        "**",
        "\\[",
        '"answer": "',
        ".",
    ]
)


@settings(max_examples=150)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join)), st.sampled_from(sorted(KINDS)))
def test_no_text_makes_extraction_or_comparison_raise(text: str, task: str) -> None:
    answer = extract(text, task=task)
    assert answer is None or isinstance(answer, str)
    assert equivalent(text, text, task=task)
    normalise(text), list_items(text), differ(text, text), same_values(text, text)


ATTACKS = [
    "a", " ", "\\", "{", "\\boxed{", "$", "$1$ and ", "7", "1,111,", "-", "\\(", "\\[", "**a", "answer is ", "A:\n",
    "A:", "\\boxed", "__a__", "{}",
    "####",    "answer is b ", "(", "\\frac{", "\\text{", ". ", "=1", '"answer": "', "option a", "1 ", "\\sqrt", "x_",
    "((1,2),", "\n",
]  # fmt: skip


def _best_time(text: str, *, task: str) -> float:
    times = []
    for _ in range(5):
        start = time.process_time()
        answer = extract(text, task=task)
        equivalent(answer or text, text, task=task)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("task", ["gsm8k", "math", "choice", "text"])
def test_time_is_linear_in_the_length_of_any_attack(task: str) -> None:
    for attack in ATTACKS:
        half = (attack * MAX_TEXT)[: MAX_TEXT // 2]
        short, long = _best_time(half, task=task), _best_time(half + half, task=task)
        assert long <= 2.5 * short + 0.02, (attack, short, long)
        assert long < 0.5, (attack, long)
