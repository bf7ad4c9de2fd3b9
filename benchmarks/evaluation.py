"""How long the evaluation of several models takes from a cold start, and where the time goes.

    python benchmarks/evaluation.py --questions 1000 --models 5

Copies of the shipped student, each with a content hash of its own, are evaluated by `evaluate-model` one after the
other: each answers every question greedily and once sampled. One process runs all of them, so Prefect's temporary
server, Ray and MLflow start once, and each model's engine once. Seconds are wall seconds from the start of that
process; the parts come from Prefect's task runs and the usage files: seconds in which at least one such task ran.

    engines     debate tasks, minus generation: actors, imports, loading weights
    generation  the engine had requests
    verify      after the debates: rules on every answer
    score, load reading the ledger; committing the questions
    rest        process start, Prefect, MLflow, Ray, reports

Goal: 240 s for 1,000 questions and 5 models on 2 quiet cores. Prints JSON; the load average tells how quiet they were.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agentark_core import cli, engine_time
from agentark_core.arkling import model_path
from agentark_core.config import EvaluateConfig
from agentark_core.stored import debate_runs, debate_store

GOAL_S = 240.0


def main() -> None:
    """Make the models, evaluate them in a fresh process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--in-home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_home is not None:
        evaluate(options.in_home, questions=options.questions, models=options.models)
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for number in range(options.models):
            variant(home, number)
        load_average, started = os.getloadavg()[0], time.monotonic()
        numbers = ["--questions", str(options.questions), "--models", str(options.models)]
        # A Prefect home of its own: cold, and with no task runs but ours.
        environment = cli.ENVIRONMENT | os.environ | {"PREFECT_HOME": str(home / "prefect")}
        environment.pop("PREFECT_API_URL", None)
        command = [sys.executable, __file__, *numbers, "--in-home", str(home)]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
        seconds = time.monotonic() - started
        parts = json.loads((home / "parts.json").read_text(encoding="utf-8"))
    parts["rest"] = seconds - sum(parts.values())
    result = {
        "questions": options.questions,
        "models": options.models,
        "seconds": round(seconds, 1),
        "goal_s": GOAL_S,
        "parts_s": {name: round(value, 1) for name, value in parts.items()},
        "cpus": os.cpu_count(),
        "load_average_before": round(load_average, 1),
    }
    print(json.dumps(result, indent=2))


def variant(home: Path, number: int) -> Path:
    """The shipped student in a folder of its own. Another training record makes it another model for the ledger."""
    path = home / "models" / str(number)
    if not path.exists():
        shutil.copytree(model_path("student"), path)
        (path / "training_record.json").write_text(json.dumps({"copy": number}), encoding="utf-8")
    return path


def evaluate(home: Path, *, questions: int, models: int) -> None:
    """evaluate-model of every model in this process; leaves parts.json."""
    from flows.evaluate_model import evaluate_model

    for number in range(models):
        config: dict[str, Any] = {
            "run": {"name": f"model-{number}", "home": str(home)},
            "student": {"path": str(variant(home, number)), "prompts": "arkling"},
            "debate": {"sampling": {"temperature": 0.9, "max_tokens": 128}},
            "evaluation": {"problems": {"source": "arkling", "split": "test", "limit": questions}},
        }
        evaluate_model(EvaluateConfig.model_validate(config))
    spans = task_spans()
    generation = sum(engine_time.engine_seconds(debate_store(home, run).root) for run in debate_runs(home))
    parts = {kind: engine_time.covered(spans.get(kind, [])) for kind in ("debate", "verify", "score", "load")}
    parts["generation"] = min(generation, parts["debate"])
    parts["engines"] = parts.pop("debate") - parts["generation"]
    (home / "parts.json").write_text(json.dumps(parts), encoding="utf-8")


def task_spans() -> dict[str, list[tuple[float, float]]]:
    """Start and end of every task run that Prefect knows, by the first word of its name."""
    from prefect.client.orchestration import get_client

    spans: dict[str, list[tuple[float, float]]] = {}
    with get_client(sync_client=True) as client:
        offset = 0
        while runs := client.read_task_runs(limit=200, offset=offset):
            offset += len(runs)
            for run in runs:
                if run.start_time is not None and run.end_time is not None:
                    span = (run.start_time.timestamp(), run.end_time.timestamp())
                    spans.setdefault(run.name.split()[0], []).append(span)
    return spans


if __name__ == "__main__":
    main()
