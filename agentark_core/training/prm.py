"""A process reward model (Eq. 7): transformers' Trainer under DeepSpeed, from one resolved config to one directory.

By hand, alone or in a process group started by torchrun or deepspeed (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT):

    python -m agentark_core.training.prm --config resolved.json

resolved.json: {"model": directory of what it starts from, "revision": its content hash (or ""), "examples": Parquet
file or list of them, of the kind `process`, "held_out": problem_ids not to learn from (or absent), "output": directory,
"prm": keys of PRMConfig}. In the output directory:

    stage1/checkpoints/checkpoint-N/   with COMPLETE, see checkpoints.py; stage2 likewise
    stage1/metrics.jsonl               one row per step
    stage1/model/                      where stage 2 begins; stage1/COMPLETE declares it
    model/                             the model that prm_model.PRM loads: safetensors, tokenizer, prm.json
    COMPLETE                           the result; a second start returns it at once

Stage I trains the last layer and the head (a likelihood head alone), stage II everything. A stage with 0 epochs is left
out.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from agentark_core import heavy
from agentark_core.chat import ChatFormat
from agentark_core.config import PRMStage
from agentark_core.steps import STEPS_VERSION
from agentark_core.training import checkpoints, group, prm_data
from agentark_core.training.planning import tokenizer_digest
from agentark_core.training.prm_plan import Plan, plan

PRM_VERSION = "prm-2"
"""Changes when the same config would train another model: part of its fingerprint."""
FINAL_LOSS_STEPS = 10
"""final_loss is the mean loss of this many last steps."""


@group.names_full_disk
def train(resolved: dict[str, Any]) -> dict[str, Any]:
    """Run (or resume, or return at once) one job in this process, a member of its group; return the result.

    Result: {model, revision, questions, traces, too_long, held_out, silent, stages}, without the first two on ranks
    other than 0; stages: {name: {steps, final_loss, tokens, seconds}}, with loss, tokens and seconds as in SFT.
    """
    job = plan(resolved, world_size=group.join())
    result = checkpoints.finished(job.output, run=job.run)
    if result:
        return result
    on_gpu = group.prepare(cpus=job.config.cpus_per_worker)
    if on_gpu:
        job.check_memory(available=group.gpu_bytes())
    chat = ChatFormat.load(job.base)
    data = prm_data.questions(job.rows, chat, config=job.config)
    result = {
        "questions": len(data.items),
        "traces": sum(len(item["traces"]) for item in data.items),
        "too_long": data.too_long,
        "held_out": job.held_out,
        "silent": data.silent,
        "stages": {},
    }
    start = job.base
    for name, stage in job.stages:
        last = name == job.stages[-1][0]
        published = job.output if last else job.output / name
        done = None if last else checkpoints.finished(published, run=job.run)
        if done:
            result["stages"][name] = done["stages"][name]
        else:
            trainer, figures = _train_stage(job, data.items, name=name, stage=stage, start=start, chat=chat, gpu=on_gpu)
            result["stages"][name] = figures
            described = _publish(job, trainer, result=result, to=published, exact=not last)
            trainer.accelerator.free_memory()
        start = published / "model"
    return described


def _train_stage(
    job: Plan, items: list[dict[str, Any]], *, name: str, stage: PRMStage, start: Path, chat: ChatFormat, gpu: bool
) -> tuple[Any, dict[str, Any]]:
    """The trainer after its last step, and {steps, final_loss, tokens, seconds}."""
    with heavy.imports():
        from agentark_core.training.guarded import MetricsFile
        from agentark_core.training.prm_trainer import build_trainer

    steps = max(1, round(stage.epochs * len(items) / job.config.batch_size))
    folder = job.output / name / "checkpoints"
    resume, resume_step = checkpoints.resume_point(folder, run=job.run)
    main = os.environ["RANK"] == "0"
    metrics = MetricsFile(job.output / name / "metrics.jsonl", resume_step=resume_step, write=main)
    trainer = build_trainer(
        job,
        items,
        name=name,
        stage=stage,
        start=start,
        steps=steps,
        chat=chat,
        on_gpu=gpu,
        metrics=metrics,
    )
    if main:
        checkpoints.remove_incomplete(folder)
    trainer.accelerator.wait_for_everyone()
    trainer.train(resume_from_checkpoint=resume)
    trainer.check_weights()
    last = [row["loss"] for row in metrics.rows[-FINAL_LOSS_STEPS:]]
    return trainer, {
        "steps": steps,
        "final_loss": sum(last) / len(last),
        "tokens": metrics.rows[-1]["tokens"],
        "seconds": metrics.rows[-1]["seconds"],
    }


def _publish(job: Plan, trainer: Any, *, result: dict[str, Any], to: Path, exact: bool) -> dict[str, Any]:
    """Write to/model with prm.json; see group.write_model. exact: in float32, to train on; else in the base's type."""
    state = group.gathered(trainer)

    def save(model: Any, folder: Path) -> None:
        assert state is not None
        dtype = "float32" if exact else group.base_dtype(job.base)
        group.save_weights(model, state, to=folder, dtype=dtype)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2), encoding="utf-8")
        about = {
            "prm_version": PRM_VERSION,
            "head": job.config.head,
            "splitter": STEPS_VERSION,
            "tokenizer": tokenizer_digest(job.base),
            "base_revision": job.revision,
            "parents": [job.revision],
            "examples": job.digest,
            **result,
            "prm": job.config.model_dump(mode="json"),
        }
        (folder / "prm.json").write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")

    return group.write_model(trainer, base=job.base, output=to, run=job.run, result=result, save=save)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return group.run_cli(train, module="prm", what="A process reward model", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
