"""SFT rows: examples -> token ids with a completion mask, and the order in which they are trained on.

    {"input_ids": [5, 9, 14, 3], "completion_mask": [0, 0, 1, 1], "weight": 0.5, "answer_start": 3, "example_id": "9f"}

The first two are TRL's column names; `labels` follows from them. Only completion tokens carry loss (Eq. 1), the
end-of-turn token among them; weight is 1/k for the k augmented traces of a question (Eq. 2). From answer_start on the
tokens belong to the answer (answer_part.py). A question whose trace is too long keeps the weights of its other traces.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentark_core.chat import ChatFormat
from agentark_core.errors import EmptyDataset
from agentark_core.examples import from_table
from agentark_core.training import answer_part, parquet
from agentark_core.types import SFTExample

BATCHES_PER_GROUP = 50
"""Rows of similar length share a batch; lengths are compared within this many batches, so order stays random."""


def read_examples(paths: Sequence[str]) -> list[SFTExample]:
    """Read Parquet files written from examples.to_table. Raises DataError, or EmptyDataset if there is no row."""
    examples = [example for path in paths for example in from_table(parquet.read(path))]
    if not examples:
        raise EmptyDataset(f"{', '.join(paths)}: no training examples; nothing to train on (no verified trace?)")
    return examples


def digest(examples: Sequence[SFTExample]) -> str:
    """sha256 (16 hex digits) over what is learned: ids, prompts, completions and weights in order."""
    total = hashlib.sha256()
    for example in examples:
        learned = [example.example_id, example.prompt, example.completion, example.weight]
        total.update(json.dumps(learned).encode())
    return total.hexdigest()[:16]


def tokenise(examples: Sequence[SFTExample], chat: ChatFormat, *, max_length: int) -> tuple[list[dict[str, Any]], int]:
    """Rows in TRL's columns, and the number of examples set aside because they exceed max_length tokens."""
    rows = []
    for example in examples:
        messages = [{"role": role, "content": content} for role, content in example.prompt]
        prompt = chat.prompt_ids(messages)
        completion = chat.completion_ids(messages, example.completion)
        if len(prompt) + len(completion) <= max_length:
            rows.append(
                {
                    "input_ids": prompt + completion,
                    "completion_mask": [0] * len(prompt) + [1] * len(completion),
                    "weight": example.weight,
                    "answer_start": len(prompt) + answer_part.first_token(chat, completion, text=example.completion),
                    "example_id": example.example_id,
                }
            )
    if not rows:
        raise EmptyDataset(f"all {len(examples)} examples exceed sft.max_length {max_length} tokens; raise it")
    return rows, len(examples) - len(rows)


def labels(row: dict[str, Any]) -> list[int]:
    """TRL's `labels` column: the token where the completion mask is 1, -100 (no loss) where it is 0."""
    return [token if mask else -100 for token, mask in zip(row["input_ids"], row["completion_mask"], strict=True)]


def training_order(
    lengths: Sequence[int], *, steps: int, batch_size: int, seed: int, packing: bool = False
) -> list[int]:
    """Row numbers for every step, batch after batch: steps * batch_size entries, a pure function of its arguments.

    Each pass is a fresh permutation. Without packing, rows are sorted by length within groups of batches (padding is
    wasted work) and the batches shuffled again. The order is fixed before training, so a resumed run sees exactly the
    rest of it.
    """
    generator = random.Random(seed)
    order: list[int] = []
    while len(order) < steps * batch_size:
        order += generator.sample(range(len(lengths)), len(lengths))
    del order[steps * batch_size :]
    if packing:
        return order
    result: list[int] = []
    group = batch_size * BATCHES_PER_GROUP
    for start in range(0, len(order), group):
        chunk = sorted(order[start : start + group], key=lambda row: lengths[row])
        batches = [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        generator.shuffle(batches)
        result += [row for batch in batches for row in batch]
    return result


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; a last line cut by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
