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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agentark_core.benchmark_prompts import asked, prompt_revision
from agentark_core.benchmarks import RowParts
from agentark_core.config import ProblemsConfig, check_name
from agentark_core.contexts import ContextBudget
from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.few_shot import draw_shots
from agentark_core.ledger import Store
from agentark_core.rows import Place, RejectedRow, bad_row
from agentark_core.sources import LICENCES, Table, open_table, rule_of
from agentark_core.text_benchmarks import READ_ANEW
from agentark_core.types import BadRow, Problem

LATER_SETTINGS = {"context_column", "max_context_tokens", "tokenizer", "few_shot", "few_shot_path"}

CUT = "context_tokens_cut"
"""Key of Problem.meta: tokens that were left out of the context; absent where it is whole."""

REPEATED = "same question and gold as row "
REPEATING = {"metamath", "qasper"}
"""Sources whose repeats are no sign of a broken file: MetaMathQA holds many answers to one question by design (AnsAug),
and L-Eval's QASPER has three papers twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedProblems:
    """What `load` returns.

    revision is the sha256 of the file's bytes (of several files, of their names and hashes), "<hub id>@<commit>", or
    the arkling version and split; what else shapes the questions follows behind `+`: a changed rule of reading, the
    prompt's template, the budget of contexts, the file of worked examples.
    source is the file or hub id; for MedMCQA it also says from where `cop` was found to count.
    """

    problems: tuple[Problem, ...]
    bad_rows: tuple[BadRow, ...]
    revision: str
    source: str


def load(config: ProblemsConfig, *, seed: int = 0) -> LoadedProblems:
    """Read, validate and slice the questions that config names. seed draws arkling's questions and worked examples.

    Raises ConfigError, DataError (unreadable file, too many bad rows) or EmptyDataset, each one line with the remedy.
    """
    if config.source == "arkling":
        return _load_arkling(config, seed=seed)
    table = open_table(config)
    rule, source = rule_of(table, config=config)
    budget = (
        ContextBudget.load(config.tokenizer, max_tokens=config.max_context_tokens)
        if config.max_context_tokens
        else None
    )
    dataset = config.dataset or config.source
    make = partial(make_problem, dataset=dataset, split=config.split, budget=budget)
    problems, bad = _collect(table, make=lambda row: make(rule(row)))
    by_design = config.source in REPEATING
    counted = [row for row in bad if not (by_design and row.reason.startswith(REPEATED))]
    _check_bad_rows(counted, good=len(problems), limit=config.max_bad_row_share, source=table.source)
    template = prompt_revision(config.task if config.source == "file" else config.source)
    revisions = [table.revision, READ_ANEW.get(config.source, ""), template, budget.revision if budget else ""]
    chosen = problems[config.offset : config.offset + config.limit if config.limit else None]
    if not chosen:
        raise EmptyDataset(
            f"{table.source}: problems.offset {config.offset} skips all {len(problems)} questions; lower it"
        )
    if config.few_shot:
        shots, origin = draw_shots(config, make=make, tested=problems, tested_file=table.revision, seed=seed)
        chosen = [replace(problem, shots=shots) for problem in chosen]
        revisions.append(f"shots-{origin}")
    return LoadedProblems(
        problems=tuple(chosen),
        bad_rows=tuple(bad),
        revision="+".join(filter(None, revisions)),
        source=source,
    )


def shape(config: ProblemsConfig) -> dict[str, Any]:
    """What of the config makes other questions, as plain data for a fingerprint.

    Settings that came later count only where they are used, so that what was made before them is still found.
    """
    data = config.model_dump(mode="json", exclude={"license"})  # to state it later makes no other questions
    return {name: value for name, value in data.items() if name not in LATER_SETTINGS or value}


def write_bad_rows(bad_rows: Iterable[BadRow], path: Path) -> None:
    """Write one JSON object per bad row; the file appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(row)) + "\n" for row in bad_rows)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def state_licence(questions: Store, licence: str) -> None:
    """Keep beside committed questions what the user says their licence is; "" leaves what was said before."""
    if licence:
        questions.write_json("licence.json", licence)


def licence_of(questions: Store) -> str:
    """The licence of committed questions: the user's word, else the benchmark's; "" if nobody states one."""
    stated = questions.root / "licence.json"
    if stated.exists():
        return str(json.loads(stated.read_bytes()))
    config = questions.config.get("problems")  # absent where the questions came with imported debates
    return LICENCES.get(config["source"], "") if config else ""


def make_problem(parts: RowParts, *, dataset: str, split: str, budget: ContextBudget | None = None) -> Problem:
    """Parts with an id: the row's own if it has one, else from the content, so that file order does not matter.

    The id does not depend on the prompt's words nor on the budget, to which the context is cut; meta then says
    `context_tokens` and, where any are left out, `context_tokens_cut`.
    Raises RejectedRow if the row's own id cannot safely name a file.
    """
    name = parts.row_id
    if not name:
        content = json.dumps([dataset, *filter(None, [parts.context]), parts.question, parts.gold])
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
    try:
        problem_id = check_name(f"{dataset}-{name}")
    except ValueError as error:
        raise RejectedRow(str(error)) from None
    context, meta = parts.context, parts.meta
    if budget is not None and context:
        cut = budget.cut(context)
        context, meta = cut.text, meta | {"context_tokens": str(cut.tokens)}
        if cut.removed:
            meta |= {CUT: str(cut.removed)}
    return Problem(
        problem_id=problem_id,
        dataset=dataset,
        task=parts.task,
        question=asked(parts.task, question=parts.question, context=context),
        gold=parts.gold,
        split=split,
        meta=meta,
        references=parts.references,
        wrong_references=parts.wrong_references,
    )


# ---- where the rows come from


def _load_arkling(config: ProblemsConfig, *, seed: int) -> LoadedProblems:
    from agentark_core.arkling.generator import GENERATOR_VERSION, problems

    if not config.limit:
        raise ConfigError("problems.limit: arkling is endless and needs a limit; set how many questions to generate")
    made = problems(config.split, limit=config.limit, offset=config.offset, seed=seed)
    revision = f"arkling-{GENERATOR_VERSION}-{config.split}"
    return LoadedProblems(problems=tuple(made), bad_rows=(), revision=revision, source="arkling")


# ---- validation of the whole file


def _collect(table: Table, *, make: Callable[[dict[str, Any]], Problem]) -> tuple[list[Problem], list[BadRow]]:
    total = 0
    bad: list[BadRow] = []
    read: list[tuple[Place, Problem]] = []
    golds: dict[str, dict[str, Place]] = {}  # question -> gold -> first row with both
    for place, row in table.rows():
        total += 1
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            problem = make(row)
        except RejectedRow as error:
            bad.append(bad_row(row, file=place.file, number=place.row, reason=str(error)))
            continue
        read.append((place, problem))
        golds.setdefault(problem.question, {}).setdefault(problem.gold, place)
    problems: list[Problem] = []
    places: dict[str, Place] = {}
    for place, problem in read:
        reason = _clash(problem, place=place, golds=golds[problem.question], places=places)
        if reason:
            bad.append(bad_row(problem.question, file=place.file, number=place.row, reason=reason))
        else:
            problems.append(problem)
            places[problem.problem_id] = place
    assert total == len(problems) + len(bad), "a row was lost or counted twice"
    return problems, sorted(bad, key=lambda row: (row.file, row.row))


def _clash(problem: Problem, *, place: Place, golds: dict[str, Place], places: dict[str, Place]) -> str:
    """Why this problem cannot stand beside the others of its table; "" if it can."""
    for other, first in golds.items():
        if other != problem.gold:
            row = _row(first, file=place.file)
            return f"same question as row {row} with another gold ({problem.gold[:40]!r} here, {other[:40]!r} there)"
    if golds[problem.gold] != place:
        return f"{REPEATED}{_row(golds[problem.gold], file=place.file)}"
    if problem.problem_id in places:
        return f"duplicate id {problem.problem_id!r}, same as row {_row(places[problem.problem_id], file=place.file)}"
    return ""


def _row(place: Place, *, file: str) -> str:
    """The row's number, with its file where that is not `file`."""
    return str(place.row) if place.file == file else f"{place.row} of {place.file}"


def _check_bad_rows(bad: list[BadRow], *, good: int, limit: float, source: str) -> None:
    total = good + len(bad)
    if not total:
        raise EmptyDataset(f"{source}: no rows; set problems.path to a file with questions")
    first = f"first: row {_row(Place(bad[0].file, bad[0].row), file=source)}: {bad[0].reason}" if bad else ""
    if not good:
        raise EmptyDataset(f"{source}: all {total} rows are bad, {first}; mend them or check problems.source")
    if len(bad) > limit * total:
        raise DataError(
            f"{source}: {len(bad)} of {total} rows are bad (limit {limit * 100:g} %), {first}; "
            "mend them or raise problems.max_bad_row_share"
        )
