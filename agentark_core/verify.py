r"""Verdicts for many cases, and for a file of them: is the final answer of each response right?

    in   {"id": "q1", "task": "gsm8k", "question": "...", "gold": "12", "response": "... \\boxed{12}"}
    out  id="q1"  status="correct"  method="number"  extracted="12"

Two stages: the rules of verify_rules.py in microseconds; for what they leave, two short formulas go to killable
children (verify_pool.py) where Math-Verify decides. `undecided` is never counted as wrong: its method is "timeout",
"memory", "too_large" (refused before any algebra), "unparsed", "choice" (no option named) or "free_text" (prose).
A judge, if one is given, takes only these (judge.py); its method is "judge".

In a file's table status is correct | incorrect | undecided | bad_row; a bad row (broken JSON, a missing or wrong-typed
field, an unknown task, a repeated id) keeps its place, with the reason in `method`. The table appears whole or never.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from agentark_core.answer_forms import latex
from agentark_core.answers import kind_of
from agentark_core.errors import DataError, EmptyDataset, StorageFull
from agentark_core.types import Verdict
from agentark_core.verify_pool import Outcome, WorkerPool
from agentark_core.verify_rules import answer_and_gold, correct_if_formed, verify_fast

__all__ = ["COLUMNS", "VERIFIER_VERSION", "Case", "Verifier", "read_cases", "verify_fast", "verify_file"]

VERIFIER_VERSION = "rules-2"
"""Changes with the rules: part of the verdicts' fingerprint."""

COLUMNS = ("id", "status", "method", "extracted")
_BATCH = 2_000
_MAX_CACHED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One response to verify. question is used for the options of a choice and the form it asks for."""

    response: str
    gold: str
    task: str
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One input row: a case, or the reason why it is none."""

    row_id: str
    case: Case | None = None
    fault: str = ""


Decide = Callable[[Sequence[Case], Sequence[Verdict]], list[Verdict]]
"""Cases and the verdicts of the rules -> the verdicts with the undecided ones decided where that was possible."""


def verify_file(cases: Path, *, out: Path, workers: int = 2, judge: Decide | None = None) -> dict[str, int]:
    """Verify every row of `cases`, write `out`, and return the number of rows by status (their sum is the rows in).

    judge sees each batch of cases after the rules.

    Raises DataError if the file is missing or its gzip is broken, EmptyDataset if it has no row, StorageFull.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    rows = _rows(cases)
    first = next(rows, None)
    if first is None:
        raise EmptyDataset(f"{cases}: no rows; expected JSON lines with id, task, gold and response")
    counts: Counter[str | None] = Counter()
    counts.update({"correct": 0, "incorrect": 0, "undecided": 0, "bad_row": 0})
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
            Verifier(workers=workers) as verifier,
        ):
            for batch in _batches(rows, first=first):
                table = _verify_rows(batch, verifier=verifier, judge=judge)
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
    return {str(status): number for status, number in counts.items()}


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


def _verify_rows(batch: list[_Row], *, verifier: Verifier, judge: Decide | None) -> dict[str, list[str | None]]:
    cases = [row.case for row in batch if row.case is not None]
    decided = verifier.verify_many(cases)
    verdicts = iter(judge(cases, decided) if judge else decided)
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


def read_cases(path: Path) -> Iterator[tuple[str, Case | None]]:
    """(id, case) of every row of a file of cases, in order; None for a bad row. Raises DataError."""
    return ((row.row_id, row.case) for row in _rows(path))


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


def _from_outcome(outcome: Outcome, *, case: Case) -> Verdict:
    found, gold = answer_and_gold(case.response, gold=case.gold, task=case.task)
    answer = found or ""
    if outcome == "equal":
        return correct_if_formed(answer, gold=gold, question=case.question, method="math_verify")
    if outcome == "different":
        return Verdict(label="incorrect", method="math_verify", extracted=answer)
    reasons = {"timeout": "time limit", "memory": "memory limit", "unparsed": "no formula that the parser reads"}
    return Verdict(label="undecided", method=outcome, extracted=answer, reason=reasons[outcome])


class Verifier:
    """Verifies many cases: fast path first, children for the rest, started only when something is left for them.

    One verdict per distinct (gold, answer) pair is computed and kept, so repeated answers cost nothing.
    """

    def __init__(self, *, workers: int, time_limit_s: float = 2.0, memory_limit_bytes: int = 2**30) -> None:
        self.pool = WorkerPool(workers=workers, time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes)
        self._known: dict[tuple[str, str], Outcome] = {}

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def verify_many(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict per case, in order. Raises DataError on an unknown task."""
        verdicts = [verify_fast(c.response, gold=c.gold, task=c.task, question=c.question) for c in cases]
        left: dict[int, tuple[str, str]] = {}
        for index, (case, verdict) in enumerate(zip(cases, verdicts, strict=True)):
            if verdict is None:
                answer, gold = answer_and_gold(case.response, gold=case.gold, task=case.task)
                left[index] = (latex(gold), latex(answer or ""))
        if len(self._known) > _MAX_CACHED:
            self._known.clear()
        new = [pair for pair in dict.fromkeys(left.values()) if pair not in self._known]
        self._known.update(zip(new, self.pool.compare(new), strict=True))
        for index, pair in left.items():
            verdicts[index] = _from_outcome(self._known[pair], case=cases[index])
        return [verdict for verdict in verdicts if verdict is not None]
