"""Plain text for terminals. Text of models and data is shown, never obeyed.

It goes through rich's Text, so no markup in it is interpreted, and control characters are shown as escapes: a trace
cannot move the cursor.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import StringIO
from typing import IO, Any, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentark_core.statistics import wilson

WIDTH = 110


def safe(text: str) -> str:
    """The text with control, format and surrogate characters (line feed aside) as escapes."""
    if text.replace("\n", "").isprintable():  # the rule, a hundred times faster; also refuses unusual spaces
        return text
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


@contextmanager
def lines_above(console: Console) -> Iterator[threading.RLock]:
    """While something live is drawn on console, whole lines that others write to the terminal appear above it.

    Others: print, and log handlers that write through a rich console of their own (Prefect's, rich's). Whoever draws on
    console must hold the lock that is yielded. rich's Live has such a redirection too, but composes and writes in two
    steps: when lines came from several threads while the height of the view changed, some were erased.
    """
    lock = threading.RLock()
    with ExitStack() as stack:
        for handler in logging.getLogger().handlers:
            other = getattr(handler, "console", None)
            if isinstance(other, Console) and other.is_terminal:
                stack.callback(setattr, other, "file", other.file)
                other.file = cast(IO[str], _Above(console, other.file, lock))
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                above = _Above(console, stream, lock)
                setattr(sys, name, above)
                stack.callback(setattr, sys, name, stream)
                stack.callback(above.end)
        yield lock


class _Above(io.TextIOBase):
    """A stream in place of the terminal: its lines are printed through console, one at a time."""

    def __init__(self, console: Console, stream: IO[str], lock: threading.RLock) -> None:
        self._console = console
        self._stream = stream
        self._lock = lock
        self._rest = ""

    def write(self, text: str) -> int:
        with self._lock:
            lines, end, self._rest = (self._rest + text).rpartition("\n")
            if end:
                self._console.print(Text.from_ansi(lines), soft_wrap=True)
        return len(text)

    def end(self) -> None:
        """Print what has no line feed yet."""
        if self._rest:
            self.write("\n")

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self._stream, "encoding", "utf-8"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
