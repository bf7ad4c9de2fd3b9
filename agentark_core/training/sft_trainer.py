"""TRL's SFTTrainer under DeepSpeed: fixed row order, stop on non-finite numbers, checkpoints marked complete.

Imports TRL at the top: import this module only inside a training process.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig as TRLConfig
from trl import SFTTrainer

from agentark_core.chat import ChatFormat
from agentark_core.config import SFTConfig
from agentark_core.training import TrainingError, checkpoints, sft_data
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
        deepspeed=_deepspeed(config, on_gpu=on_gpu),
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
        model=model,
        args=arguments,
        train_dataset=columns,
        processing_class=chat.tokenizer,
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)  # metrics.jsonl has every step
    return trainer


def _deepspeed(config: SFTConfig, *, on_gpu: bool) -> dict[str, Any]:
    """The DeepSpeed config. AdamW is torch's own: DeepSpeed's CPU Adam would be compiled at the first start."""
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": on_gpu,
            "stage3_gather_16bit_weights_on_model_save": config.zero_stage == 3,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": config.dtype == "bfloat16", "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }


class OrderedSFTTrainer(SFTTrainer):
    """Arguments beyond SFTTrainer's: order (row numbers for all steps), example_ids (of the rows), run (what a
    resumed run must share), keep_checkpoints."""

    def __init__(
        self, *, order: list[int], example_ids: list[str], run: dict[str, Any], keep_checkpoints: int, **kwargs: Any
    ) -> None:
        self._order = order
        self._example_ids = example_ids
        self._run = run
        self._keep = keep_checkpoints
        super().__init__(**kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's token-mean of Eq. 1 over the whole optimiser batch; refuses a loss that is not finite."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not torch.isfinite(loss.detach()).all():
            raise self._diverged(f"the loss is {loss.item()}", inputs)
        return loss

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses a gradient that is not finite: DeepSpeed would skip the step with a warning and go on."""
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.model_wrapped.skipped_steps:
            raise self._diverged("the gradient is not finite", inputs)
        return loss

    def _diverged(self, what: str, inputs: Any) -> TrainingError:
        return TrainingError(
            f"step {self.state.global_step + 1}, rank {self.args.process_index}: {what}; examples in this batch: "
            f"{', '.join(self._ids_of(inputs))}; lower sft.learning_rate, use sft.dtype float32, or drop them"
        )

    def _ids_of(self, inputs: Any) -> list[str]:
        """Ids of the examples in a batch, found by their tokens (the collator keeps no other columns)."""
        rows = list(self.train_dataset["input_ids"])
        by_tokens = {tuple(row): example for row, example in zip(rows, self._example_ids, strict=True)}
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        tokens = [tuple(row[:length]) for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        return [by_tokens.get(row, "?") for row in tokens]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.check_weights()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every rank writes its own optimizer shard
        if self.args.should_save:
            root = Path(str(self.args.output_dir))
            step = self.state.global_step
            checkpoints.write_marker(root / f"checkpoint-{step}", {"step": step, "run": self._run})
            checkpoints.prune(root, keep=self._keep)
        self.accelerator.wait_for_everyone()

    def check_weights(self) -> None:
        """Raise TrainingError if a weight is not finite: such weights are never saved."""
        for name, weight in self.model.named_parameters():
            if not torch.isfinite(weight.detach()).all():
                raise TrainingError(
                    f"step {self.state.global_step}, rank {self.args.process_index}: weight {name} is not finite; "
                    "resume from the last complete checkpoint with a lower sft.learning_rate"
                )


class MetricsFile(TrainerCallback):
    """Writes metrics.jsonl, one row per step: step, loss, lr, grad_norm, tokens and seconds since the start.

    A resumed run drops the rows after its checkpoint and counts on from the last one it keeps.
    """

    def __init__(self, path: Path, *, resume_step: int, write: bool) -> None:
        self.path = path
        self._write = write
        self.rows = [row for row in sft_data.read_metrics(path) if row["step"] <= resume_step] if resume_step else []
        self._base = self.rows[-1] if self.rows else {"tokens": 0, "seconds": 0.0}
        self._start = time.monotonic()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Drop the rows that will be written again; every rank has read the file by now. The clock starts here."""
        self._start = time.monotonic()
        if self._write:
            self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append a row for a step (the closing summary of the trainer carries no loss and is left out)."""
        if not logs or "loss" not in logs:
            return
        row = {
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "lr": float(logs["learning_rate"]),
            "grad_norm": float(logs["grad_norm"]),
            "tokens": int(self._base["tokens"] + logs.get("num_tokens", 0)),
            "seconds": round(self._base["seconds"] + time.monotonic() - self._start, 3),
        }
        self.rows.append(row)
        if self._write:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
