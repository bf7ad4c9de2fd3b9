"""Shared by the R-SFT tests: forty examples, a resolved config, the metrics file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from agentark_core import examples
from agentark_core.types import SFTExample


def example(number: int, *, completion: str | None = None, weight: float = 1.0) -> SFTExample:
    return SFTExample(
        example_id=f"e{number}",
        problem_id=f"p{number}",
        prompt=(("user", f"Q: {number} + {number}"),),
        completion=completion or f"Step 1: {number} + {number} = {2 * number}\n\\boxed{{{2 * number}}}",
        source_fingerprint="f",
        work_id=f"w{number}",
        round=2,
        agent=1,
        corrective=False,
        weight=weight,
    )


def write_examples(path: Path, rows: list[SFTExample] | None = None) -> Path:
    """The examples, by default forty, as Parquet."""
    rows = rows or [example(n) for n in range(40)]
    pq.write_table(examples.to_table(rows), path, write_page_checksum=True)
    return path


def weighted_examples(number: int) -> list[SFTExample]:
    """Examples of different lengths that weigh 1, 1/2, 1/3, 1 ..."""
    return [
        example(n, completion=f"{'Step 1: we look. ' * (n % 5)}\n\\boxed{{{n}}}", weight=1 / (1 + n % 3))
        for n in range(number)
    ]


def resolved(base: Path, data: Path, output: Path, **settings: Any) -> dict[str, Any]:
    config = {"epochs": 3, "learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 8, "dtype": "float32"}
    return {
        "model": str(base),
        "revision": "",
        "examples": str(data),
        "output": str(output),
        "sft": {**config, **settings},
    }


def metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
