"""Shared by the tests of process reward models: labelled debates of arkling questions, and a resolved config."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from debate_helpers import make_turn

from agentark_core import arkling, process
from agentark_core.arkling import generator
from agentark_core.arkling.corruption import wrong_solution
from agentark_core.config import ExamplesConfig
from agentark_core.types import Debate, Turn, Verdict

STUDENT = arkling.model_path("student")


def write_process(path: Path, *, questions: int = 12) -> Path:
    """Two right and two wrong solutions of each question, labelled exactly, as Parquet of the kind `process`."""
    debates, verdicts = [], {}
    for problem in generator.problems("distil", limit=questions):
        rng = random.Random(problem.problem_id)
        spec = generator.parse_question(problem.question)
        right = generator.solutions(spec)
        texts = [right[0], right[-1], wrong_solution(spec, rng), wrong_solution(spec, rng)]
        turns: list[Turn] = []
        for agent, text in enumerate(texts, start=1):
            turns.append(make_turn(problem, round=1, agent=agent, answer=1, text=text))
            label = "correct" if agent <= 2 else "incorrect"
            verdicts[turns[-1].key] = Verdict(label=label, method="number", extracted="1")  # type: ignore[arg-type]
        debates.append(Debate(work_id=turns[0].work_id, problem=problem, turns=tuple(turns), stop_reason="rounds"))
    config = ExamplesConfig(step_labels="exact")
    table, _ = process.build(debates, verdicts, config=config, wording="arkling", source_fingerprint="f")
    pq.write_table(table, path, write_page_checksum=True)
    return path


def resolved(data: Path, output: Path, *, base: Path = STUDENT, **settings: Any) -> dict[str, Any]:
    config = {
        "stage1": {"epochs": 1, "learning_rate": 3e-3},
        "stage2": {"epochs": 3, "learning_rate": 1e-3},
        "batch_size": 4,
        "micro_batch_size": 4,
        "warmup_ratio": 0,
        "dtype": "float32",
    }
    return {
        "model": str(base),
        "revision": "",
        "examples": str(data),
        "output": str(output),
        "prm": {**config, **settings},
    }
