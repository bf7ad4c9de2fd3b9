"""`agentark lm-eval`: a registered student, or a model folder, through lm-evaluation-harness.

The harness loads the folder by transformers (its model type `hf`) and writes results and samples below `out`. The
student's own chat template is applied in every task. No code of a model is ever run.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from agentark_core import terminal
from agentark_core.errors import EngineError
from agentark_core.harness import environment, samples, task
from agentark_core.named_model import NamedModel


def evaluate(
    student: NamedModel,
    *,
    tasks: Sequence[str],
    limit: int,
    split: str,
    seed: int,
    dtype: str,
    out: Path,
    extra: Sequence[str] = (),
) -> list[Path]:
    """Run the harness; returns the sample files that it wrote. limit: questions a task, 0 for all (arkling: 600).

    extra: further options of `lm_eval run`; they win over ours. Raises EngineError if the harness fails.
    """
    python = environment.ensure()
    out = out.resolve()
    model_args = {"pretrained": str(student.folder), "dtype": dtype}
    command = [str(python), "-P", "-m", "lm_eval", "run", "--model", "hf", "--model_args", json.dumps(model_args)]
    command += ["--tasks", *tasks, "--apply_chat_template", "--batch_size", "16", "--log_samples"]
    command += ["--output_path", str(out)]
    if task.TASK in tasks:
        written = task.write_task(out / "task", split=split, limit=limit or task.QUESTIONS, seed=seed)
        command += ["--include_path", str(written.parent)]
    if limit:
        command += ["--limit", str(limit)]
    before = set(out.rglob("samples_*.jsonl"))
    code = subprocess.run([*command, *extra]).returncode
    made = sorted(set(out.rglob("samples_*.jsonl")) - before)
    if code or not made:
        raise EngineError(f"lm_eval ended with code {code} and {len(made)} sample files; its own words are above")
    return made


def summary(path: Path) -> str:
    """One line for every filter and metric of a sample file that is right or wrong by question, with its interval."""
    values: dict[tuple[str, str], list[float | None]] = {}
    for sample in samples.read_samples(path):
        for name in sample.metrics:
            values.setdefault((sample.filter, name), []).append(sample.metric(name))
    lines = [
        f"{name} ({filter}): {scores.count(1.0)} of {len(scores)}, {terminal.share(scores.count(1.0), len(scores))} %"
        for (filter, name), scores in values.items()
        if set(scores) <= {0.0, 1.0}
    ]
    return "\n".join([str(path), *(f"  {terminal.safe(line)}" for line in lines)])
