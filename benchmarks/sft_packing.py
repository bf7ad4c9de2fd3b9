"""Trained tokens a second of our SFT job with packing, against TRL's SFTTrainer as it comes, without packing.

    python benchmarks/sft_packing.py --pairs 5

Both train the same random Qwen3 on the same rows of mixed lengths (log-normal, median 200 tokens, sigma 0.8, 24 to 1500
tokens, a third of it prompt) in the same optimiser batches of --batch rows, one forward pass each, in float32 on one
thread. Plain TRL: rows tokenised as ours, padded to the longest of the batch, random order, no DeepSpeed. Ours: the job
of training/sft.py as configured, ZeRO stage 2 included. Counted are real tokens, prompts included, no padding; seconds
are those of the training loop. Each side runs in a fresh process; the two of a pair run one after the other and swap
places from pair to pair. Figures: median of the pairs and their range.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = ("packed", "trl")
HIDDEN, LAYERS = 128, 4


def lengths(rows: int) -> list[int]:
    """Tokens of each row."""
    rng = random.Random(0)
    return [min(1500, max(24, round(rng.lognormvariate(5.3, 0.8)))) for _ in range(rows)]


def token_rows(rows: int) -> list[dict[str, Any]]:
    """Rows as sft_data.tokenise makes them."""
    rng = random.Random(1)
    made = []
    for number, length in enumerate(lengths(rows)):
        prompt = length // 3
        made.append(
            {
                "input_ids": [rng.randrange(10, 300) for _ in range(length)],
                "completion_mask": [0] * prompt + [1] * (length - prompt),
                "weight": 1.0,
                "answer_start": length - 5,
                "example_id": str(number),
            }
        )
    return made


def make_model(path: Path) -> None:
    """A random Qwen3 with the tests' tokenizer."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import tiny_models
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tiny_models.make("qwen3", path)
    config = AutoConfig.from_pretrained(path)
    config.update(
        {"hidden_size": HIDDEN, "intermediate_size": 3 * HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    )
    config.layer_types = ["full_attention"] * LAYERS
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(path)


def run_packed(folder: Path, *, rows: int, batch: int) -> tuple[int, float]:
    """(tokens, seconds) of our job."""
    import pyarrow.parquet as pq

    from agentark_core import examples
    from agentark_core.training import sft, sft_data
    from agentark_core.types import SFTExample

    sft_data.tokenise = lambda *args, **kwargs: (token_rows(rows), 0)  # rows of exact lengths, whatever the tokenizer
    one = SFTExample(
        example_id="0",
        problem_id="p",
        prompt=(("user", "q"),),
        completion="a",
        source_fingerprint="f",
        work_id="w",
        round=1,
        agent=1,
        corrective=False,
    )
    pq.write_table(examples.to_table([one]), folder / "examples.parquet", write_page_checksum=True)
    settings = {"epochs": 1, "batch_size": batch, "micro_batch_size": batch, "dtype": "float32", "packing": True}
    result = sft.train(
        {
            "model": str(folder / "model"),
            "examples": str(folder / "examples.parquet"),
            "output": tempfile.mkdtemp(dir=folder),
            "sft": {**settings, "save_steps": 10**6},
        }
    )
    return result["tokens"], result["seconds"]


def run_trl(folder: Path, *, rows: int, batch: int) -> tuple[int, float]:
    """(tokens, seconds) of TRL's trainer."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from agentark_core.training import sft_data

    torch.set_num_threads(1)
    clock = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock["start"] = time.monotonic()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock["end"] = time.monotonic()

    data = [{"input_ids": row["input_ids"], "labels": sft_data.labels(row)} for row in token_rows(rows)]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(dir=folder),
            max_steps=rows // batch,
            per_device_train_batch_size=batch,
            max_length=None,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=datasets.Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Clock()],
    )
    trainer.train()
    return sum(len(row["input_ids"]) for row in data), clock["end"] - clock["start"]


def measure(side: str, folder: Path, *, rows: int, batch: int) -> float:
    """Tokens a second of one side, in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--rows", str(rows), "--batch", str(batch)], capture_output=True, text=True, check=True
    )
    tokens, seconds = json.loads(done.stdout.splitlines()[-1])
    return float(tokens / seconds)


def main() -> None:
    """Print the table, or be one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=320, help="a multiple of --batch")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"rows": options.rows, "batch": options.batch}
    if options.side:
        run = run_packed if options.side == "packed" else run_trl
        print(json.dumps(run(options.folder, **sizes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model")
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        for pair in range(options.pairs):
            for side in SIDES if pair % 2 else reversed(SIDES):
                rates[side].append(measure(side, Path(folder), **sizes))
                print(f"pair {pair + 1}: {side} {rates[side][-1]:,.0f} tokens/s", file=sys.stderr)
    ratios = [ours / theirs for ours, theirs in zip(rates["packed"], rates["trl"], strict=True)]
    print("| figure | median | range | pairs |\n|---|---:|---|---:|")
    figures = {"ours, packed, tokens/s": rates["packed"], "plain TRL, padded, tokens/s": rates["trl"], "ratio": ratios}
    for name, values in figures.items():
        digits = ".2f" if name == "ratio" else ",.0f"
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"| {name} | {middle:{digits}} | {low:{digits}} to {high:{digits}} | {len(values)} |")


if __name__ == "__main__":
    main()
