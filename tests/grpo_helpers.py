"""Shared by the GRPO tests: arkling prompts as Parquet, a resolved config for the shipped student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentark_core import prompts
from agentark_core.arkling import generator, model_path
from agentark_core.extraction import PROMPT_SCHEMA


def write_prompts(path: Path, *, number: int) -> Path:
    """Questions of arkling as the `prompts` extraction writes them."""
    rows = [
        {
            "problem_id": problem.problem_id,
            "prompt": prompts.first_answer(problem.question, wording="arkling"),
            "gold": problem.gold,
            "task": problem.task,
            "work_id": f"w{place}",
            "source_fingerprint": "f",
            "decided": 5,
            "correct": 3,
        }
        for place, problem in enumerate(generator.problems("distil", limit=number))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), path, write_page_checksum=True)
    return path


def resolved(data: Path, output: Path, *, base: Path | None = None, **settings: Any) -> dict[str, Any]:
    config = {
        "scorer": "exact",
        "prompts_per_step": 4,
        "group_size": 4,
        "micro_batch_size": 8,
        "learning_rate": 1e-4,
        "max_tokens": 80,
        "watch_prompts": 8,
        "save_steps": 4,
        "dtype": "float32",
    }
    return {
        "model": str(base or model_path("student")),
        "prompts": str(data),
        "output": str(output),
        "grpo": {**config, **settings},
    }
