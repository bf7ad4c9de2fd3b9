r"""Where in a response a final answer may stand: boxes, "the answer is ...", last sentences, letters of a choice.

    boxed("... \\boxed{12}.", joined=False)  -> (4, "12")

Responses are hostile text: every regex is linear (bounded repeats, no nested quantifiers). Which of these counts for a
task decides answers.extract.
"""

from __future__ import annotations

import re
from fractions import Fraction

from agentark_core.answer_forms import Kind, clean, letter, number_words, parse_number

_MARK_REACH = 160
"""`#### 7` counts only this close to the end of the text."""

_MAX_CLAUSE = 400
_MAX_BOXES = 50
_MAX_ANCHORS = 20
_MAX_BARE_CHOICE = 4

_BOX_TOKEN = re.compile(r"\\\\?(?:fbox|f?boxed)(?![a-z])|\\[^a-zA-Z]|\{[^{}\\]*\}|[{}]", re.DOTALL)
_ANY_BOX = re.compile(r"\\[\\a-zA-Z]{0,20}box")
_BARE_BOX = re.compile(r"\\f?box(?:ed)?[ ]{1,3}([^\s{}$\\]{1,40})")
_GAP_NOISE = re.compile(r"\\(?:quad|text|f?box(?:ed)?|ldots|cdots)\b|[A-Za-z](?:_\{?\w\}?)?\s{0,2}=")
_GAP_WORD = re.compile(r"\w+|[,;]")
_VERB = re.compile(r"\b(?:is|are|was|be|equals?|has|have|gives?)\b|=")
_ANCHOR = re.compile(  # begins with letters, not with an assertion: so the search skips to them
    r"[Aa](?<=\b[Aa])(?i:nswer(?: (?:to|for) (?:this|the|your) (?:question|problem))?[*_ ]{0,4}"
    r"(?:\bis\b|\bare\b|\bwas\b|:|=)[ ]?(?:simply |thus |therefore )?[:*_ ]{0,4})"
    r"|#(?<!##)###(?!#)[ ]?|[Aa]:(?<=\b[Aa]:)"
)
_LINE_START = re.compile(r"[ ]{0,3}\*{0,2}")
_CLOSING = re.compile(r"\bI hope (?:it|this) is correct|\\end\{(?:align|equation|gather)|####", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)(?!\s*\d)")
_NUMBER = re.compile(
    r"(?<![A-Za-z\d])-?(?:\\?\$)?-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+(?:/\d+)?)(?:\s?\\?%)?"
    r"|-?\\[dt]?frac\{\d+\}\{\d+\}"
)
_OUTPUT = re.compile(r"```output\s+([^`\n]{1,80})")
_EQUALS = re.compile(r"(?:=|≈|\\approx)\s{0,3}(?:\\?\$)?\s?(-?\d[\d,]*\.?\d*)")
_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)?")
_MATH_SPAN = re.compile(
    r"(?<!\\)\$((?:[^$\\\n]|\\.){1,300})\$|\\\(((?:[^\\\n]|\\(?!\))){1,300})\\\)|\\\[((?:[^\\]|\\(?!\])){1,300})\\\]"
)
_BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")

_PROSE_MARK = re.compile(
    r"^[ \t]{0,3}[*_#]{0,4}(?:the )?(?:final )?answer[*_]{0,2}:[*_ \t]{0,4}", re.IGNORECASE | re.MULTILINE
)
_TEXT_MACRO = re.compile(r"\\(?:text|textbf|mathrm)\{([^{}]*)\}")

_CHOICE_KEY = re.compile(
    r"[\"']answer(?:_choice|_letter|_index)?\\?[\"']\s{0,3}:[\s\[\"'\\]{0,5}([^\"'\\\n]{0,200})", re.IGNORECASE
)
_CHOICE_ANCHOR = re.compile(
    r"\b(?:answer|choice|option)s?(?: choice| option| letter)?\s{0,3}(?:is|are|:|=|would be|should be)"
    r"\s{0,3}:?[\s*_]{0,4}(?:(?:option|choice|letter)\s{1,2})?[\s*_]{0,4}([($\[]?\\?[A-Za-z{(]{0,8}[A-H]\b[^\n]{0,12})",
    re.IGNORECASE,
)
_LETTER_LINE = re.compile(
    r"^[\s*_]{0,4}(?:(?:option|choice) )?\(?([A-H])\)?(?:[.):][^\n]{0,200})?[\s*_]{0,4}$", re.MULTILINE
)


def boxed(text: str, *, joined: bool) -> tuple[int, str | None]:
    """(position, content) of the last box, (-1, None) if there is none; with `joined`, linked boxes make one list.

    The content of a box that never closes ends with its formula or line; None if the text itself breaks off in it.
    """
    starts = [found.start() for found in _ANY_BOX.finditer(text)][-_MAX_BOXES:]
    if not starts:
        return -1, None
    boxes: list[tuple[int, int]] = []
    stack: list[int] = []
    pending = -1
    for token in _BOX_TOKEN.finditer(text, starts[0]):
        mark = token.group()
        if mark[-1] in "dx":  # of \boxed, \fbox
            pending = token.end()
        elif mark[0] == "{":
            is_box = pending >= 0 and not text[pending : token.start()].strip()
            pending = -1
            if mark == "{":
                stack.append(token.end() if is_box else -1)
            elif is_box:
                boxes.append((token.start() + 1, token.end()))
        elif mark == "}" and stack:
            start = stack.pop()
            if start >= 0 and not (boxes and boxes[-1][0] > start):
                boxes.append((start, token.end()))
        if boxes and not stack and token.end() > starts[-1] and pending < 0:
            break  # the last box is closed
    unclosed = max(stack, default=-1)
    if unclosed >= 0 and not (boxes and boxes[-1][0] > unclosed):
        content = re.split(r"[$\n]|\\\]|\\\)", text[unclosed : unclosed + _MAX_CLAUSE], maxsplit=1)
        return unclosed, clean(content[0]) or None if len(content) > 1 else None
    if not boxes:
        bare = list(_BARE_BOX.finditer(text))
        return (bare[-1].start(), clean(bare[-1][1])) if bare else (-1, None)
    spans = [(start, end, text[start : end - 1]) for start, end in boxes]
    return boxes[-1][0], _joined(spans if joined else spans[-1:], text=text)


def prose(text: str) -> str | None:
    """The last box, else what follows the last line that starts with `Answer:`, else the whole text."""
    position, answer = boxed(text, joined=False)
    if position >= 0:
        return answer and (_TEXT_MACRO.sub(r"\1", answer).strip() or None)
    marks = list(_PROSE_MARK.finditer(text))
    return text[marks[-1].end() if marks else 0 :].strip() or None


def _joined(spans: list[tuple[int, int, str]], *, text: str) -> str | None:
    """The last of some (start, end, content) spans; those linked to it by a comma, "and" or "or" make one list."""
    parts = [clean(spans[-1][2])]
    for earlier, later in zip(reversed(spans[:-1]), reversed(spans[1:]), strict=True):
        if not _linked(text[earlier[1] : later[0]]):
            break
        parts.append(clean(earlier[2]))
    return ", ".join(part for part in dict.fromkeys(reversed(parts)) if part) or None


def _linked(gap: str) -> bool:
    """Whether the text between two formulas only lists them: `, ` or `} \\quad \\text{or} \\quad x_2 = \\boxed{`."""
    words = _GAP_WORD.findall(_GAP_NOISE.sub(" ", gap)) if len(gap) <= 60 else []
    return bool(words) and all(word in ("and", "or", ",", ";") for word in words)


def anchored(text: str, *, kind: Kind, after: int) -> tuple[int, str | None]:
    """(position, answer) of the last "the answer is ..." that really states an answer and comes after `after`."""
    anchors = [found for found in _ANCHOR.finditer(text, max(after, 0)) if _counts(text, found)]
    for anchor in reversed(anchors[-_MAX_ANCHORS:]):
        if anchor.group().startswith("#") and len(text) - anchor.end() > _MARK_REACH:
            continue  # a Markdown heading of the reasoning, not GSM8K's last line
        line = _stated(text[anchor.end() : anchor.end() + _MAX_CLAUSE])
        closing = _CLOSING.search(line)
        line = line[: closing.start()] if closing else line
        if "\\boxed" in line or len(_first_sentence(line)) >= _MAX_CLAUSE - 1:
            continue
        if kind == "number":
            found = number_part(_first_sentence(line))
            if found is not None and parse_number(found) is not None:
                return anchor.start(), found
            continue
        piece = clean(_first_sentence(line))
        if after >= 0 and (re.match(r"[A-Za-z]{2}", piece) or not _is_statement(text, anchor)):
            continue  # "the answer is correct", "check our answer: 2 + 2 = 4" take nothing back from a box
        if kind == "math" and not _bare_formula(piece):
            piece = _conclusion(line) or piece
        if (
            any(map(str.isalnum, piece))
            and (len(piece) <= 80 or "\\" in piece)
            and (len(piece.split()) <= 6 or "\\" in piece)
        ):
            return anchor.start(), piece
    return -1, None


def _counts(text: str, anchor: re.Match[str]) -> bool:
    """`A:` counts at the beginning of a line only."""
    if len(anchor.group()) > 2:
        return True
    before = text[max(anchor.start() - 6, 0) : anchor.start()]
    _, newline, start = before.rpartition("\n")
    return bool(newline or len(before) < 6) and _LINE_START.fullmatch(start) is not None


def _is_statement(text: str, anchor: re.Match[str]) -> bool:
    """Whether an anchor says "is", or stands at the beginning of its line ("Final answer: ...")."""
    before = text[max(anchor.start() - 80, 0) : anchor.start()].rpartition("\n")[2]
    return "is" in anchor.group().lower() or before.strip("*#_ \t").lower() in ("", "final", "the", "the final")


def _stated(rest: str) -> str:
    """The first line after an anchor, or the whole display formula that begins there."""
    rest = rest.lstrip()
    for left, right in (("\\[", "\\]"), ("$$", "$$")):
        if rest.startswith(left) and (end := rest.find(right, 2)) > 0:
            return rest[2:end].replace("\n", " ")
    return rest.split("\n", 1)[0]


def _first_sentence(line: str) -> str:
    end = _SENTENCE_END.search(line)
    return line[: end.start()] if end else line


def _bare_formula(piece: str) -> bool:
    """Whether a clause is a formula or a short answer by itself, not a sentence about one."""
    return "$" not in piece and "\\(" not in piece and not re.search(r"\b(?:is|are|there|that)\b", piece)


def _conclusion(clause: str) -> str | None:
    """The formula, bold text or number that a clause states: the first after its last verb, else the last of all;
    those linked to it by a comma, "and" or "or" make one list."""
    found = [(*m.span(), next(filter(None, m.groups()))) for m in _MATH_SPAN.finditer(clause)]
    # what lies between two prices is no formula: "$36 and has $4"
    found = [span for span in found if not (span[2][0].isdigit() and span[2][-1].isspace())]
    found += [(*m.span(), m[1]) for m in _BOLD.finditer(clause)]
    covered = [(start, end) for start, end, _ in found]
    found += [
        (*m.span(), m[0]) for m in _NUMBER.finditer(clause) if not any(s <= m.start() < e for s, e in covered[:40])
    ]
    if not found:
        return None
    found.sort()
    verbs = [m.end() for m in _VERB.finditer(clause) if not any(s <= m.start() < e for s, e in covered[:40])]
    after = next((k for k, span in enumerate(found) if verbs and span[0] >= verbs[-1]), None)
    last = len(found) - 1 if after is None else after
    while after is not None and last + 1 < len(found) and _linked(clause[found[last][1] : found[last + 1][0]]):
        last += 1
    return _joined(found[: last + 1], text=clause)


def number_part(piece: str) -> str | None:
    """The number that a box or an answer clause states: itself, the right side of its last `=`, or its only number."""
    piece = clean(piece)
    if parse_number(piece) is not None:
        return piece
    for sign in ("=", "≈", "\\approx"):
        piece = clean(piece.rpartition(sign)[2])
    if parse_number(piece) is not None:
        return piece
    numbers = _NUMBER.findall(piece)
    if len(numbers) == 1 or (numbers and piece.startswith(numbers[0]) and "and" not in piece):
        whole = clean(numbers[0])
        return whole if parse_number(whole) is not None and "\\" not in piece.replace("\\$", "") else piece
    return piece or None


def concluding_number(text: str) -> str | None:
    """Without any marker: the number of the last sentence that has one. If that sentence repeats the last computed
    result (`= 34`, or a program's output, in words too), that number; else its last number."""
    computed = [m[1] for m in _EQUALS.finditer(text)] + [m[1] for m in _OUTPUT.finditer(text)]
    result = parse_number(computed[-1]) if computed else None
    for sentence in reversed(_sentences(text[-2000:])):
        tail = max(sentence.rfind("="), sentence.rfind("≈"))
        numbers = _NUMBER.findall(sentence[tail + 1 :]) or _NUMBER.findall(sentence)
        values: list[Fraction | None] = [n.value if (n := parse_number(number)) else None for number in numbers]
        words = [w for word in _WORD.findall(sentence) if (w := number_words(word)) is not None]
        if result is not None and result.value in values:
            return clean(numbers[values.index(result.value)])
        if result is not None and result.value in words:
            return str(result.value)
        if numbers:
            return clean(numbers[-1])
    return None


def concluding_expression(text: str) -> str | None:
    """Without any marker: what the last sentence with a formula, bold text or number states."""
    sentences = reversed(_sentences(text[-2000:]))
    return next((found for sentence in sentences if (found := _conclusion(sentence))), None)


def _sentences(text: str) -> list[str]:
    return [part for line in text.split("\n") for part in re.split(r"(?<=[.!?])\s", line) if part.strip()]


def last_line(text: str) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    return clean(lines[-1]) or None if lines else None


def choice(text: str) -> str | None:
    """The letter of a choice answer: a JSON field, a box, "the answer is (B)", a line that is only a choice."""
    fields = _CHOICE_KEY.findall(text)
    if fields:
        return letter(fields[-1]) or clean(fields[-1]) or None
    box = boxed(text, joined=False)[1]
    if box is not None and (found := letter(box)):
        return found
    stated = [found for m in _CHOICE_ANCHOR.finditer(text) if (found := letter(m[1]))]
    if stated:
        return stated[-1]
    lines = _LETTER_LINE.findall(text)
    if lines:
        return str(lines[-1])
    bare = letter(text) if len(text.strip()) <= _MAX_BARE_CHOICE else None
    return bare or box or anchored(text, kind="text", after=-1)[1]
