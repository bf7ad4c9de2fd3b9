"""Shared by the R-SFT tests: forty examples, a resolved config, the metrics file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from agentark_core import examples
from agentark_core.types import SFTExample


def example(number: int, *, completion: str | None = None) -> SFTExample:
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
    )


def write_examples(path: Path) -> Path:
    """Forty examples as Parquet."""
    pq.write_table(examples.to_table([example(n) for n in range(40)]), path, write_page_checksum=True)
    return path


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
