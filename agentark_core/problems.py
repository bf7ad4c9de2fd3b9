"""Benchmarks and user files -> Problem; rows that cannot be used are kept aside as BadRow with the reason.

    {"question": "Ann has 3 apples ...", "answer": "3 + 4 = 7\\n#### 7"}     a row of gsm8k.jsonl
    Problem(problem_id="gsm8k-5f0c...", task="gsm8k", question="Ann has 3 apples ...", gold="7", ...)

Every row ends as one Problem or one BadRow. Two rows with the same question and different golds are both set aside,
because nothing says which gold is right; of rows with the same question and gold the first is kept. offset and limit
count the questions that are left, so that a share of bad rows cannot hide behind a small limit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agentark_core import benchmarks
from agentark_core.benchmarks import RowParts
from agentark_core.config import ProblemsConfig, check_name
from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.rows import RejectedRow, Row, bad_row, file_sha256, read_rows, scalar_text, text_of
from agentark_core.types import BadRow, Problem

HUB = {
    "gsm8k": ("openai/gsm8k", "main", {"train": "train", "distil": "train", "test": "test"}),
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default", {"train": "train", "distil": "train", "test": "test"}),
    "medmcqa": (
        "openlifescienceai/medmcqa",
        "default",
        {"train": "train", "distil": "train", "test": "validation"},  # the hub's test split hides the answers
    ),
    "metamath": ("meta-math/MetaMathQA", "default", {"train": "train", "distil": "train"}),
}
"""Benchmark -> hub id, its configuration, and our splits in its names."""

REPEATED = "same question and gold as row "


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedProblems:
    """What `load` returns.

    revision is the sha256 of the file's bytes, "<hub id>@<commit>", or the arkling version and split. source is the
    file or hub id; for MedMCQA it also says from where `cop` was found to count.
    """

    problems: tuple[Problem, ...]
    bad_rows: tuple[BadRow, ...]
    revision: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Rows that can be read more than once, and where they come from."""

    source: str
    revision: str
    rows: Callable[[], Iterator[Row]]


def load(config: ProblemsConfig, *, seed: int = 0) -> LoadedProblems:
    """Read, validate and slice the questions that config names. seed is used by arkling only.

    Raises ConfigError, DataError (unreadable file, too many bad rows) or EmptyDataset, each one line with the remedy.
    """
    if config.source == "arkling":
        return _load_arkling(config, seed=seed)
    table = _open_file(config.path) if config.path else _open_hub(config)
    source = table.source
    rule: Callable[[dict[str, Any]], RowParts]
    if config.source == "medmcqa":
        base = benchmarks.cop_base(table.rows(), source=source)
        rule, source = partial(benchmarks.medmcqa, base=base), f"{source} (cop counts from {base})"
    elif config.source == "file":
        _check_columns(table.rows(), config=config)
        rule = partial(_user_row, config=config)
    else:
        rule = {"gsm8k": benchmarks.gsm8k, "math": benchmarks.math, "metamath": benchmarks.metamath}[config.source]
    problems, bad = _collect(table, rule=rule, dataset=config.dataset or config.source, split=config.split)
    # MetaMathQA holds many answers to one question by design (AnsAug), so its repeats are no sign of a broken file.
    counted = [row for row in bad if not (config.source == "metamath" and row.reason.startswith(REPEATED))]
    _check_bad_rows(counted, good=len(problems), limit=config.max_bad_row_share, source=table.source)
    chosen = problems[config.offset : config.offset + config.limit if config.limit else None]
    if not chosen:
        raise EmptyDataset(
            f"{table.source}: problems.offset {config.offset} skips all {len(problems)} questions; lower it"
        )
    return LoadedProblems(problems=tuple(chosen), bad_rows=tuple(bad), revision=table.revision, source=source)


def write_bad_rows(bad_rows: Iterable[BadRow], path: Path) -> None:
    """Write one JSON object per bad row; the file appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(row)) + "\n" for row in bad_rows)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def make_problem(parts: RowParts, *, dataset: str, split: str) -> Problem:
    """Parts with an id: the row's own if it has one, else from the content, so that file order does not matter.

    Raises RejectedRow if the row's own id cannot safely name a file.
    """
    name = parts.row_id
    if not name:
        content = json.dumps([dataset, parts.question, parts.gold])
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
    try:
        problem_id = check_name(f"{dataset}-{name}")
    except ValueError as error:
        raise RejectedRow(str(error)) from None
    return Problem(
        problem_id=problem_id,
        dataset=dataset,
        task=parts.task,
        question=parts.question,
        gold=parts.gold,
        split=split,
        meta=parts.meta,
    )


# ---- where the rows come from


def _load_arkling(config: ProblemsConfig, *, seed: int) -> LoadedProblems:
    from agentark_core.arkling.generator import GENERATOR_VERSION, problems

    if not config.limit:
        raise ConfigError("problems.limit: arkling is endless and needs a limit; set how many questions to generate")
    made = problems(config.split, limit=config.limit, offset=config.offset, seed=seed)
    revision = f"arkling-{GENERATOR_VERSION}-{config.split}"
    return LoadedProblems(problems=tuple(made), bad_rows=(), revision=revision, source="arkling")


def _open_file(path: str) -> _Table:
    return _Table(source=path, revision=file_sha256(Path(path)), rows=partial(read_rows, Path(path)))


def _open_hub(config: ProblemsConfig) -> _Table:
    if config.source == "file":
        raise ConfigError("problems.path: empty; source `file` needs a .jsonl, .json, .csv or .parquet file")
    name, subset, splits = HUB[config.source]
    if config.split not in splits:
        raise ConfigError(f"problems.split: {name} has no {config.split!r} split; use one of {', '.join(splits)}")
    try:
        from datasets import load_dataset
        from huggingface_hub import HfApi

        commit = HfApi().dataset_info(name).sha
        table = load_dataset(name, subset, split=splits[config.split], revision=commit)
    except Exception as error:  # the hub client raises the errors of a dozen libraries; all mean the same to the user
        raise DataError(
            f"{config.source}: {name} could not be read from the hub ({type(error).__name__}); "
            "set problems.path to a local copy of the file"
        ) from None
    return _Table(
        source=name,
        revision=f"{name}@{commit}",
        rows=lambda: ((number, dict(row)) for number, row in enumerate(table, start=1)),
    )


def _user_row(row: dict[str, Any], *, config: ProblemsConfig) -> RowParts:
    return RowParts(
        question=text_of(row, config.question_column),
        gold=benchmarks.gold_of(scalar_text(row, config.answer_column), task=config.task),
        task=config.task,
        row_id=scalar_text(row, config.id_column) if config.id_column else "",
    )


# ---- validation of the whole file


def _check_columns(rows: Iterator[Row], *, config: ProblemsConfig) -> None:
    """A table without a named column is a wrong setting, not a file of bad rows (JSON rows may each differ)."""
    if not config.path.lower().endswith((".csv", ".csv.gz", ".parquet")):
        return
    found = next((row for _, row in rows if isinstance(row, dict)), {})
    for setting in ("question_column", "answer_column", "id_column"):
        column = getattr(config, setting)
        if found and column and column not in found:
            names = ", ".join(repr(str(name)[:40]) for name in list(found)[:20])
            raise DataError(f"{config.path}: no column {column!r} (found: {names}); set problems.{setting}")


def _collect(
    table: _Table, *, rule: Callable[[dict[str, Any]], RowParts], dataset: str, split: str
) -> tuple[list[Problem], list[BadRow]]:
    total = 0
    bad: list[BadRow] = []
    read: list[tuple[int, Problem]] = []
    golds: dict[str, dict[str, int]] = {}  # question -> gold -> first row with both
    for number, row in table.rows():
        total += 1
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            problem = make_problem(rule(row), dataset=dataset, split=split)
        except RejectedRow as error:
            bad.append(bad_row(row, file=table.source, number=number, reason=str(error)))
            continue
        read.append((number, problem))
        golds.setdefault(problem.question, {}).setdefault(problem.gold, number)
    problems: list[Problem] = []
    rows_by_id: dict[str, int] = {}
    for number, problem in read:
        reason = _clash(problem, number=number, golds=golds[problem.question], rows_by_id=rows_by_id)
        if reason:
            bad.append(bad_row(problem.question, file=table.source, number=number, reason=reason))
        else:
            problems.append(problem)
            rows_by_id[problem.problem_id] = number
    assert total == len(problems) + len(bad), "a row was lost or counted twice"
    return problems, sorted(bad, key=lambda row: row.row)


def _clash(problem: Problem, *, number: int, golds: dict[str, int], rows_by_id: dict[str, int]) -> str:
    """Why this problem cannot stand beside the others of its file; "" if it can."""
    for other, row in golds.items():
        if other != problem.gold:
            return f"same question as row {row} with another gold ({problem.gold[:40]!r} here, {other[:40]!r} there)"
    if golds[problem.gold] != number:
        return f"{REPEATED}{golds[problem.gold]}"
    if problem.problem_id in rows_by_id:
        return f"duplicate id {problem.problem_id!r}, same as row {rows_by_id[problem.problem_id]}"
    return ""


def _check_bad_rows(bad: list[BadRow], *, good: int, limit: float, source: str) -> None:
    total = good + len(bad)
    if not total:
        raise EmptyDataset(f"{source}: no rows; set problems.path to a file with questions")
    first = f"first: row {bad[0].row}: {bad[0].reason}" if bad else ""
    if not good:
        raise EmptyDataset(f"{source}: all {total} rows are bad, {first}; mend them or check problems.source")
    if len(bad) > limit * total:
        raise DataError(
            f"{source}: {len(bad)} of {total} rows are bad (limit {limit * 100:g} %), {first}; "
            "mend them or raise problems.max_bad_row_share"
        )
