"""Shared by the tests of GRPO and PPO: arkling prompts as Parquet, jobs for the shipped student, Eq. 3 in float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from agentark_core import prompts
from agentark_core.arkling import generator, model_path
from agentark_core.chat import ChatFormat
from agentark_core.config import GRPOConfig
from agentark_core.extraction import PROMPT_SCHEMA
from agentark_core.training import group, grpo_data, grpo_plan
from agentark_core.training.rewards import Rewarder, open_scorer
from agentark_core.verify import Verifier


def write_prompts(path: Path, *, number: int) -> Path:
    """Questions of arkling as the `prompts` extraction writes them."""
    rows = [
        {
            "problem_id": problem.problem_id,
            "prompt": prompts.first_answer(problem.question, wording="arkling"),
            "gold": problem.gold,
            "task": problem.task,
            "work_id": f"w{place}",
            "source_fingerprint": "f",
            "decided": 5,
            "correct": 3,
        }
        for place, problem in enumerate(generator.problems("distil", limit=number))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), path, write_page_checksum=True)
    return path


def resolved(data: Path, output: Path, *, base: Path | None = None, **settings: Any) -> dict[str, Any]:
    config = {
        "scorer": "exact",
        "prompts_per_step": 4,
        "group_size": 4,
        "micro_batch_size": 8,
        "learning_rate": 1e-4,
        "max_tokens": 80,
        "watch_prompts": 8,
        "save_steps": 4,
        "dtype": "float32",
    }
    return {
        "model": str(base or model_path("student")),
        "prompts": str(data),
        "output": str(output),
        "grpo": {**config, **settings},
    }


def build(data: Path, output: Path, verifier: Verifier, **settings: Any) -> Any:
    """The trainer of a job that is not run, 8 of its prompts held out."""
    group.prepare(cpus=1)
    from transformers import TrainerCallback

    from agentark_core.training.grpo_trainer import PolicyTrainer, build_trainer
    from agentark_core.training.ppo_trainer import ValueTrainer

    job = grpo_plan.plan(resolved(data, output, **settings), world_size=1)
    prompts, held_out = grpo_data.hold_out(job.prompts, number=8, at_least=4)
    return build_trainer(
        job,
        prompts,
        held_out,
        order=list(range(8)),
        chat=ChatFormat.load(job.base),
        rewarder=Rewarder(job.config, scorer=open_scorer(job.config, prm=None), verifier=verifier),
        on_gpu=False,
        metrics=TrainerCallback(),
        kind=ValueTrainer if job.config.advantage == "value" else PolicyTrainer,
    )


def logps(model: Any, batch: dict[str, Any], row: int, *, temperature: float) -> Any:
    """log pi(o_t | q, o_<t) for the tokens of one completion, from unpadded ids."""
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
    completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    logits = model(torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1)[range(len(completion)), completion]


def eq3(policy: Any, base: Any, batch: dict[str, Any], advantages: Sequence[Any], config: GRPOConfig) -> Any:
    """-(1/G) sum_i (1/|o_i|) sum_t [min(rho A, clip(rho) A) - beta rho k3], rho against the base as old policy.

    advantages: of each completion, a number or one of each token.
    """
    total = torch.zeros((), dtype=torch.float64)
    for row, advantage in enumerate(advantages):
        if not batch["completion_mask"][row].any():
            continue  # truncated
        new = logps(policy, batch, row, temperature=config.temperature)
        with torch.no_grad():
            old = logps(base, batch, row, temperature=config.temperature)
        ratio = (new - old).exp()
        clipped = ratio.clamp(1 - config.epsilon, 1 + config.epsilon)
        k3 = (old - new).exp() - (old - new) - 1
        total = total - (torch.minimum(ratio * advantage, clipped * advantage) - config.beta * ratio * k3).mean()
    return total / len(advantages)


def perturb(model: Any) -> None:
    """The same noise on every weight, whatever the number format."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32) * 0.02
            weight.add_(noise.to(weight.dtype))
