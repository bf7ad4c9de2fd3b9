"""Arrow tables of problems and verdicts, and debates put together again from committed tables.

A problems row:  {problem_id, dataset, task, question, gold, split, meta}, with {references, wrong_references, shots}
                 where a problem of the table has any: tables of other problems are what they were before these existed
A verdicts row:  {work_id, round, agent, label, method, extracted, reason}
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from agentark_core.ledger import table_to_turns, turns_to_table
from agentark_core.types import Debate, Problem, Turn, Verdict

TurnKey = tuple[str, int, int]
"""(work_id, round, agent): the key of one generation."""

PROBLEM_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("problem_id", "dataset", "task", "question", "gold")]
    + [pa.field("split", pa.string(), nullable=False), pa.field("meta", pa.string(), nullable=False)]
)
LIST_FIELDS = [
    pa.field("references", pa.list_(pa.string())),
    pa.field("wrong_references", pa.list_(pa.string())),
    pa.field("shots", pa.list_(pa.list_(pa.string()))),
]
VERDICT_SCHEMA = pa.schema(
    [
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("agent", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("extracted", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def problems_to_table(problems: Sequence[Problem]) -> pa.Table:
    """One row per problem; `meta` as JSON text."""
    names = [name for name in PROBLEM_SCHEMA.names if name != "meta"]
    columns = {name: [getattr(problem, name) for problem in problems] for name in names}
    columns["meta"] = [json.dumps(problem.meta, sort_keys=True) for problem in problems]
    table = pa.table(columns, schema=PROBLEM_SCHEMA)
    for field in LIST_FIELDS:
        values = [getattr(problem, field.name) for problem in problems]
        if any(values):
            table = table.append_column(field, pa.array(values, field.type))
    return table


def table_to_problems(table: pa.Table) -> list[Problem]:
    """The inverse of `problems_to_table`."""
    return [_problem(row) for row in table.to_pylist()]


def _problem(row: dict[str, Any]) -> Problem:
    lists = {field.name: tuple(row.get(field.name) or ()) for field in LIST_FIELDS}
    lists["shots"] = tuple(map(tuple, lists["shots"]))
    return Problem(**{**row, "meta": json.loads(row["meta"]), **lists})


def verdicts_to_table(verdicts: Mapping[TurnKey, Verdict]) -> pa.Table:
    """One row per verified turn."""
    rows = [
        {
            "work_id": work_id,
            "round": round,
            "agent": agent,
            "label": verdict.label,
            "method": verdict.method,
            "extracted": verdict.extracted,
            "reason": verdict.reason,
        }
        for (work_id, round, agent), verdict in verdicts.items()
    ]
    return pa.Table.from_pylist(rows, schema=VERDICT_SCHEMA)


def table_to_verdicts(table: pa.Table) -> dict[TurnKey, Verdict]:
    """The inverse of `verdicts_to_table`."""
    return {
        (row["work_id"], row["round"], row["agent"]): Verdict(
            label=row["label"], method=row["method"], extracted=row["extracted"], reason=row["reason"]
        )
        for row in table.to_pylist()
    }


def debates_to_table(debates: Iterable[Debate]) -> pa.Table:
    """One row per turn, with the debate's stop_reason and decision beside it."""
    turns: list[Turn] = []
    stop_reasons: list[str] = []
    decisions: list[str | None] = []
    for debate in debates:
        turns += debate.turns
        stop_reasons += [debate.stop_reason] * len(debate.turns)
        decisions += [debate.answer] * len(debate.turns)
    return (
        turns_to_table(turns)
        .append_column(pa.field("stop_reason", pa.string(), nullable=False), pa.array(stop_reasons, pa.string()))
        .append_column(pa.field("decision", pa.large_string()), pa.array(decisions, pa.large_string()))
    )


def table_to_debates(table: pa.Table, *, problems: Mapping[str, Problem]) -> Iterator[Debate]:
    """Debates of a committed table, in its order; problems maps problem_id to Problem."""
    work_ids = table.column("work_id").to_pylist()
    stop_reasons = dict(zip(work_ids, table.column("stop_reason").to_pylist(), strict=True))
    decisions = dict(zip(work_ids, table.column("decision").to_pylist(), strict=True))
    turns_of: dict[str, list[Turn]] = defaultdict(list)
    for turn in table_to_turns(table):
        turns_of[turn.work_id].append(turn)
    for work_id, turns in turns_of.items():
        yield Debate(
            work_id=work_id,
            problem=problems[turns[0].problem_id],
            turns=tuple(turns),
            stop_reason=stop_reasons[work_id],
            answer=decisions[work_id],
        )
