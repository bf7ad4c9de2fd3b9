"""Rows of similar length share a forward pass."""

from __future__ import annotations

from collections.abc import Sequence


def length_batches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Row numbers, longest first, up to `tokens` tokens a batch with padding (or one row)."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
