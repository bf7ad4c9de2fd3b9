"""TRL's SFTTrainer under DeepSpeed: fixed row order, stop on non-finite numbers, checkpoints marked complete.

Imports TRL at the top: import this module only inside a training process.
"""

from __future__ import annotations

import math
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig as TRLConfig
from trl import SFTTrainer

from agentark_core.chat import ChatFormat
from agentark_core.training import group, sft_data
from agentark_core.training.guarded import Guarded
from agentark_core.training.sft_plan import Plan


def build_trainer(
    job: Plan, rows: list[dict[str, Any]], *, chat: ChatFormat, steps: int, on_gpu: bool, metrics: TrainerCallback
) -> OrderedSFTTrainer:
    """The trainer of one job: steps optimiser steps over rows (sft_data.tokenise), in this process's group."""
    disable_progress_bar()
    config = job.config
    arguments = TRLConfig(
        output_dir=str(job.output / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=job.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows come tokenised, with labels
        bf16=False,  # mixed precision is DeepSpeed's: torch_autocast below
        gradient_checkpointing=on_gpu,
        optim="adamw_torch",
        deepspeed=group.deepspeed_config(zero_stage=config.zero_stage, dtype=config.dtype, on_gpu=on_gpu),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        save_steps=config.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
    )
    # After TRLConfig, which announces ZeRO-3 to from_pretrained; weights in float32, so that small updates count.
    model = AutoModelForCausalLM.from_pretrained(
        job.base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    lengths = [len(row["input_ids"]) for row in rows]
    order = sft_data.training_order(lengths, steps=steps, batch_size=config.batch_size, seed=config.seed)
    columns = datasets.Dataset.from_list(
        [{"input_ids": row["input_ids"], "labels": sft_data.labels(row)} for row in rows]
    )
    trainer = OrderedSFTTrainer(
        order=order,
        example_ids=[row["example_id"] for row in rows],
        run=job.run,
        keep_checkpoints=config.keep_checkpoints,
        section="sft",
        model=model,
        args=arguments,
        train_dataset=columns,
        processing_class=chat.tokenizer,
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)  # metrics.jsonl has every step
    return trainer


class OrderedSFTTrainer(Guarded, SFTTrainer):
    """TRL's token-mean of Eq. 1 over the whole optimiser batch, guarded. Arguments beyond Guarded's: order (row numbers
    for all steps), example_ids (of the rows)."""

    def __init__(self, *, order: list[int], example_ids: list[str], **kwargs: Any) -> None:
        self._order = order
        self._example_ids = example_ids
        super().__init__(**kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def _ids_of(self, inputs: Any) -> list[str]:
        """Ids of the examples in a batch, found by their tokens (the collator keeps no other columns)."""
        rows = list(self.train_dataset["input_ids"])
        by_tokens = {tuple(row): example for row, example in zip(rows, self._example_ids, strict=True)}
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        tokens = [tuple(row[:length]) for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        return [by_tokens.get(row, "?") for row in tokens]
