"""What is recorded of every query of a load, warm-up included; one row of load.parquet.

Example: method "teacher debate", rate 2.0, number 17, problem_id "arkling-01…", counted true, arrival_s 8.31,
sent_s 8.31, first_token_s 9.72, end_s 9.72, tpot_s 0.004, calls 10, prompt_tokens 1204, cached_tokens 832,
completion_tokens 530, status "answered", reason "".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

Status = Literal["answered", "no_answer", "failed"]
"""no_answer: it ended without an answer that the rules can read. failed: an error, or evaluation.load.timeout_s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query. Times are in seconds since its load began.

    rate: offered queries a second; None in a closed loop; infinite where as many queries as the engine has slots are at
    work all the time. counted: not warm-up. arrival_s: when it was due, which is
    where its latency begins; sent_s: when it was begun. first_token_s: when the first token of the answer was there.
    Where one call answers (a single call, a summariser, a judge), it is the first token of that call; a vote of several
    is not known before its last call ends, so it is end_s. None where nothing was generated, or answers come whole.
    tpot_s: time per output token after the first, mean over its calls; None if no call has two tokens.
    """

    method: str
    rate: float | None
    number: int
    problem_id: str
    counted: bool
    arrival_s: float
    sent_s: float
    first_token_s: float | None
    end_s: float
    tpot_s: float | None
    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    status: Status
    reason: str

    @property
    def latency_s(self) -> float:
        """End-to-end latency; infinite for a query that failed."""
        return float("inf") if self.status == "failed" else self.end_s - self.arrival_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, infinite for a query that failed; None where it is not known."""
        if self.status == "failed":
            return float("inf")
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s


_WORDS, _COUNTS = ("method", "problem_id", "status", "reason"), ("number", "calls")
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def _type(name: str) -> pa.DataType:
    if name in _WORDS:
        return pa.string()
    if name == "counted":
        return pa.bool_()
    return pa.int32() if name in _COUNTS else pa.int64() if name in _TOKENS else pa.float64()


SCHEMA = pa.schema([pa.field(name, _type(name)) for name in Query.__dataclass_fields__])


def to_table(queries: Sequence[Query]) -> pa.Table:
    """One row a query."""
    return pa.Table.from_pylist([asdict(query) for query in queries], schema=SCHEMA)


def from_table(table: pa.Table) -> list[Query]:
    """The inverse of `to_table`."""
    return [Query(**row) for row in table.to_pylist()]
