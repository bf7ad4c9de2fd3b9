"""The step splitter: examples of every rule, and what holds for any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentark_core.arkling import generator
from agentark_core.steps import LONG_STEP, spans, split

EXAMPLES: dict[str, list[str]] = {
    "lines of arkling": ["Step 1: 3 + 4 = 7\n", "Step 2: 7 * 2 = 14\n", "\\boxed{14}"],
    "lines of GSM8K": ["She sold 48/2 = <<48/2=24>>24 clips in May.\n", "Natalia sold 48+24 = 72 clips\n", "#### 72"],
    "lines that go on": ["We know that Ann,\nBen and Cara have 3 pens\nand 4 cups\n= 7 things.\n", "So 7."],
    "paragraphs": ["First, 3 + 4 = 7.\nThat is all of them.\n\n", "Then 7 * 2 = 14.\n\n", "So it is 14."],
    "one blank line": ["Ann has 3.\n", "Ben has 4.\n\n", "Together they have 7."],
    "answer after one blank line": ["Ann has 3.\n", "Ben has 4.\n\n", "The answer is 7."],
    "answers": ["Add them.\n", "Answer: 7\n", "**Final answer:** 7\n", "A: 7\n", "$\\boxed{7}$\n", "#### 7"],
    "colon and display": ["We get:\n\n\\[ x = 3 \\]\n\n", "Now double it.\n\n", "Then halve it."],
    "display without colon": ["Adding both gives\n\n$$ x = 3 $$\n\nwhere x counts pens.\n\n", "Now double it."],
    "blank line in display": ["So\n\\[\nx\n\n= 3\n\n\nY\n\\]\n", "Next."],
    "environment": ["\\begin{align}\nA &= 1 \\\\\n\nB &= \\begin{cases}\n1\n\nC\\end{cases}\n\\end{align}\n", "Next."],
    "inline mathematics over lines": ["So $A\n+ B\nC$ holds.\n", "And \\(A\nB\\) too.\n", "Done."],
    "prices are no mathematics": ["It costs $5 now.\n", "He pays $6 and\\$7.\n", "She pays $8."],
    "code fence": ["We compute:\n```python\nx = 1\n\nY = 2\n# z\n```\n", "The output is 3."],
    "fence of four": ["````\nA\n\n```\nB\n\nC\n````\n", "Next."],
    "headings": [
        "## Plan\n### Step 1: Add\n\nAnn: 3.\n\n",
        "### Step 2\nBen has 4.\n\n---\n\n",
        "**Sum**\nIt is 7.",
    ],
    "bullets led in": ["The parts are:\n- 3 pens.\n- 4 cups.\n  Red ones.\n", "The sum is 7."],
    "bullets alone": ["- Add 3 and 4.\n  This is 7.\n", "- Double it.\n", "- Halve it."],
    "numbers led in, sentences": ["We do this:\n1. Add 3 and 4.\n", "2. Double the sum.\n", "The result is 14."],
    "numbers led in, terms": ["We know that:\n1. \\(a = 3\\)\n2. \\(b = 4\\)\n", "The sum is 7."],
    "numbered titles": [
        "1. **Add**\n   Ann: 3.\n   \\[3+4=7\\]\n   So 7.\n\n",
        "2. **Double**\n   It is 14.\n\n",
        "Done: 14.",
    ],
    "step titles": ["Step 1: Add\nAnn has 3.\nBen has 4.\n", "Step 2: Double\nIt is 14.\n", "Case B: none."],
    "rule": ["Ann has 3.\n\n---\n\n", "Ben has 4."],
    "table": ["The table is\n| a | b |\n|---|---|\n| 1 | 2 |\n", "Both are small."],
    "unclosed": ["So \\[ x = 1\n", "And \\( y and $z\n", "Or \\begin{align} B\n", "Then\n```\n", "C"],
    "closed by another": ["A \\begin{a} B \\end{b}\n", "C"],
    "carriage returns": ["Ann has 3.\r\n", "Ben has 4.\r\n\r\n", "So 7."],
    "leading white space": ["\n\n  Ann has 3.\n", "Ben has 4.\n\n  \n"],
    "white space": [" \n\n\t\n"],
}


@pytest.mark.parametrize("steps", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_steps_of_examples(steps: list[str]) -> None:
    assert split("".join(steps)) == steps


def test_no_text_has_no_steps() -> None:
    assert split("") == []


def test_arkling_solutions_have_one_step_a_line() -> None:
    for spec, _ in zip(generator.specs("distil"), range(50), strict=False):
        for text in generator.solutions(spec):
            assert split(text) == text.splitlines(keepends=True)


def test_long_step_is_cut_at_connectives_outside_of_mathematics() -> None:
    filler = "There are many pens in the box and each of them has its own colour. " * (LONG_STEP // 60)
    text = f"{filler}Therefore there are 7. Next $a. Then b$ is added. The sum is 9."
    steps = split(text)
    assert [step[:9] for step in steps] == ["There are", "Therefore", "Next $a. "]
    assert "".join(steps) == text
    assert split(text[len(filler) :]) == [text[len(filler) :]]


PIECES = st.sampled_from(
    ["\n", "\n\n", " ", "\\", "\\[", "\\]", "\\(", "\\)", "$", "$$", "\\$", "\\begin{a}", "\\end{a}", "\\begin{b*}",
     "\\end{b*}", "```", "~~~", "````", "```py", "- ", "1. ", "# ", "**", ":", ".", ",", "Step 1", "\\boxed{1}", "---",
     "a", "B", "7", "\r\n", "\x00", "\ud800", "\udfff", "\u2028", "\x85", "\v", "\u0301", "\u202e", "٣", "ß", "Next "]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(st.characters(), max_size=200)


@given(TEXTS)
@settings(max_examples=500)
def test_steps_join_to_the_text_and_say_something(text: str) -> None:
    steps = split(text)
    assert "".join(steps) == text
    assert all(step.strip() for step in steps) or not text.strip()
    assert spans(text) == spans(text)
    edges = [edge for start, end in spans(text) for edge in (start, end)]
    assert edges == sorted(edges) and all(text[start - 1] == "\n" for start, _ in spans(text)[1:])


BLOCKS = st.sampled_from(
    [
        ("\\[", "\\]"),
        ("$$", "$$"),
        ("\\begin{align*}", "\\end{align*}"),
        ("```python\n", "\n```\n"),
        ("~~~\n", "\n~~~\n"),
    ]
)
INNER = st.lists(
    st.sampled_from(
        [
            "\n",
            "\n\n",
            "A = 1.",
            "Step 2",
            "\\boxed{1}",
            "# B",
            "- c",
            "\\(",
            "\\\\",
            "The answer is 7",
            "$5",
            ". Next it ",
        ]
    )
).map("".join)


@given(TEXTS, BLOCKS, INNER, TEXTS)
@settings(max_examples=500)
def test_no_step_begins_inside_a_block(before: str, block: tuple[str, str], inner: str, after: str) -> None:
    # what comes before may not open a block of its own
    before = "".join(c for c in before if c not in "\\$`~") + "\n\n"
    text = f"{before}{block[0]}{inner}{block[1]}{after}"
    start, end = len(before), len(before) + len(block[0]) + len(inner) + len(block[1].rstrip())
    assert not [at for at, _ in spans(text) if start < at < end]


HOSTILE = [
    "\\", "\\[", "\\(", "$", "$$", "$ a", "$a\n", "\\begin{a}", "\\begin{a}\\end{b}", "\\end{a}", "```\n",
    "```a\n", "`", "~~~\n", "\n", " ", "\n ", "\t", "\r", "**", "# ", "- a\n", "1. A.\n", "A:\n", "A\n\n", "a",
    ". Next ", "(", "_", "=\n", "|", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_is_linear_in_the_length(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        best = float("inf")
        for _ in range(2):
            begun = time.process_time()
            assert "".join(split(text)) == text
            best = min(best, time.process_time() - begun)
        return best

    # For sixteen times the text a quadratic splitter needs 256 times as long; this one needed up to 37 (alone).
    assert seconds(160_000) < 64 * seconds(10_000) + 0.05


def test_a_megabyte_of_backslashes_takes_under_two_seconds() -> None:
    text = "\\" * 1_000_000
    begun = time.process_time()
    assert split(text) == [text]
    assert time.process_time() - begun < 2
