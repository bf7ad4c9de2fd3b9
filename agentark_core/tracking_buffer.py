"""A file of operations that MLflow has not taken yet: one JSON object a line, shared by all processes of a home.

{"op": "metrics", "run": "local-5f0c...", "metrics": {"loss": 0.41}, "step": 10, "time_ms": 1730000000000}

A line that a crash cut short is skipped; the next append starts on a line of its own.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Buffer:
    """Append-only for many writers; `drain` by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pending(self) -> bool:
        """Whether anything waits."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def append(self, op: dict[str, Any]) -> None:
        """Add one operation."""
        line = json.dumps(op).encode() + b"\n"
        with self._lock("lock", wait=True), self.path.open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = b"\n" + line
            file.write(line)

    def drain(self, apply: Callable[[dict[str, Any]], bool]) -> int:
        """Apply the operations in order until `apply` returns False, and remove those that were applied.

        Returns their number; 0 at once if another process is draining. Lines appended meanwhile stay.
        """
        with self._lock("replay.lock", wait=False) as held:
            if not held or not self.pending():
                return 0
            applied = applied_bytes = 0
            try:
                for line in self.path.read_bytes().splitlines(keepends=True):
                    op = _parse(line)
                    if op is not None:
                        if not apply(op):
                            break
                        applied += 1
                    applied_bytes += len(line)
            finally:
                self._drop(applied_bytes)
            return applied

    def _drop(self, size_bytes: int) -> None:
        with self._lock("lock", wait=True):
            rest = self.path.read_bytes()[size_bytes:]
            new = self.path.with_suffix(".new")
            new.write_bytes(rest)
            new.replace(self.path)

    @contextmanager
    def _lock(self, suffix: str, *, wait: bool) -> Iterator[bool]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(f".{suffix}").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True  # closing the file unlocks it


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        op = json.loads(line)
    except ValueError:
        op = None
    if isinstance(op, dict):
        return op
    if line.strip():
        logger.warning("skipped a cut line in the tracking buffer: %r", line[:80])
    return None
