r"""THE step splitter: the units that a process reward model is trained on, scores, and reports about.

    split("We add:\n\\[3 + 4 = 7\\]\nThen 7 * 2 = 14.\n\n\\boxed{14}")
    -> ["We add:\n\\[3 + 4 = 7\\]\n", "Then 7 * 2 = 14.\n\n", "\\boxed{14}"]

A step is a line or a paragraph of reasoning. It is never cut inside display mathematics (\[..\], $$..$$), an
environment (\begin..\end), a code fence, or inline mathematics ($..$, \(..\)). Between two lines:

- A heading, `Step 3`, `Case 2` and an answer line (`\boxed{7}`, `#### 7`, `The answer is 7`) begin a step.
- A heading and a line that ends with a colon are one step with what follows, and a displayed equation with what it
  follows. A line without any letter or digit (`---`) belongs to the step before it.
- Otherwise a blank line is a cut, except within a sentence that goes on after an equation ("where x is ...").
- A line break alone is a cut only in a text that is not written in paragraphs, that is, has fewer than two cuts at
  blank lines or headings. Even there it is none before a bullet or number that its step's first line leads in, before a
  line indented under that first line, and within a sentence: the line begins in lower case or with an operator, or the
  one before it ends with a comma.
- In a step of more than LONG_STEP characters, sentences that open with a connective ("Next", "Therefore") begin steps.

White space between two steps belongs to the first, so "".join(split(text)) == text for every str. An opener that is
never closed is plain text; inline mathematics ends with its paragraph, and `$` follows Pandoc's rule, so that prices
are none. Time is linear in the length. How well this gives back the steps of ProcessBench:
benchmarks/steps_agreement.py.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

STEPS_VERSION = "steps-1"
"""Part of the fingerprint of everything that holds steps: change it with any change of the cuts."""

_REACH = 80
"""Characters at either end of a line that decide how it joins its neighbours."""

LONG_STEP = 800
"""Characters; 99 % of ProcessBench's steps are shorter."""

Joint = Literal["paragraph", "break", "mark"]
"""What makes a line begin a step: a blank line or heading before it, a line break alone, or what the line itself is."""

_TOKEN = re.compile(
    r"\\begin\{(?P<begin>[A-Za-z]{1,20}\*?)\}|\\end\{(?P<end>[A-Za-z]{1,20}\*?)\}"
    r"|^[ \t]{0,12}(?P<fence>`{3,20}|~{3,20})(?P<info>[^`\n]{0,40})"
    r"|(?P<mark>\\[^\n]|\$\$?)|(?P<blank>\n[^\S\n]*(?=\n))",
    re.MULTILINE,
)
_DISPLAY = re.compile(r"\\\[|\$\$|\\begin\{")
_DISPLAY_END = re.compile(r"(?:\\\]|\$\$|\\end\{[A-Za-z]{1,20}\*?\})[.,;]?\Z")
_SENTENCE_END = re.compile(r"[.!?][\"')\]*_]{0,4}\Z")
_FENCE = re.compile(r"```|~~~")
_TITLE = re.compile(r"#{1,6}[ \t]|(?:\d{1,3}[.)][ ])?(?:\*\*[^*]{1,72}\*\*|__[^_]{1,72}__)[:.]?\Z")
_SECTION = re.compile(r"#{1,6}[ \t]|[*_]{0,2}(?:Step|Case)[ \t]{1,2}(?:\d|[A-Z]\b|[ivx]{1,4}\b)", re.IGNORECASE)
_ANSWER = re.compile(
    r"[*_ ]{0,4}(?:(?:\$|\\\()?[ ]?\\f?box(?:ed)?\b|#{4}[ ]?[-$\\\d]|A:"
    r"|(?:the[ ])?(?:final[ ])?answer(?:[ ]is\b|[*_]{0,2}:))",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[*_]{0,2}\(?\d{1,3}[.)](?:[*_]{0,2}[ \t]|\Z)")
_BULLET = re.compile(r"[-*•+–][ \t]")
_CONNECTIVE = re.compile(
    r"(?:[.!?][\"')\]]?|\\\]|\\\)|\$|\\end\{[A-Za-z]{1,20}\*?\})[ ]"
    r"(?=(?:First|Second|Third|Fourth|Fifth|Sixth|Next|Now|Then|After|Finally|Therefore|Thus|To|Step|Case)\b)"
)
_OPERATOR = re.compile(r"=|≈|\\approx\b|\\implies\b|\\Rightarrow\b|⇒|[+×÷<>≤≥/|]")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is not blank. start: offset of its first character; head, tail: the ends of its stripped content."""

    start: int
    indent: int
    head: str
    tail: str
    after_blank: bool

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return not any(map(str.isalnum, self.head)) and not any(map(str.isalnum, self.tail))

    @property
    def leads_in(self) -> bool:
        """Whether what follows belongs to it: a heading, or a line that ends with a colon."""
        if self.tail.rstrip("*_").endswith(":"):
            return True
        return bool(_TITLE.match(self.head)) and not _ANSWER.match(self.head)


def split(text: str) -> list[str]:
    """The steps of text, in order; they join to text again. [] for "", one step for white space alone."""
    return [text[start:end] for start, end in spans(text)]


def spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each step in characters: contiguous, from 0 to len(text)."""
    if not text:
        return []
    guarded = _guarded(text)
    lines = list(_lines(text, guarded))
    joints = _joints(lines, breaks=True)
    if joints.count("paragraph") >= 2:
        joints = _joints(lines, breaks=False)
    bounds = [0, *(line.start for line, joint in zip(lines, joints, strict=True) if joint), len(text)]
    if any(end - start > LONG_STEP for start, end in pairwise(bounds)):
        bounds = sorted({*bounds, *_sentence_starts(text, guarded, bounds)})
    return list(pairwise(bounds))


def _joints(lines: list[_Line], *, breaks: bool) -> list[Joint | None]:
    """How each line begins a step; None: it goes on with the one before, as the first line does."""
    joints: list[Joint | None] = [None] * len(lines)
    begun = 0
    for index in range(1, len(lines)):
        joint = _joint(lines[index], previous=lines[index - 1], first=lines[begun])
        if joint and (breaks or joint != "break"):
            joints[index], begun = joint, index
    return joints


def _joint(line: _Line, *, previous: _Line, first: _Line) -> Joint | None:
    """`first` is the line that began the step of `previous`."""
    head = line.head
    if line.empty:
        return None
    if _SECTION.match(head):
        return None if _TITLE.match(previous.head) else "paragraph"
    if previous.leads_in:
        return None
    if _ANSWER.match(head):
        return "mark"
    if _DISPLAY.match(head):
        return None
    if line.after_blank:
        return None if head[0].islower() and _DISPLAY_END.search(previous.tail) else "paragraph"
    if head[0].islower() or _OPERATOR.match(head) or _FENCE.match(head) or previous.tail.endswith(","):
        return None
    if line.indent > first.indent + 1:
        return None
    if _BULLET.match(head):
        return "break" if _BULLET.match(first.head) else None
    if _NUMBERED.match(head):
        ended = _SENTENCE_END.search(previous.tail) or _DISPLAY_END.search(previous.tail)
        return "mark" if _NUMBERED.match(first.head) or ended else None
    return "break"


def _sentence_starts(text: str, guarded: list[tuple[int, int]], bounds: list[int]) -> Iterator[int]:
    """Where, in the long ones of the steps between bounds, a sentence opens with a connective outside of guarded."""
    edges = [edge for span in guarded for edge in span]
    for match in _CONNECTIVE.finditer(text):
        at = match.end()
        step = bisect_right(bounds, at)
        if bisect_right(edges, at) % 2 == 0 and step < len(bounds) and bounds[step] - bounds[step - 1] > LONG_STEP:
            yield at


def _lines(text: str, guarded: list[tuple[int, int]]) -> Iterator[_Line]:
    """The lines of text; one in which something guarded begins reaches to the end of the line that closes it."""
    ahead = iter([*guarded, (len(text), len(text))])
    opened, closed = next(ahead)
    start, after_blank = 0, False
    while start < len(text):
        end = _line_end(text, start)
        while opened < end:
            if closed > end:
                end = _line_end(text, closed)
            opened, closed = next(ahead)
        line = text[start:end]
        content = line.strip()
        if content:
            indent = len(line) - len(line.lstrip())
            yield _Line(start, indent, content[:_REACH], content[-_REACH:], after_blank)
        after_blank = not content
        start = end + 1


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return end if end >= 0 else len(text)


def _guarded(text: str) -> list[tuple[int, int]]:
    """(start, end) of what must stay whole, in order and disjoint. The outer of two nested ones counts."""
    tokens = list(_TOKEN.finditer(text))
    closers = _closers(tokens, text)
    guarded = []
    index = 0
    while index < len(tokens):
        closer = closers.get(index)
        if closer is not None:
            guarded.append((tokens[index].start(), tokens[closer].end()))
            index = closer
        index += 1
    return guarded


def _closers(tokens: list[re.Match[str]], text: str) -> dict[int, int]:
    """Index of each opening token -> index of the token that closes it. From the end to the beginning: one pass."""
    closers: dict[int, int] = {}
    following: dict[str, int] = {}
    ends: dict[str, list[int]] = {}

    def close(index: int, mark: str) -> None:
        if mark in following:
            closers[index] = following[mark]

    for index in range(len(tokens) - 1, -1, -1):
        token = tokens[index]
        mark = token["mark"]
        if token["end"]:
            ends.setdefault(token["end"], []).append(index)
        elif token["begin"]:
            if open_ends := ends.get(token["begin"]):
                closers[index] = open_ends.pop()
        elif mark == "$":
            if text[token.end() : token.end() + 1].strip() and "$" in following:
                after = tokens[following["$"]]
                if not text[after.start() - 1].isspace() and not text[after.end() : after.end() + 1].isdigit():
                    closers[index] = following["$"]
            following["$"] = index
        elif mark == "\\(":
            close(index, "\\)")
        elif mark == "\\)":
            following[mark] = index
        else:
            # a new paragraph, a fence or a display: inline mathematics does not reach over it
            if mark is None or mark in ("\\[", "\\]", "$$"):
                following.pop("$", None)
                following.pop("\\)", None)
            if mark == "\\[":
                close(index, "\\]")
            elif mark == "$$" or token["fence"]:
                close(index, mark or token["fence"])
            if mark in ("\\]", "$$") or (token["fence"] and not token["info"].strip()):
                following[mark or token["fence"]] = index
    return closers
