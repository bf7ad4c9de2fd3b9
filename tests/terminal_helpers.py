"""A terminal for tests: a pseudo-terminal to run a program in, and the screen that its output leaves."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from pathlib import Path

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|(\r)|(\n)|([^\x1b\r\n]+)|(\x1b)")


class Screen:
    """Endless paper instead of a screen of some height: lines that scroll off stay.

    Knows what rich and Prefect send: carriage return, line feed, cursor up, erase line, colours, cursor on and off.
    Anything else fails the test: it would do to a real terminal what the program did not mean.
    """

    def __init__(self) -> None:
        self.lines = [""]
        self.row = self.column = 0
        self.cursor_shown = True

    def feed(self, text: str) -> None:
        for match in _TOKEN.finditer(text):
            parameters, command, carriage_return, line_feed, plain, escape = match.groups()
            assert not escape, f"unknown escape sequence at {text[match.start() : match.start() + 20]!r}"
            if carriage_return:
                self.column = 0
            elif line_feed:
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)
            elif command == "A":
                self.row -= int(parameters or 1)
            elif command == "K":
                assert parameters == "2"
                self.lines[self.row] = ""
            elif command in ("h", "l"):
                assert parameters == "?25"
                self.cursor_shown = command == "h"
            else:
                assert command in ("m", None), f"unknown control sequence {match.group()!r}"

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


class Terminal:
    """A program on a pseudo-terminal of 120 columns; its output so far is in `output`."""

    def __init__(self, command: list[str], *, environment: dict[str, str], folder: Path) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            command,
            env={**environment, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            start_new_session=True,
        )
        os.close(theirs)
        self._data = b""
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _read(self, descriptor: int) -> None:
        try:
            while chunk := os.read(descriptor, 65536):
                self._data += chunk
        except OSError:  # EIO: the program has closed the terminal
            pass
        os.close(descriptor)

    @property
    def output(self) -> str:
        return self._data.decode("utf-8", errors="ignore")

    @property
    def screen(self) -> Screen:
        screen = Screen()
        screen.feed(self.output)
        return screen

    def wait(self, *, timeout_s: float) -> int:
        code = self.process.wait(timeout=timeout_s)
        self._reader.join(timeout=10)
        return code
