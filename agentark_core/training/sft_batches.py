"""Rows -> the tensors of one forward pass: padded, packed into lines, or flattened into one line.

    padded    one row a line, attention mask                     lengths 5, 3, 2 -> 3 x 5
    packed    several rows a line as long as the longest         lengths 5, 3, 2 -> 2 x 5
    flat      all rows in one line, for flash attention          lengths 5, 3, 2 -> 1 x 10

Packing changes no figure: a forward pass holds the same rows, positions restart at each, and without an attention mask
transformers reads the borders from the positions and lets no row see another (block-diagonal mask; variable-length
kernels with flash attention). That some architecture ignores the borders is found out by SFT's own probe, see
sft_trainer.py. Lines are no longer than the longest row, so attention never costs more than with padding.

Shapes: B lines, T tokens a line. `rows` (B, T) has the number of the data set's row at each token, -1 at padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

Layout = Literal["padded", "packed", "flat"]
Row = dict[str, Any]


class Collator:
    """Rows of input_ids, labels, answer_start and row (their number) -> model inputs, `rows` and `answer` (B, T)."""

    def __init__(self, *, layout: Layout, pad_token_id: int) -> None:
        self.layout = layout
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """The tensors of one forward pass; `answer` is True at the tokens of the answer."""
        lines = self._lines(rows)
        shape = len(lines), max(sum(len(row["input_ids"]) for row in line) for line in lines)
        batch = {
            "input_ids": torch.full(shape, self.pad_token_id),
            "labels": torch.full(shape, -100),
            "position_ids": torch.zeros(shape, dtype=torch.long),
            "rows": torch.full(shape, -1),
            "answer": torch.zeros(shape, dtype=torch.bool),
        }
        for number, line in enumerate(lines):
            start = 0
            for row in line:
                length = len(row["input_ids"])
                here = (number, slice(start, start + length))
                batch["input_ids"][here] = torch.tensor(row["input_ids"])
                # The first token follows from nothing, least of all from the row before it.
                batch["labels"][here] = torch.tensor([-100, *row["labels"][1:]])
                batch["position_ids"][here] = torch.arange(length)
                batch["rows"][here] = row["row"]
                batch["answer"][number, start + row["answer_start"] : start + length] = True
                start += length
        if self.layout == "padded":
            del batch["position_ids"]
            batch["attention_mask"] = (batch["rows"] >= 0).long()
        return batch

    def _lines(self, rows: Sequence[Row]) -> list[list[Row]]:
        if self.layout == "padded":
            return [[row] for row in rows]
        if self.layout == "flat":
            return [list(rows)]
        return pack(rows)


def pack(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in as few lines as best-fit decreasing finds, none longer than the longest row."""
    ordered = sorted(rows, key=lambda row: -len(row["input_ids"]))
    capacity = len(ordered[0]["input_ids"])
    lines: list[list[Row]] = []
    room: list[int] = []
    for row in ordered:
        length = len(row["input_ids"])
        fits = [number for number, free in enumerate(room) if free >= length]
        if not fits:
            lines.append([])
            room.append(capacity)
            fits = [len(lines) - 1]
        best = min(fits, key=room.__getitem__)
        lines[best].append(row)
        room[best] -= length
    return lines
