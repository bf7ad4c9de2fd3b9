"""Worked examples before a question: drawn once for a whole benchmark, never from what is tested.

    draw_shots(ProblemsConfig(source="gsm8k", split="test", few_shot=2), ...)
      ->  (("Ann has 3 apples ...", "3 + 4 = 7\\n\\\\boxed{7}"), ("...", "..."))

All questions get the same examples in the same order, so that they share a prefix and differences between methods stay
paired. Each is a question in the benchmark's own words and a reply that ends as the prompt asks (benchmark_prompts).
A row that asks a tested question (but for case, white space and punctuation) is never drawn; where most rows do, the
file is taken for the test split itself and refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from agentark_core.benchmark_prompts import shot_answer
from agentark_core.benchmarks import RowParts
from agentark_core.config import ProblemsConfig
from agentark_core.errors import ConfigError
from agentark_core.held_out import question_key
from agentark_core.rows import RejectedRow
from agentark_core.sources import HUB, Table, open_table, rule_of
from agentark_core.types import Problem

SPARE = 4
"""Rows drawn for each example that is needed, so that some may ask a tested question."""

Shots = tuple[tuple[str, str], ...]


def draw_shots(
    config: ProblemsConfig,
    *,
    make: Callable[[RowParts], Problem],
    tested: Sequence[Problem],
    tested_file: str,
    seed: int,
) -> tuple[Shots, str]:
    """config.few_shot examples as (question, reply), and the revision of the file that they come from.

    tested: every question of the tested file, before offset and limit; tested_file: its revision.
    Raises ConfigError with the remedy if there are no such examples, DataError if the file cannot be read.
    """
    table = _open_examples(config, tested_file=tested_file)
    parts = _drawn(_parts(table, config=config), number=SPARE * config.few_shot, seed=seed)
    forbidden = {question_key(problem.question) for problem in tested}
    shots: list[tuple[str, str]] = []
    dropped = 0
    for part in parts:
        try:
            problem = make(part)
        except RejectedRow:  # an id that names no file
            continue
        if question_key(problem.question) in forbidden:
            dropped += 1
        else:
            shots.append((problem.question, shot_answer(part.solution, gold=part.gold)))
    if dropped > len(shots):
        raise ConfigError(
            f"problems.few_shot: {dropped} of {len(parts)} rows drawn from {table.source} ask tested questions; "
            "name a file of training questions in problems.few_shot_path"
        )
    if len(shots) < config.few_shot:
        raise ConfigError(
            f"problems.few_shot: {config.few_shot} examples are wanted, {table.source} has {len(shots)}; lower it"
        )
    return tuple(shots[: config.few_shot]), table.revision


def _open_examples(config: ProblemsConfig, *, tested_file: str) -> Table:
    """The user's file, or the training split on the hub."""
    if config.few_shot_path:
        table = open_table(config.model_copy(update={"path": config.few_shot_path, "split": "train"}))
        if table.revision == tested_file:
            raise ConfigError(
                f"problems.few_shot_path: {table.source} is the tested file itself; name a file of training questions"
            )
        return table
    if config.source not in HUB or "train" not in HUB[config.source].splits:
        raise ConfigError(
            f"problems.few_shot_path: empty, and {config.source} has no training split on the hub; name a file of the "
            "same format with examples"
        )
    if config.split != "test":
        raise ConfigError(
            f"problems.few_shot: split {config.split!r} is the training split, where examples come from; set "
            "problems.split to test, or problems.few_shot_path to a file with examples"
        )
    return open_table(config.model_copy(update={"path": "", "split": "train"}))


def _parts(table: Table, *, config: ProblemsConfig) -> Iterator[RowParts]:
    """The rows that can be used; MedMCQA's count of choices is that of this file."""
    rule, _ = rule_of(table, config=config)
    for _, row in table.rows():
        if isinstance(row, dict):
            try:
                yield rule(row)
            except RejectedRow:
                continue


def _drawn(parts: Iterator[RowParts], *, number: int, seed: int) -> list[RowParts]:
    """At most `number` of the parts, in random order, without holding them all (Vitter 1985, algorithm R)."""
    generator = random.Random(seed)
    kept: list[RowParts] = []
    for place, part in enumerate(parts):
        if len(kept) < number:
            kept.append(part)
        elif (chosen := generator.randrange(place + 1)) < number:
            kept[chosen] = part
    generator.shuffle(kept)
    return kept
