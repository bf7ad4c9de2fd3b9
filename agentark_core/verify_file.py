"""Verify a file of cases: JSON lines (or .gz) in, one Parquet row per input row out.

    in   {"id": "q1", "task": "gsm8k", "question": "...", "gold": "12", "response": "... \\\\boxed{12}"}
    out  id="q1"  status="correct"  method="number"  extracted="12"

status is correct | incorrect | undecided | bad_row; a bad row (broken JSON, a missing or wrong-typed field, an unknown
task, a repeated id) keeps its place with the reason in `method`. The file appears whole or not at all.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from agentark_core.answers import kind_of
from agentark_core.errors import DataError, EmptyDataset, StorageFull
from agentark_core.verify import Case, Verifier

COLUMNS = ("id", "status", "method", "extracted")
_BATCH = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One input row: a case, or the reason why it is none."""

    row_id: str
    case: Case | None = None
    fault: str = ""


def verify_file(cases: Path, *, out: Path, workers: int = 2) -> dict[str, int]:
    """Verify every row of `cases`, write `out`, and return the number of rows by status (their sum is the rows in).

    Raises DataError if the file is missing or its gzip is broken, EmptyDataset if it has no row, StorageFull.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    rows = _rows(cases)
    first = next(rows, None)
    if first is None:
        raise EmptyDataset(f"{cases}: no rows; expected JSON lines with id, task, gold and response")
    counts: Counter[str] = Counter(correct=0, incorrect=0, undecided=0, bad_row=0)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            temporary.open("wb") as file,
            pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
            Verifier(workers=workers) as verifier,
        ):
            for batch in _batches(rows, first=first):
                table = _verify_rows(batch, verifier=verifier)
                counts.update(table["status"])
                writer.write_table(pa.table(table, schema=schema))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.rename(out)
        _sync_folder(out.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull(f"{out}: no space left for about {cases.stat().st_size} bytes; free some") from error
        raise DataError(f"{out}: cannot be written: {error.strerror}; choose another --out") from error
    finally:
        temporary.unlink(missing_ok=True)
    return dict(counts)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _batches(rows: Iterator[_Row], *, first: _Row) -> Iterator[list[_Row]]:
    batch = [first, *islice(rows, _BATCH - 1)]
    while batch:
        yield batch
        batch = list(islice(rows, _BATCH))


def _verify_rows(batch: list[_Row], *, verifier: Verifier) -> dict[str, list[str | None]]:
    verdicts = iter(verifier.verify_many([row.case for row in batch if row.case is not None]))
    table: dict[str, list[str | None]] = {name: [] for name in COLUMNS}
    for row in batch:
        values: tuple[str, str, str | None] = ("bad_row", row.fault, None)
        if row.case is not None:
            verdict = next(verdicts)
            values = (verdict.label, verdict.method, verdict.extracted)
        for name, value in zip(COLUMNS, (row.row_id, *values), strict=True):
            table[name].append(None if value is None else _storable(value))
    return table


def _storable(text: str) -> str:
    """UTF-8 has no lone surrogates; they become visible escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _rows(path: Path) -> Iterator[_Row]:
    """Every non-blank line as a row; a repeated id makes the later row bad."""
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        row = _parse(line, number=number)
        if row.case is not None and row.row_id in seen:
            row = _Row(row_id=row.row_id, fault=f"line {number}: duplicate id")
        seen.add(row.row_id)
        yield row


def _lines(path: Path) -> Iterator[bytes]:
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(cast(Iterable[bytes], file), start=1):  # noqa: B007
                yield line
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give a .jsonl or .jsonl.gz file of cases") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: broken gzip after line {number}: {error}; copy or download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _parse(line: bytes, *, number: int) -> _Row:
    row_id = f"line {number}"
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):  # broken JSON, or not UTF-8
        return _Row(row_id=row_id, fault=f"line {number}: not a JSON object in UTF-8")
    if not isinstance(data, dict):
        return _Row(row_id=row_id, fault=f"line {number}: a {type(data).__name__} where an object is expected")
    if isinstance(data.get("id"), str) or type(data.get("id")) is int:
        row_id = str(data["id"])
    else:
        return _Row(row_id=row_id, fault=f"line {number}: id is missing or neither text nor a number")
    for key in ("task", "gold", "response"):
        if not isinstance(data.get(key), str):
            return _Row(row_id=row_id, fault=f"line {number}: {key} is missing or not text")
    question = data.get("question")
    if question is not None and not isinstance(question, str):
        return _Row(row_id=row_id, fault=f"line {number}: question is not text")
    if not data["gold"].strip():
        return _Row(row_id=row_id, fault=f"line {number}: gold is empty")
    try:
        kind_of(data["task"])
    except DataError as error:
        return _Row(row_id=row_id, fault=f"line {number}: {error}")
    case = Case(response=data["response"], gold=data["gold"], task=data["task"], question=question or "")
    return _Row(row_id=row_id, case=case)
