"""Markdown with text of models and data in it, which is shown and never obeyed: no link, tag or cursor movement."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentark_core.terminal import safe


def inline(text: str, *, limit: int = 160) -> str:
    """One line without markup, of at most limit characters before they are escaped."""
    line = " ".join(safe(text).split())
    return re.sub(r"([\\`*_\[\]<>#|!&~])", r"\\\1", line[:limit])


def fenced(text: str) -> str:
    """A code block that nothing in the text can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{safe(text)}\n{fence}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table of Markdown cells, the first `left` columns aligned left and the others right."""
    rule = ["---" if index < left else "---:" for index in range(len(headers))]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (headers, rule, *rows))
