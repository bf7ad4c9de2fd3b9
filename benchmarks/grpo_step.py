"""Seconds of our GRPO step against TRL's own with the same arguments and a constant reward.

    python benchmarks/grpo_step.py --steps 12

Both train the shipped student on the same arkling prompts: 8 prompts x 8 samples a step, up to 100 tokens, ZeRO stage
2, float32, one thread, KL to the base. Both sample the same tokens: the seed is set before each rollout batch, and the
learning rate is too small to move the policy. Ours scores every completion by a process reward model of the student's
size and verifies its answer; the watch and checkpoints, which TRL has not, are off. Each side is a process of its own;
the parent lets them step in turn, who goes first changes with each pair. Figures: median of the pairs and their range.
CPU seconds are those of the side's process, without its verifier's child; other work on the machine sways them less.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = ("ours", "trl")
PARTS = ("generation", "scoring", "other rollout", "learning")
WARM_UP = 2


def prepare(folder: Path, *, steps: int) -> dict[str, Any]:
    """Prompts and a process reward model in folder; returns resolved.json of our side."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from agentark_core import prompts
    from agentark_core.arkling import generator, model_path
    from agentark_core.extraction import PROMPT_SCHEMA
    from agentark_core.steps import STEPS_VERSION
    from agentark_core.training import prm_head
    from agentark_core.training.planning import tokenizer_digest, tokenizer_files

    prm = folder / "prm"
    prm_head.load(model_path("student"), head="linear", dtype="float32", seed=0).save_pretrained(prm)
    for file in tokenizer_files(model_path("student")):
        shutil.copyfile(file, prm / file.name)
    about = {"splitter": STEPS_VERSION, "tokenizer": tokenizer_digest(prm)}
    (prm / "prm.json").write_text(json.dumps(about), encoding="utf-8")
    rows = [
        {
            **{"problem_id": problem.problem_id, "gold": problem.gold, "task": problem.task},
            "prompt": prompts.first_answer(problem.question, wording="arkling"),
            **{"work_id": problem.problem_id, "source_fingerprint": "generator", "decided": 0, "correct": 0},
        }
        for problem in generator.problems("distil", limit=8 * steps)
    ]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), folder / "prompts.parquet", write_page_checksum=True
    )
    grpo = {
        **{"prompts_per_step": 8, "group_size": 8, "micro_batch_size": 64, "max_tokens": 100, "dtype": "float32"},
        **{"learning_rate": 1e-12, "outcome_weight": 1.0, "watch_prompts": 0, "save_steps": 10**6},
    }
    return {
        **{"model": str(model_path("student")), "prompts": str(folder / "prompts.parquet"), "prm": str(prm)},
        **{"output": str(folder / "ours"), "grpo": grpo},
    }


def in_turn(trainer: Any) -> Any:
    """A callback that waits for the parent's word before each step, and reports it: seconds by part, tokens seen."""
    from transformers import TrainerCallback

    class Turn(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            print("ready", flush=True)
            sys.stdin.readline()
            trainer.seconds = dict.fromkeys(("whole", "rollout", "generation", "scoring"), 0.0)
            self.start, self.cpu = time.perf_counter(), time.process_time()

        def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
            trainer.seconds["whole"] = time.perf_counter() - self.start
            trainer.seconds["cpu"] = time.process_time() - self.cpu
            print(json.dumps({**trainer.seconds, "tokens": state.num_input_tokens_seen}), flush=True)

    return Turn()


def timed(kind: type) -> type:
    """A GRPOTrainer that measures its parts."""

    def clocked(part: str, method: str) -> Any:
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return getattr(kind, method)(self, *args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return run

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, *args, **kwargs)  # type: ignore[misc]
        self.add_callback(in_turn(self))

    parts = {"rollout": "_prepare_inputs", "generation": "_generate_single_turn", "scoring": "_calculate_rewards"}
    return type("Timed", (kind,), {"__init__": init, **{name: clocked(part, name) for part, name in parts.items()}})


def run_ours(resolved: dict[str, Any]) -> None:
    """Our job as it is, its trainer timed."""
    from agentark_core.training import group, grpo

    group.join()
    group.prepare(cpus=1)
    from agentark_core.training import grpo_trainer

    grpo_trainer.PolicyTrainer = timed(grpo_trainer.PolicyTrainer)  # type: ignore[misc, assignment]
    grpo.train(resolved)


def run_trl(resolved: dict[str, Any]) -> None:
    """TRL's trainer with our arguments, prompts and order, and a reward of 1."""
    from agentark_core.training import group, grpo_data, grpo_plan

    world = group.join()
    on_gpu = group.prepare(cpus=1)
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import GRPOTrainer

    from agentark_core.chat import ChatFormat
    from agentark_core.training.grpo_trainer import trl_arguments

    class Seeded(GRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            name = f"{self.args.seed} {self.state.global_step} {self.args.process_index}"  # as PolicyTrainer
            torch.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
            return super()._generate_and_score_completions(inputs)

    job = grpo_plan.plan({**resolved, "output": resolved["output"] + "-trl"}, world_size=world)
    size = job.config.prompts_per_step
    batches = len(job.prompts) // size
    order = grpo_data.rollout_order(len(job.prompts), batches=batches, batch_size=size, seed=job.config.seed)
    trainer = timed(Seeded)(
        model=AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32),
        reward_funcs=[lambda completions, **columns: [1.0] * len(completions)],
        args=trl_arguments(job, steps=batches, stop_ids=ChatFormat.load(job.base).stop_ids, on_gpu=on_gpu),
        train_dataset=datasets.Dataset.from_list([{"prompt": job.prompts[row].prompt} for row in order]),
        processing_class=AutoTokenizer.from_pretrained(job.base),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def measure(resolved: dict[str, Any], folder: Path, *, steps: int) -> list[dict[str, dict[str, float]]]:
    """Reports of both sides for each step. Exits if they did not see as many tokens."""
    (folder / "resolved.json").write_text(json.dumps(resolved), encoding="utf-8")
    children = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
        errors = (folder / f"{side}.log").open("w")
        children[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    pairs: list[dict[str, dict[str, float]]] = []
    try:
        for step in range(steps):
            pair = {}
            for side in SIDES:
                _line(children[side], folder / f"{side}.log", begins="ready")
            for side in SIDES if step % 2 else reversed(SIDES):
                _write(children[side])
                pair[side] = json.loads(_line(children[side], folder / f"{side}.log", begins="{"))
            if pair["ours"]["tokens"] != pair["trl"]["tokens"]:
                sys.exit(f"step {step + 1}: the sides sampled other tokens: {pair}")
            pairs.append(pair)
            print(f"step {step + 1}: " + ", ".join(f"{s} {pair[s]['whole']:.2f} s" for s in SIDES), file=sys.stderr)
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return pairs[WARM_UP:]


def _write(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("go\n")
    child.stdin.flush()


def _line(child: subprocess.Popen[str], log: Path, *, begins: str) -> str:
    assert child.stdout
    for line in child.stdout:
        if line.startswith(begins):
            return line
    sys.exit(f"a side ended early: {log.read_text()[-2000:]}")


def shares(report: dict[str, float]) -> dict[str, float]:
    """Seconds by part."""
    named = {part: report[part] for part in ("generation", "scoring")}
    rest = report["rollout"] - sum(named.values())
    return {**named, "other rollout": rest, "learning": report["whole"] - report["rollout"]}


def main() -> None:
    """Print the table, or be one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help=f"pairs; {WARM_UP} more warm up and do not count")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        resolved = json.loads((options.folder / "resolved.json").read_text(encoding="utf-8"))
        (run_ours if options.side == "ours" else run_trl)(resolved)
        return
    with tempfile.TemporaryDirectory() as folder:
        steps = options.steps + WARM_UP
        pairs = measure(prepare(Path(folder), steps=steps), Path(folder), steps=steps)
    whole = {"whole": "s", "cpu": "CPU s"}
    figures = {f"{side}, {unit}": [pair[side][key] for pair in pairs] for key, unit in whole.items() for side in SIDES}
    for side in SIDES:
        for part in PARTS:
            figures[f"{side}, {part}, s"] = [shares(pair[side])[part] for pair in pairs]
    for key, unit in whole.items():
        figures[f"ratio of {unit}"] = [pair["ours"][key] / pair["trl"][key] for pair in pairs]
    print("| figure | median | range | pairs |\n|---|---:|---|---:|")
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} | {len(values)} |")


if __name__ == "__main__":
    main()
