r"""ProcessBench (arXiv 2412.06559): solutions whose first wrong step people have marked.

    {"problem": "Sue lives ..", "steps": ["To find ..", "So, ..."], "label": 1, "final_answer_correct": false}

A file is one JSON list or JSON lines, perhaps gzipped. label: index of the first wrong step, -1 if there is none.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A solution. steps join to its text, as its authors formed it; first_error: -1 if there is none."""

    sample_id: str
    question: str
    steps: tuple[str, ...]
    first_error: int
    final_correct: bool

    @property
    def labels(self) -> tuple[bool, ...]:
        """Whether each step up to the first wrong one is right; those behind it are not labelled."""
        if self.first_error < 0:
            return (True,) * len(self.steps)
        return (*(True,) * self.first_error, False)


def read(path: Path) -> list[Marked]:
    """All solutions of a file. Raises DataError naming the row that is not one."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    except (OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not readable as JSON, JSON lines or gzip of them ({reason}); download it again"
        ) from None
    return [_marked(row, where=f"{path}, row {number}") for number, row in enumerate(rows)]


def _marked(row: Any, *, where: str) -> Marked:
    try:
        question, steps, label = row["problem"], [str(step) for step in row["steps"]], int(row["label"])
        if not isinstance(question, str) or not -1 <= label < len(steps):
            raise ValueError
        return Marked(
            sample_id=str(row.get("id", where)),
            question=question,
            steps=(*(step + "\n\n" for step in steps[:-1]), steps[-1]),
            first_error=label,
            final_correct=bool(row["final_answer_correct"]),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{where}: expected problem, steps (at least one), label from -1 to their last index, and "
            "final_answer_correct, as ProcessBench has them"
        ) from None
