"""SFT, R-SFT (Eq. 1) and data augmentation (Eq. 2): TRL under DeepSpeed, from a resolved config to a model directory.

By hand, alone or in a process group started by torchrun or deepspeed (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT):

    python -m agentark_core.training.sft --config resolved.json

resolved.json: {"model": directory of the base, "revision": its content hash (or ""), "examples": Parquet file or list
of them, "held_out": problem_ids not to learn from (or absent), "output": directory, "sft": keys of SFTConfig}. In the
output directory:

    checkpoints/checkpoint-N/   with COMPLETE, see checkpoints.py
    metrics.jsonl               one row per step
    model/                      model.safetensors, config, tokenizer, chat template, agentark.json (lineage)
    COMPLETE                    the result; a second start returns it at once
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from agentark_core import heavy
from agentark_core.chat import ChatFormat
from agentark_core.config import SFTConfig
from agentark_core.errors import ConfigError
from agentark_core.training import checkpoints, group, sft_data
from agentark_core.training.sft_plan import plan

SFT_VERSION = "sft-2"
"""Changes when the same config would train another model: part of a student's fingerprint."""
FINAL_LOSS_STEPS = 10
"""final_loss is the mean loss of this many last steps."""


@group.names_full_disk
def train(resolved: dict[str, Any]) -> dict[str, Any]:
    """Run (or resume, or return at once) one job in this process, a member of its group; return the result.

    Result: {model, revision, steps, examples, too_long, held_out, final_loss, tokens, seconds}, without the first two
    on ranks other than 0; tokens include prompts and count every pass, seconds are those of the training loop.
    """
    job = plan(resolved, world_size=group.join())
    result = checkpoints.finished(job.output, run=job.run)
    if result:
        return result
    on_gpu = group.prepare(cpus=job.config.cpus_per_worker)
    _check_kernels(job.config, on_gpu=on_gpu)
    if on_gpu:
        job.check_memory(available=group.gpu_bytes())
    with heavy.imports():
        from agentark_core.training import student_model
        from agentark_core.training.guarded import MetricsFile
        from agentark_core.training.sft_trainer import EXTRA, build_trainer

    chat = ChatFormat.load(job.base)
    rows, too_long = sft_data.tokenise(job.examples, chat, max_length=job.config.max_length)
    steps = max(1, round(job.config.epochs * len(rows) / job.config.batch_size))
    folder = job.output / "checkpoints"
    resume, resume_step = checkpoints.resume_point(folder, run=job.run)
    main = os.environ["RANK"] == "0"
    metrics = MetricsFile(job.output / "metrics.jsonl", resume_step=resume_step, write=main, extra=EXTRA)
    trainer = build_trainer(job, rows, chat=chat, steps=steps, on_gpu=on_gpu, metrics=metrics)
    if main:
        checkpoints.remove_incomplete(folder)
    trainer.accelerator.wait_for_everyone()
    trainer.train(resume_from_checkpoint=resume)
    trainer.check_weights()
    last = [row["loss"] for row in metrics.rows[-FINAL_LOSS_STEPS:]]
    result = {
        "steps": steps,
        "examples": len(rows),
        "too_long": too_long,
        "held_out": job.held_out,
        "final_loss": sum(last) / len(last),
        "tokens": metrics.rows[-1]["tokens"],
        "seconds": metrics.rows[-1]["seconds"],
    }
    lineage = {"parents": [job.revision], "examples": job.digest, "sft": job.config.model_dump()}
    weights = group.gathered(trainer)
    if job.config.lora and weights is not None:
        weights = student_model.merged(weights, lora=job.config.lora)
    return group.publish(
        trainer, base=job.base, output=job.output, run=job.run, lineage=lineage, result=result, weights=weights
    )


def _check_kernels(config: SFTConfig, *, on_gpu: bool) -> None:
    """Raise ConfigError if a GPU option meets no GPU or lacks its package."""
    wanted = {"liger": ("liger_kernel", config.liger), "attention": ("flash_attn", config.attention != "sdpa")}
    for key, (package, on) in wanted.items():
        if on and not on_gpu:
            raise ConfigError(f"sft.{key} is for GPUs and this process sees none; leave it out, or train on a GPU")
        if on and importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise ConfigError(f"sft.{key} needs the package {name}, which is not installed: pip install {name}")


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return group.run_cli(train, module="sft", what="SFT, R-SFT or data augmentation", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
