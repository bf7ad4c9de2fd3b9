"""`process` rows -> questions as token ids, with what a process reward model learns from them.

    {"question": "p7",
     "traces": [{"example_id": "9f..", "input_ids": [5, 9, 14, 3], "positions": [2, 3], "start": 1}, ..],
     "labels": [1.0, 0.0, ..], "weights": [1.0, 1.0, ..], "contrasts": [(0, [5, 8]), ..]}

A question is never divided, so the negatives N_t of Eq. 7 are in the batch of their positive step. Steps are numbered
through the traces of a question: labels and weights have one entry a step, a contrast is (r_t+, N_t) as such numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

from agentark_core.chat import ChatFormat
from agentark_core.config import PRMConfig
from agentark_core.errors import DataError, EmptyDataset
from agentark_core.step_tokens import Tokens, tokenise
from agentark_core.steps import STEPS_VERSION, split
from agentark_core.training import parquet

Row = dict[str, Any]
"""One trace: a row of agentark_core.process.SCHEMA. Cross-entropy takes its labels, values from 0 to 1; Eq. 7 takes its
negatives alone, whoever chose them."""

COLUMNS = ["example_id", "problem_id", "prompt", "completions", "labels", "weights", "negatives"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is trained on, and how many traces exceed max_length and questions have nothing to learn."""

    items: list[dict[str, Any]]
    too_long: int
    silent: int


def read_rows(paths: Sequence[str]) -> list[Row]:
    """All rows, checked. Raises DataError naming the row (and the file of a bad label), EmptyDataset without rows."""
    rows: list[Row] = []
    for path in paths:
        table = parquet.read(path)
        if missing := sorted(set(COLUMNS) - set(table.column_names)):
            raise DataError(f"{path}: columns {', '.join(missing)} are missing; give examples of the kind `process`")
        read = table.select(COLUMNS).to_pylist()
        for number, row in enumerate(read):
            for step, label in enumerate(row["labels"]):
                if not (isinstance(label, int | float) and 0 <= label <= 1):
                    raise DataError(
                        f"{path}, row {number}: the label of step {step} is {label!r}; a label is the probability that "
                        "a step is right, from 0 to 1"
                    )
        rows += read
    if not rows:
        raise EmptyDataset(f"{', '.join(paths)}: no labelled traces; nothing to train on (no verified trace?)")
    steps = {row["example_id"]: len(row["completions"]) for row in rows}
    if len(steps) < len(rows):
        raise DataError(f"{', '.join(paths)}: the same trace twice; give each examples file once")
    for row in rows:
        if split("".join(row["completions"])) != row["completions"]:
            raise DataError(
                f"example {row['example_id']}: not the steps of the splitter {STEPS_VERSION}, which will cut what is "
                "scored; extract the examples again"
            )
        if not len(row["completions"]) == len(row["labels"]) == len(row["weights"]) == len(row["negatives"]):
            raise DataError(f"example {row['example_id']}: labels, weights or negatives do not fit its steps")
        for negative in (negative for found in row["negatives"] for negative in found):
            if not 0 <= negative["step"] < steps.get(negative["example_id"], 0):
                raise DataError(f"example {row['example_id']}: its negative {negative} is no step of these examples")
    return rows


def digest(rows: Sequence[Row]) -> str:
    """sha256 (16 hex digits) over what is learned, in order."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps([row[name] for name in COLUMNS]).encode())
    return total.hexdigest()[:16]


def questions(rows: Sequence[Row], chat: ChatFormat, *, config: PRMConfig) -> Questions:
    """Token ids of every question's traces. Raises EmptyDataset if nothing can be learned from any."""
    ordered = sorted(rows, key=lambda row: row["problem_id"])
    items, too_long, silent = [], 0, 0
    for question, group in groupby(ordered, key=lambda row: row["problem_id"]):
        traces = list(group)
        tokens = {row["example_id"]: tokenise(chat, row["prompt"], row["completions"]) for row in traces}
        kept = [row for row in traces if len(tokens[row["example_id"]].input_ids) <= config.max_length]
        too_long += len(traces) - len(kept)
        item = _item(question, kept, tokens=tokens, contrastive=config.loss == "contrastive")
        if item:
            items.append(item)
        else:
            silent += 1
    if not items:
        raise EmptyDataset(
            f"none of {silent} questions can be learned from ({too_long} of {len(rows)} traces exceed prm.max_length "
            f"{config.max_length} tokens); raise it, or debate questions on which agents differ"
        )
    return Questions(items=items, too_long=too_long, silent=silent)


def _item(question: str, rows: list[Row], *, tokens: dict[str, Tokens], contrastive: bool) -> dict[str, Any] | None:
    """The question, or None if its rows have no loss. Traces without a part in any contrast are not computed."""
    present = {row["example_id"] for row in rows}
    found = [
        (row["example_id"], step, [(n["example_id"], n["step"]) for n in negatives if n["example_id"] in present])
        for row in rows
        for step, negatives in enumerate(row["negatives"])
    ]
    contrasts = [contrast for contrast in found if contrast[2] and contrastive]
    if contrastive:
        used = {name for positive, _, negatives in contrasts for name in (positive, *(n for n, _ in negatives))}
        rows = [row for row in rows if row["example_id"] in used]
    elif not any(weight for row in rows for weight in row["weights"]):
        rows = []
    if not rows:
        return None
    starts = accumulate((len(row["completions"]) for row in rows), initial=0)
    first = {row["example_id"]: start for row, start in zip(rows, starts, strict=False)}
    return {
        "question": question,
        "traces": [{"example_id": name, **tokens[name]._asdict()} for name in (row["example_id"] for row in rows)],
        "labels": [float(label) for row in rows for label in row["labels"]],
        "weights": [float(weight) for row in rows for weight in row["weights"]],
        "contrasts": [
            (first[name] + step, [first[other] + wrong for other, wrong in negatives])
            for name, step, negatives in contrasts
        ],
    }
