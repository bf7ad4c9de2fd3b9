"""Questions of arkling as a task of lm-evaluation-harness: arkling.yaml (beside this file) and the questions.

A line of arkling.jsonl, which the harness calls a doc:

    {"problem_id": "arkling-dd9c056c7f841683", "question": "Q: Cara pays ...", "gold": "143"}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentark_core.ledger import atomic_write_text
from agentark_core.types import Problem

TASK = "arkling"
QUESTIONS = 600
"""How many are asked unless a limit says so; as many as our own evaluation asks by default."""


def doc(problem: Problem) -> dict[str, Any]:
    """What stands for a question in the harness."""
    return {"problem_id": problem.problem_id, "question": problem.question, "gold": problem.gold}


def write_task(folder: Path, *, split: str, limit: int, seed: int) -> Path:
    """Write the task and the first `limit` questions that our evaluation draws with this seed; returns the YAML file.

    Raises DataError for an unknown split.
    """
    from agentark_core.arkling.generator import problems

    questions = (folder / "arkling.jsonl").resolve()
    made = problems(split, limit=limit, seed=seed)
    atomic_write_text(questions, "".join(json.dumps(doc(problem)) + "\n" for problem in made))
    template = Path(__file__).with_name("arkling.yaml").read_text(encoding="utf-8")
    path = folder / "arkling.yaml"
    # A relative name would be looked up where lm_eval was started. A JSON string is a YAML string.
    atomic_write_text(path, template.replace("test: arkling.jsonl", f"test: {json.dumps(str(questions))}"))
    return path
