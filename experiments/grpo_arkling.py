"""GRPO and PPO of the shipped arkling student on equal rollouts: exact process rewards, and the outcome alone.

    python -m experiments.grpo_arkling --out /tmp/grpo --prompts 800 --test 1000 --seeds 3

Arms: `process` (GRPO, mean of exact step checks), `process min`, `outcome` (verified answer alone, the control), `ppo`
and `ppo outcome` (the same rewards, advantages from a learned value function). Each trains on the same `distil`
questions in the same order, as many samples of each, and is evaluated on the same `test` questions: greedy accuracy,
accuracy of one sample at temperature 1, and the share of greedy answers whose every step is right. Of several seeds
means and paired differences, as of experiments.seeds_table, which reads outcomes.json. All intervals 95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentark_core import prompts
from agentark_core.arkling import generator, model_path
from agentark_core.extraction import PROMPT_SCHEMA
from agentark_core.paired_tests import Outcomes, paired
from agentark_core.seeds_view import differences, render_text
from agentark_core.statistics import wilson
from experiments import seeds_table
from experiments.arkling_evaluation import encoded, evaluate

ARMS: dict[str, dict[str, Any]] = {
    "process": {"aggregate": "mean"},
    "process min": {"aggregate": "min"},
    "outcome": {"process_weight": 0.0, "outcome_weight": 1.0},
    "ppo": {"advantage": "value"},
    "ppo outcome": {"advantage": "value", "process_weight": 0.0, "outcome_weight": 1.0},
}


PAIRS = [("ppo", "process"), ("ppo outcome", "outcome"), ("process", "outcome")]
"""Arms that are compared with each other, where both were run."""


def main() -> None:
    """Train every arm with every seed, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.grpo_arkling", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--prompts", type=int, default=800, help="distil questions, 100 of them for the watch")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--beta", type=float, default=0.02)
    parser.add_argument("--test", type=int, default=1000, help="test questions")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tests = generator.problems("test", limit=options.test)
    base = evaluate(model_path("student"), tests)
    show("base", base, base=base)
    file = options.out / "outcomes.json"
    table = [row("base", None, base)]
    for seed in range(options.seeds):
        for arm in options.arms:
            result = train(arm, options, seed=seed)
            answers = evaluate(Path(result["model"]), tests)
            show(f"{arm}, {seed}", answers, base=base)
            print(f"    {json.dumps({k: v for k, v in result.items() if k != 'model'})}", flush=True)
            table.append(row(arm, seed, answers))
            file.write_text(json.dumps(table), encoding="utf-8")
    pairs = [pair for pair in PAIRS if set(pair) <= set(options.arms)] if options.seeds > 1 else []
    splits = seeds_table.read(file)
    print(render_text(splits, differences(splits, pairs)))


def row(arm: str, seed: int | None, answers: dict[str, Outcomes]) -> dict[str, Any]:
    """What seeds_table reads."""
    return {"arm": arm, "seed": seed, **{what: {"outcomes": encoded(found)} for what, found in answers.items()}}


def train(arm: str, options: argparse.Namespace, *, seed: int) -> dict[str, Any]:
    """One arm through the entry point; a second start finds its result."""
    output = options.out / f"{arm.replace(' ', '-')}-{seed}"
    data = options.out / "prompts.parquet"
    rows = [
        {
            **{"problem_id": problem.problem_id, "gold": problem.gold, "task": problem.task},
            "prompt": prompts.first_answer(problem.question, wording="arkling"),
            **{"work_id": problem.problem_id, "source_fingerprint": "generator", "decided": 0, "correct": 0},
        }
        for problem in generator.problems("distil", limit=options.prompts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), data, write_page_checksum=True)
    grpo = {
        **{"scorer": "exact", "epochs": options.epochs, "prompts_per_step": 8, "group_size": 8, "dtype": "float32"},
        **{"micro_batch_size": 64, "learning_rate": options.learning_rate, "beta": options.beta, "max_tokens": 100},
        **{"watch_prompts": 100, "save_steps": 20, "seed": seed, "warmup_ratio": 0.0},
        **ARMS[arm],
    }
    config = options.out / f"{output.name}.json"
    config.write_text(
        json.dumps({"model": str(model_path("student")), "prompts": str(data), "output": str(output), "grpo": grpo})
    )
    command = [sys.executable, "-m", "agentark_core.training.grpo", "--config", str(config)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(name: str, answers: dict[str, Outcomes], *, base: dict[str, Outcomes]) -> None:
    """Accuracies with Wilson intervals, and the paired difference from the base (Newcombe, exact McNemar)."""
    for what, outcomes in answers.items():
        right = sum(outcome is True for outcome in outcomes.values())
        low, high = wilson(right, len(outcomes))
        text = f"{name:14} {what:8} {100 * right / len(outcomes):5.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        if answers is not base:
            test = paired(outcomes, base[what])
            text += f"  {test.difference:+.1f} [{test.low:+.1f}, {test.high:+.1f}] p = {test.p_value:.2g}"
        print(text, flush=True)


if __name__ == "__main__":
    main()
