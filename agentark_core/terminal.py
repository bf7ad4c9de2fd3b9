"""Plain text for terminals. Text of models and data is shown, never obeyed.

It goes through rich's Text, so no markup in it is interpreted, and control characters are shown as escapes: a trace
cannot move the cursor.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentark_core.evaluation import wilson

WIDTH = 110


def safe(text: str) -> str:
    """The text with control, format and surrogate characters (line feed aside) as escapes."""
    return "".join(
        character
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else f"\\u{ord(character):04x}"
        for character in text
    )


def counts(numbers: Mapping[str, int]) -> str:
    """{"ok": 12, "truncated": 1} as "12 ok, 1 truncated"."""
    return ", ".join(f"{number:,} {safe(name)}" for name, number in sorted(numbers.items()) if number)


def share(successes: int, n: int) -> str:
    """A proportion in % with its 95 % interval (Wilson): "71.4 [66.0, 76.2]"; "-" of nothing."""
    if n == 0:
        return "-"
    low, high = wilson(successes, n)
    return f"{100 * successes / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def table(*headers: str, whole: tuple[str, ...] = ()) -> Table:
    """A table whose columns fold, but for those in whole (ids, to be copied)."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in headers:
        made.add_column(header, overflow="fold", no_wrap=header in whole)
    return made


def add_row(to: Table, *cells: str) -> None:
    """Add a row of plain text."""
    to.add_row(*(Text(cell) for cell in cells))


def page() -> Console:
    """A console that prints into memory, without colours; `text` reads it."""
    return Console(file=StringIO(), width=WIDTH, color_system=None, highlight=False, markup=False, emoji=False)


def text(console: Console) -> str:
    """What was printed on a page."""
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
