"""GRPO (Eq. 3-5) and PPO (Eq. 8-9): TRL's GRPOTrainer under DeepSpeed, from one resolved config to one model directory.

By hand, alone or in a process group started by torchrun or deepspeed (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT):

    python -m agentark_core.training.grpo --config resolved.json

resolved.json: {"model": directory of the base, "revision": its content hash (or ""), "prompts": Parquet file or list
of them (the `prompts` extraction), "prm": directory of the process reward model (scorer prm), "output": directory,
"grpo": keys of GRPOConfig}. In the output directory:

    checkpoints/checkpoint-N/   with COMPLETE, see checkpoints.py
    metrics.jsonl               one row per step; watch.jsonl: one row per look of the watch
    model/                      model.safetensors, config, tokenizer, chat template, agentark.json (lineage)
    COMPLETE                    the result; a second start returns it at once
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from agentark_core import heavy
from agentark_core.chat import ChatFormat
from agentark_core.training import checkpoints, group, grpo_data, watch
from agentark_core.training.grpo_plan import Plan, plan
from agentark_core.training.rewards import Rewarder, open_scorer
from agentark_core.verify import Verifier

GRPO_VERSION = "grpo-3"
"""Changes when the same config would train another model: part of a student's fingerprint."""
FINAL_STEPS = 10
"""final_reward is the mean reward of this many last rollout batches."""

log = logging.getLogger(__name__)


@group.names_full_disk
def train(resolved: dict[str, Any]) -> dict[str, Any]:
    """Run (or resume, or return at once) one job in this process, a member of its group; return the result.

    Result: {model, revision, steps, published_step, stopped, prompts, held_out, too_long, final_reward,
    zero_variance_groups, groups, watch, tokens, seconds}, without the first two on ranks other than 0. stopped: why the
    watch ended the run (null: it did not); published_step: whose weights the model has; watch: the looks without
    their outcomes; tokens include prompts.
    """
    job = plan(resolved, world_size=group.join())
    result = checkpoints.finished(job.output, run=job.run)
    if result:
        return result
    config = job.config
    on_gpu = group.prepare(cpus=config.cpus_per_worker)
    if on_gpu:
        job.check_memory(available=group.gpu_bytes())
    with heavy.imports():
        from agentark_core.training.grpo_trainer import LOGGED, PolicyTrainer, build_trainer
        from agentark_core.training.guarded import MetricsFile
        from agentark_core.training.ppo_trainer import ValueTrainer
        from agentark_core.training.value import without_head

    chat = ChatFormat.load(job.base)
    fitting = grpo_data.fitting(job.prompts, chat, max_prompt_tokens=config.max_prompt_tokens)
    prompts, held_out = grpo_data.hold_out(fitting, number=config.watch_prompts, at_least=config.prompts_per_step)
    batches = max(1, round(config.epochs * len(prompts) / config.prompts_per_step))
    order = grpo_data.rollout_order(len(prompts), batches=batches, batch_size=config.prompts_per_step, seed=config.seed)
    folder = job.output / "checkpoints"
    resume, resume_step = checkpoints.resume_point(folder, run=job.run)
    main = os.environ["RANK"] == "0"
    metrics = MetricsFile(job.output / "metrics.jsonl", resume_step=resume_step, write=main, extra=LOGGED)
    with Verifier(workers=1) as verifier:
        trainer = build_trainer(
            job,
            prompts,
            held_out,
            order=order,
            chat=chat,
            rewarder=Rewarder(config, scorer=open_scorer(config, prm=job.prm), verifier=verifier),
            on_gpu=on_gpu,
            metrics=metrics,
            kind=ValueTrainer if config.advantage == "value" else PolicyTrainer,
        )
        trainer.restore_looks(resume_step=resume_step)
        if main:
            checkpoints.remove_incomplete(folder)
        trainer.check_weights()
        trainer.accelerator.wait_for_everyone()
        trainer.train(resume_from_checkpoint=resume)
    trainer.check_weights()
    step = trainer.state.global_step
    if trainer.stopped:
        step = watch.best(trainer.looks).step
        log.warning("%s; the run ends, and the model of step %d is published", trainer.stopped, step)
        weights = _weights(job, step=step)
    else:
        weights = group.gathered(trainer) or {}  # ZeRO-3: rank 0 alone has them
    rewards = [row["reward"] for row in metrics.rows if row["reward"] is not None]
    result = {
        "steps": trainer.state.global_step,
        "published_step": step,
        "stopped": trainer.stopped,
        "prompts": len(prompts),
        "held_out": len(held_out),
        "too_long": len(job.prompts) - len(fitting),
        "final_reward": sum(rewards[-FINAL_STEPS:]) / len(rewards[-FINAL_STEPS:]),
        "zero_variance_groups": round(sum(row["zero_variance_groups"] or 0 for row in metrics.rows)),
        "groups": len(rewards) * config.prompts_per_step,
        "watch": [{"step": look.step, "reward": look.reward, "accuracy": look.accuracy} for look in trainer.looks],
        "tokens": metrics.rows[-1]["tokens"],
        "seconds": metrics.rows[-1]["seconds"],
    }
    lineage = {
        "parents": [job.revision],
        "prompts_digest": job.digest,
        "scorer": job.scorer,
        "grpo": config.model_dump(),
    }
    return group.publish(
        trainer,
        base=job.base,
        output=job.output,
        run=job.run,
        lineage=lineage,
        result=result,
        weights=without_head(weights),
    )


def _weights(job: Plan, *, step: int) -> dict[str, Any]:
    """The weights of a checkpoint, or of the base for step 0."""
    from safetensors.torch import load_file

    folder: Path = job.output / "checkpoints" / f"checkpoint-{step}" if step else job.base
    return {name: weight for file in sorted(folder.glob("*.safetensors")) for name, weight in load_file(file).items()}


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return group.run_cli(train, module="grpo", what="GRPO", argv=argv)


if __name__ == "__main__":
    sys.exit(main())
