"""Input files -> raw rows, one at a time, and the checks that every text from outside passes.

    for number, row in read_rows(Path("gsm8k.jsonl.gz")): ...      row is a dict, or a BadRow if it could not be parsed

Formats: .jsonl, .json (an array, or JSON lines as MedMCQA publishes it) and .csv, each also .gz; .parquet. Memory does
not grow with the size of the file. Row numbers are 1-based: the line of a .jsonl file (blank lines are no rows), the
data row (header not counted) of the others. A row that cannot be parsed is a BadRow; a file that cannot be read on
(truncated gzip or Parquet, broken JSON array) is a DataError, because nothing says how many rows are missing.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from agentark_core.errors import AgentArkError, DataError, EmptyDataset
from agentark_core.types import BadRow

MAX_TEXT_BYTES = 1_000_000
MAX_ROW_BYTES = 16 * 1024 * 1024
CHUNK_CHARS = 1024 * 1024
SPACE = re.compile(r"[ \t\r\n]*")

Row = tuple[int, dict[str, Any] | BadRow]
"""Row number and the row, or why it could not be parsed."""


class Place(NamedTuple):
    """Where a row of a table stands: its file (or hub id), and its row there (1-based)."""

    file: str
    row: int


PlacedRow = tuple[Place, dict[str, Any] | BadRow]


class RejectedRow(Exception):
    """Carries the reason why one row cannot be used; the caller turns it into a BadRow."""


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of the file in order. Raises DataError or EmptyDataset (one line: file, where, remedy)."""
    check_file(path)
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    number = 0
    try:
        if name.endswith(".parquet"):
            for number, row in _parquet_rows(path):
                yield number, row
        elif kind in (".jsonl", ".json", ".csv"):
            with open_bytes(path) as stream:
                read = _csv_rows if kind == ".csv" else _json_lines
                if kind == ".json" and starts_with(path, b"["):
                    read = _array_rows
                for number, row in read(stream, file=str(path)):
                    yield number, row
        else:
            raise DataError(f"{path}: unknown kind of file; use .jsonl, .json or .csv (each also .gz) or .parquet")
    except AgentArkError:
        raise
    except (OSError, EOFError, zlib.error, ValueError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{path}: broken or truncated after row {number} ({detail}); fetch or write the file again"
        ) from None


def check_file(path: Path) -> None:
    """Raise unless path is a regular file with something in it."""
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise DataError(f"{path}: not a file (a directory?); name one .jsonl, .json, .csv or .parquet file")
    if path.stat().st_size == 0:
        raise EmptyDataset(f"{path}: the file is empty; name a file with rows")


def file_sha256(path: Path) -> str:
    """sha256 of the file's bytes as they lie on disk (64 hex digits)."""
    check_file(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, decompressed if its name ends in .gz."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def starts_with(path: Path, mark: bytes) -> bool:
    """Whether the first character that is neither space nor a byte order mark is `mark`."""
    with open_bytes(path) as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(mark)


def bad_row(row: object, *, file: str, number: int, reason: str) -> BadRow:
    """A BadRow with a printable one-line excerpt of at most 200 characters."""
    if isinstance(row, dict):  # values are cut first, so a huge or deeply nested row costs nothing
        parts = (
            f"{str(key)[:40]!r}: {value[:80]!r}" if isinstance(value, str) else f"{str(key)[:40]!r}: {_kind(value)}"
            for key, value in row.items()
        )
        text = ", ".join(part for part, _ in zip(parts, range(8), strict=False))
    else:
        text = repr(row[:200] if isinstance(row, str | bytes) else _kind(row))
    return BadRow(file=file, row=number, reason=reason, excerpt=text[:200])


def text_of(row: dict[str, Any], key: str, *, allow_empty: bool = False) -> str:
    """row[key] as checked text; RejectedRow names the key and what was found."""
    if key not in row:
        found = ", ".join(repr(str(name)[:40]) for name in list(row)[:12])
        raise RejectedRow(f"no field {key!r} (found: {found})")
    return check_text(row[key], name=key, allow_empty=allow_empty)


def scalar_text(row: dict[str, Any], key: str) -> str:
    """Like text_of, where a number stands for its digits."""
    value = row.get(key)
    if type(value) is int or (isinstance(value, float | Decimal) and math.isfinite(value)):
        return str(value)
    return text_of(row, key)


def check_text(value: object, *, name: str, allow_empty: bool = False) -> str:
    """value if it is text that can be stored and shown to a model, else RejectedRow (F25, F31)."""
    if value is None:
        raise RejectedRow(f"{name}: null")
    if not isinstance(value, str):
        raise RejectedRow(f"{name}: expected text, found {_kind(value)}")
    if not allow_empty and not value.strip():
        raise RejectedRow(f"{name}: empty")
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise RejectedRow(f"{name}: bytes that are not UTF-8, or a lone surrogate") from None
    if "\0" in value:
        raise RejectedRow(f"{name}: contains a NUL character")
    if size_bytes > MAX_TEXT_BYTES:
        raise RejectedRow(f"{name}: {size_bytes} bytes, over the limit of {MAX_TEXT_BYTES}")
    return value


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}.get(
        type(value), f"a {type(value).__name__}"
    )


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines of at most MAX_ROW_BYTES; None stands for a longer one, which is skipped without being held."""
    while line := stream.readline(MAX_ROW_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_ROW_BYTES:
            yield line
            continue
        while (rest := stream.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def _json_lines(stream: BinaryIO, *, file: str) -> Iterator[Row]:
    for number, line in enumerate(_lines(stream), start=1):
        if line is None:
            yield number, BadRow(file=file, row=number, reason=f"line over {MAX_ROW_BYTES} bytes")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except UnicodeDecodeError:
            yield number, bad_row(line, file=file, number=number, reason="line is not UTF-8")
        except (ValueError, RecursionError) as error:
            yield number, bad_row(line, file=file, number=number, reason=f"broken JSON: {str(error)[:100]}")
        else:
            yield number, _object(value, file=file, number=number)


def _array_rows(stream: BinaryIO, *, file: str) -> Iterator[Row]:
    """Elements of one JSON array, parsed from a sliding buffer because published files reach 400 MB."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    decode = json.JSONDecoder().raw_decode
    buffer, number = text.read(CHUNK_CHARS).lstrip(), 0
    at = cast(re.Match[str], SPACE.match(buffer, 1)).end()
    if buffer.startswith("]", at):
        return
    while True:
        at = cast(re.Match[str], SPACE.match(buffer, at)).end()
        try:
            value, end = decode(buffer, at)
            end = cast(re.Match[str], SPACE.match(buffer, end)).end()
        except RecursionError:
            raise DataError(f"{file}: row {number + 1} is nested too deeply; remove it") from None
        except ValueError:
            end = len(buffer)
        if buffer[end : end + 1] not in (",", "]") or end == len(buffer):
            more = text.read(CHUNK_CHARS)
            if not more or len(buffer) - at > MAX_ROW_BYTES:
                raise DataError(f"{file}: broken JSON after row {number}; mend it or write one object a line (.jsonl)")
            buffer, at = buffer[at:] + more, 0
            continue
        number += 1
        yield number, _object(value, file=file, number=number)
        at = end + 1
        if buffer[end] == "]":
            break
    while not buffer[at:].strip() and (buffer := text.read(CHUNK_CHARS)):
        at = 0
    if buffer[at:].strip():
        raise DataError(f"{file}: more text after the JSON array, from row {number} on; write one array or .jsonl")


def _csv_rows(stream: BinaryIO, *, file: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_BYTES)  # process-wide; the default refuses fields over 128 KiB
    # surrogateescape keeps a bad byte inside its own row, where check_text refuses it
    reader = csv.DictReader(_csv_text(stream, file=file), strict=True)
    try:
        columns = reader.fieldnames or []
    except csv.Error as error:
        raise DataError(f"{file}: broken CSV header: {error}; mend the first line") from None
    if len(set(columns)) < len(columns):
        raise DataError(f"{file}: two columns of the CSV header have the same name; rename one")
    number = 0
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadRow(file=file, row=number, reason=f"broken CSV: {error}")
            continue
        if None in row:
            yield number, bad_row(row, file=file, number=number, reason="more fields than the header has columns")
        else:
            yield number, dict(row)


def _csv_text(stream: BinaryIO, *, file: str) -> Iterator[str]:
    for number, line in enumerate(_lines(stream), start=1):
        if line is None:
            raise DataError(f"{file}: line {number} is over {MAX_ROW_BYTES} bytes; is this a CSV file?")
        yield line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as table:
            for batch in table.iter_batches(batch_size=64):  # small: a hostile file may hold megabytes per cell
                for row in _batch_rows(batch):
                    number += 1
                    if isinstance(row, str):
                        yield number, BadRow(file=str(path), row=number, reason=row)
                    else:
                        yield number, row
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Rows of an Arrow batch; the reason for those with text that is not UTF-8 or a date out of range."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass  # to_pylist failed as a whole before it gave a row, so each is tried alone
    for i in range(batch.num_rows):
        try:
            yield batch.slice(i, 1).to_pylist()[0]
        except (ValueError, OverflowError) as error:
            yield f"unreadable value: {str(error)[:100]!r}"


def _object(value: object, *, file: str, number: int) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    return bad_row(value, file=file, number=number, reason=f"expected an object, found {_kind(value)}")
