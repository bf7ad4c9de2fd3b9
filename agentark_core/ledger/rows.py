"""Turn rows as Arrow tables, byte-exact (NUL, right-to-left marks, emoji, long lines).

Row: work_id "9f…", problem_id "gsm8k-01…", round 2, agent 3, seed 17, text "…", answer "18", prompt_tokens 812,
cached_tokens 640, completion_tokens 201, finish_reason "stop", status "ok", role "agent", thinking "", shown_limit 0.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from agentark_core.errors import DataError
from agentark_core.types import Turn

TURN_SCHEMA = pa.schema(
    [
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("agent", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("answer", pa.large_string()),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("cached_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("thinking", pa.large_string(), nullable=False),
        pa.field("shown_limit", pa.int32(), nullable=False),
    ]
)
"""One row per generation, the fields of `Turn`; text may exceed 2 GiB per column, hence large_string."""


_NAMES = tuple(TURN_SCHEMA.names)


def turn_record(turn: Turn) -> dict[str, Any]:
    """A turn as plain JSON data (a tenth of the time of dataclasses.asdict, which copies every value)."""
    return {name: getattr(turn, name) for name in _NAMES}


def turns_to_table(turns: list[Turn]) -> pa.Table:
    """Turns as a table with TURN_SCHEMA. DataError names the key of a text that is not valid Unicode (F31)."""
    try:
        return pa.Table.from_pylist([turn_record(turn) for turn in turns], schema=TURN_SCHEMA)
    except UnicodeEncodeError:
        for turn in turns:
            _refuse_surrogates(turn)
        raise


def table_to_turns(table: pa.Table) -> list[Turn]:
    """The inverse of turns_to_table; other columns are ignored."""
    return [Turn(**row) for row in table.select(TURN_SCHEMA.names).to_pylist()]


def _refuse_surrogates(turn: Turn) -> None:
    for name, value in turn_record(turn).items():
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            raise DataError(
                f"turn ({turn.work_id}, round {turn.round}, agent {turn.agent}): {name} holds half a surrogate pair, "
                "which no UTF-8 file can store; replace it or set the row aside"
            )
