"""Questions of a debate run that are not learned from: test questions in other words, and repeats of earlier questions.

    {"problem_id": "math-3f..", "reason": "test question", "rule": "13-gram", "score": 0.8, "matched": "math-a1..", ...}

Committed once for a run and its test sets as the ledger stage `dropped-questions`, so that the list can be read. What
is dropped from a run does not change when further runs are learned from beside it: repeats are looked for among the
questions of the runs before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from agentark_core import records
from agentark_core.benchmark_prompts import bare
from agentark_core.ledger import Store, fingerprint
from agentark_core.near_duplicates import (
    NEAR_DUPLICATES_VERSION,
    Match,
    contaminated,
    near_duplicate_questions,
)
from agentark_core.stored import debate_store
from agentark_core.types import Problem

STAGE, SHARD = "dropped-questions", "all"

SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("problem_id", "reason", "rule")]
    + [pa.field("score", pa.float64(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in ("matched", "question", "matched_question")]
)
"""reason: `test question` or `repeated question`; matched: problem_id of the question that it repeats."""


def dropped_questions(home: Path, *, runs: Sequence[str], tests: Sequence[str]) -> Store:
    """The committed list for the last of runs (fingerprints of debate runs, in the order of learning); tests are
    fingerprints of committed test questions."""
    sources = [debate_store(home, run).config["problems"] for run in runs]
    shape = {"problems": sources, "tests": sorted(tests), "version": NEAR_DUPLICATES_VERSION}
    store = Store(home, stage=STAGE, fingerprint=fingerprint(STAGE, **shape), config=shape)
    if store.entry(SHARD) is None:
        with store.lease(SHARD, timeout_s=60) as lease:
            *earlier, own = ([*_questions(home, source)] for source in sources)
            table = _table(own, earlier=[p for part in earlier for p in part], tests=_tests(home, tests))
            meta = {"questions": len(own), "kept": len(own) - table.num_rows}
            store.commit(SHARD, table, lease=lease, config_hash=store.fingerprint, meta=meta)
    return store


def reasons(store: Store) -> dict[str, str]:
    """The reason of every dropped question by its problem_id."""
    table = store.read(columns=["problem_id", "reason"])
    return dict(zip(table["problem_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def _questions(home: Path, problems: str) -> list[Problem]:
    return records.table_to_problems(Store(home, stage="problems", fingerprint=problems).read())


def _tests(home: Path, tests: Sequence[str]) -> list[Problem]:
    return [problem for test in sorted(tests) for problem in _questions(home, test)]


def _asked(problems: Sequence[Problem]) -> list[str]:
    """The questions without a benchmark's own words, in which they would all share n-grams."""
    return [bare(problem.question, task=problem.task) for problem in problems]


def _table(own: list[Problem], *, earlier: list[Problem], tests: list[Problem]) -> pa.Table:
    found: dict[str, dict[str, object]] = {}

    def add(problem: Problem, match: Match, other: Problem, reason: str) -> None:
        found.setdefault(
            problem.problem_id,
            {
                "problem_id": problem.problem_id,
                "reason": reason,
                "rule": match.rule,
                "score": match.score,
                "matched": other.problem_id,
                "question": problem.question,
                "matched_question": other.question,
            },
        )

    if tests:
        for match in contaminated(_asked(own), _asked(tests)):
            add(own[match.index], match, tests[match.matched], "test question")
    both = [*earlier, *own]
    for match in near_duplicate_questions(_asked(both), [p.gold for p in both]):
        same_id = both[match.index].problem_id == both[match.matched].problem_id
        # One id is one question, debated again or by another teacher: no repeat.
        if match.index >= len(earlier) and not same_id:
            add(both[match.index], match, both[match.matched], "repeated question")
    return pa.Table.from_pylist(list(found.values()), schema=SCHEMA)
