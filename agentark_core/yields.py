"""What debate runs gave to learn from, beside the paper's Table 3: text, Markdown, and rows of plain data.

data set  teacher       kind  questions  left out  candidates  rows  rows a question
arkling   arkling-42..  rsft        200         3       1,182   824             4.12
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentark_core import extraction, markdown, terminal
from agentark_core.extraction import KINDS, ExtractJob
from agentark_core.stored import debate_store
from agentark_core.terminal import add_row

Row = dict[str, Any]

COLUMNS = ("data set", "teacher", "kind", "questions", "left out", "candidates", "rows", "rows a question")
NOTE = (
    "questions: all that were debated; left out: test questions and repeats among them. candidates: traces that were "
    "looked at. rows: what was kept. rows a question: over all questions that were debated."
)
PAPER_COLUMNS = ("data set", "questions", "traces", "traces a question")
PAPER = (
    ("GSM8K", "7,473", "44,838", "6"),
    ("MATH", "500", "3,000", "6"),
    ("MetaMathQA", "151k", "906k", "6"),
    ("MedMCQA", "183k", "1.1M", "6"),
)
PAPER_NOTE = (
    "The paper's Table 3 (arXiv 2602.03955), as published: six traces a question everywhere, which is the last trace "
    "of each of five agents and the summary, so nothing was filtered. It compares with our candidates, not our rows."
)


def rows(job: ExtractJob) -> list[Row]:
    """A row for each kind, from the manifest; candidates is None for kinds that are not chosen among traces."""
    described = debate_store(job.home, job.debates).config
    made = []
    for kind in KINDS:
        total = extraction.totals(job, kind)
        asked = sum(total["questions"].values())
        cells = (
            described["dataset"],
            described.get("model_revision", "imported"),
            kind,
            asked,
            asked - total["questions"].get("kept", 0),
            total["counts"].get("candidates"),
            total["rows"],
            round(total["rows"] / asked, 2) if asked else 0.0,
        )
        made.append(dict(zip(COLUMNS, cells, strict=True)))
    return made


def cells(row: Row) -> list[str]:
    """A row as text."""
    *names, asked, left_out, candidates, kept, a_question = (row[name] for name in COLUMNS)
    numbers = ["-" if number is None else f"{number:,}" for number in (asked, left_out, candidates, kept)]
    return [*names, *numbers, f"{a_question:.2f}"]


def render_markdown(rows: Sequence[Row]) -> str:
    """Our table and the paper's."""
    ours = [[markdown.inline(cell) for cell in cells(row)] for row in rows]
    parts = [markdown.table(COLUMNS, ours, left=3), NOTE, markdown.table(PAPER_COLUMNS, PAPER, left=1), PAPER_NOTE]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def render_text(rows: Sequence[Row]) -> str:
    """Our table and the paper's, for a terminal."""
    page = terminal.page()
    for headers, lines, note in ((COLUMNS, [cells(row) for row in rows], NOTE), (PAPER_COLUMNS, PAPER, PAPER_NOTE)):
        table = terminal.table(*headers, whole=("kind",))
        for line in lines:
            add_row(table, *(terminal.safe(cell) for cell in line))
        page.print(table)
        page.print(note)
    return terminal.text(page)
