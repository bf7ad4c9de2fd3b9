"""Raw rows: what is damaged stays in its own row, and limits hold while reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentark_core import rows
from agentark_core.types import BadRow

GOOD = {"question": "What is 1 + 1?", "answer": "#### 2"}


def bad_rows(path: Path) -> list[tuple[int, str]]:
    """(row, reason) of the rows that cannot be parsed or whose question is no usable text."""
    found = []
    for number, row in rows.read_rows(path):
        if isinstance(row, BadRow):
            found.append((number, row.reason))
            continue
        try:
            rows.text_of(row, "question")
        except rows.RejectedRow as error:
            found.append((number, str(error)))
    return found


def test_bytes_that_are_not_utf8_spoil_only_their_row(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"question": "\xff", "answer": "#### 1"}\n')
    assert bad_rows(tmp_path / "b.jsonl") == [(2, "line is not UTF-8")]
    (tmp_path / "b.csv").write_bytes(b"question,answer\nq1,#### 1\n\xff,#### 1\nq3,#### 3,extra\nq4,#### 4\n")
    assert [row for row, _ in bad_rows(tmp_path / "b.csv")] == [2, 3]
    column = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"q1\xff")]
    )
    pq.write_table(pa.table({"question": column, "answer": ["#### 1", "#### 2"]}), tmp_path / "b.parquet")
    assert [row for row, _ in bad_rows(tmp_path / "b.parquet")] == [2]


def test_a_line_over_the_limit_is_skipped_without_losing_the_next(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 1000)
    file = tmp_path / "b.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in (GOOD, {"question": "q" * 5000}, GOOD)))
    assert bad_rows(file) == [(2, "line over 1000 bytes")]


def test_json_array_is_read_across_buffer_boundaries(tmp_path: Path, monkeypatch: Any) -> None:
    lines = [{"question": f'a "]," {{ {i}', "answer": f"#### {i}"} for i in range(40)]
    (tmp_path / "a.json").write_text(json.dumps(lines) + " \n")
    expected = list(rows.read_rows(tmp_path / "a.json"))
    for size in (1, 7, 64):
        monkeypatch.setattr(rows, "CHUNK_CHARS", size)
        assert list(rows.read_rows(tmp_path / "a.json")) == expected and len(expected) == 40
