"""TRL's SFTTrainer under DeepSpeed: weighted rows, fixed row order, stop on non-finite numbers, marked checkpoints.

The loss of an optimiser step, over the traces i of its batch with weights w_i and T_i completion tokens:

    L = - sum_i w_i sum_t log p(r_it | r_i<t, x_i)  /  sum_i w_i T_i

With all w_i = 1 that is the token mean of Eq. 1. With w_i = 1/k for the k selected traces of a question (Eq. 2) the
question counts once: like a single trace of their mean length. Sums run over the whole batch, over all forward passes
and processes, before they are divided, so neither accumulation nor packing nor the number of processes changes L.

Imports TRL at the top: import this module only inside a training process.
"""

from __future__ import annotations

from typing import Any

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig as TRLConfig
from trl import SFTTrainer

from agentark_core.chat import ChatFormat
from agentark_core.errors import ConfigError
from agentark_core.training import group, sft_data, student_model
from agentark_core.training.guarded import Guarded
from agentark_core.training.sft_batches import Collator
from agentark_core.training.sft_plan import Plan


def build_trainer(
    job: Plan, rows: list[dict[str, Any]], *, chat: ChatFormat, steps: int, on_gpu: bool, metrics: TrainerCallback
) -> OrderedSFTTrainer:
    """The trainer of one job: steps optimiser steps over rows (sft_data.tokenise), in this process's group."""
    disable_progress_bar()
    config = job.config
    arguments = TRLConfig(
        **group.trainer_arguments(
            config,
            output=job.output / "checkpoints",
            steps=steps,
            accumulation=job.accumulation,
            learning_rate=config.learning_rate,
            on_gpu=on_gpu,
        ),
        lr_scheduler_type="cosine",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows come tokenised, with labels
        use_liger_kernel=config.liger,
        remove_unused_columns=False,  # the collator needs them all
    )
    # After TRLConfig, which announces ZeRO-3 to from_pretrained.
    # Weights under adapters, which do not change, have the autocast type; ZeRO-3 wants one type for all.
    narrow = config.lora is not None and config.zero_stage < 3
    model = student_model.load(
        job.base, dtype=getattr(torch, config.dtype) if narrow else torch.float32, attention=config.attention
    )
    lengths = [len(row["input_ids"]) for row in rows]
    order = sft_data.training_order(
        lengths, steps=steps, batch_size=config.batch_size, seed=config.seed, packing=config.packing
    )
    columns = datasets.Dataset.from_list(
        [
            {
                "input_ids": row["input_ids"],
                "labels": sft_data.labels(row),
                "answer_start": row["answer_start"],
                "row": number,
            }
            for number, row in enumerate(rows)
        ]
    )
    tokenizer = chat.tokenizer
    flash = config.attention == "flash_attention_2"
    trainer = OrderedSFTTrainer(
        order=order,
        weights=[row["weight"] for row in rows],
        example_ids=[row["example_id"] for row in rows],
        run=job.run,
        keep_checkpoints=config.keep_checkpoints,
        section="sft",
        model=model,
        args=arguments,
        train_dataset=columns,
        processing_class=tokenizer,
        data_collator=Collator(
            layout="padded" if not config.packing else "flat" if flash else "packed",
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        ),
        peft_config=student_model.adapters(model, lora=config.lora) if config.lora else None,
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)  # metrics.jsonl has every step
    return trainer


EXTRA = {name: name for name in ("loss_reasoning", "loss_answer")}
"""Columns of metrics.jsonl: the means over the tokens of either part, null where the step had none."""


class OrderedSFTTrainer(Guarded, SFTTrainer):
    """Arguments beyond Guarded's and SFTTrainer's: order (row numbers for all steps), weights and example_ids (of the
    rows)."""

    def __init__(self, *, order: list[int], weights: list[float], example_ids: list[str], **kwargs: Any) -> None:
        self._order = order
        self._weights = torch.tensor([*weights, 0.0])  # the last one is that of padding, row -1
        self._example_ids = example_ids
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the whole batch, so Trainer must not
        self._borders_checked = False
        self._tokens = 0
        self._sums = torch.zeros(5, dtype=torch.float64)
        """Since the last log, in this process: weighted negative log-likelihood and weight of the reasoning tokens,
        the same of the answer tokens, and all tokens."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """sum_i w_i T_i over all forward passes and processes of one optimiser step."""
        total = sum(self._token_weights(batch).sum() for batch in batch_samples)
        return self.accelerator.reduce(torch.as_tensor(total, device=device), reduction="sum")

    def _token_weights(self, batch: Any) -> torch.Tensor:
        """(B, T - 1): the weight of the row at each predicted token, 0 where there is no loss."""
        weights = self._weights.to(batch["rows"].device)[batch["rows"][:, 1:]]
        return weights * (batch["labels"][:, 1:] != -100)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This forward pass's share of L (see above); refuses a loss that is not finite."""
        if "attention_mask" not in inputs and not self._borders_checked:
            self._check_borders(model, device=inputs["input_ids"].device)
        batch = {name: inputs.pop(name) for name in ("rows", "answer")}
        weights = self._token_weights({**batch, "labels": inputs["labels"]})
        losses = -model(**inputs, use_cache=False, fused_lm_head=True).log_probs * weights
        loss = losses.sum() / num_items_in_batch
        if not torch.isfinite(loss.detach()).all():
            raise self.diverged(f"the loss is {loss.item()}", self._ids_of(batch))
        self._count(losses.detach(), weights, **batch)
        return loss * self.accelerator.num_processes  # gradients are averaged over the processes

    def _count(self, losses: torch.Tensor, weights: torch.Tensor, *, rows: torch.Tensor, answer: torch.Tensor) -> None:
        answer = answer[:, 1:]
        sums = [losses[~answer].sum(), weights[~answer].sum(), losses[answer].sum(), weights[answer].sum()]
        self._sums += torch.stack([*sums, (rows >= 0).sum()]).double().cpu()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds tokens so far, and the two parts of the loss where the step had tokens of them."""
        if "loss" in logs:
            # gloo and NCCL sum where the model is; float32 holds the counts of one step.
            sums = self.accelerator.reduce(self._sums.float().to(self.args.device), reduction="sum").tolist()
            self._sums.zero_()
            self._tokens += round(sums[4])
            logs["num_tokens"] = self._tokens
            for part, (loss, weight) in {"reasoning": sums[0:2], "answer": sums[2:4]}.items():
                if weight:
                    logs[f"loss_{part}"] = loss / weight
        super().log(logs, start_time)

    def _check_borders(self, model: Any, *, device: Any) -> None:
        """Raise ConfigError if a packed row sees the one before it: change that one, and nothing else may change.

        Not every architecture takes borders from positions: Qwen2.5-VL, with three positions a token, does not.
        """
        first, changed, second = (torch.arange(n, n + 8, device=device) % 24 for n in (2, 10, 16))
        positions = torch.arange(8, device=device).repeat(2)[None]
        model.eval()
        with torch.no_grad():
            seen = [
                model(input_ids=torch.cat([neighbour, second])[None], position_ids=positions, use_cache=False).logits
                for neighbour in (first, changed)
            ]
        model.train()
        if not torch.allclose(seen[0][:, 8:], seen[1][:, 8:], rtol=0, atol=1e-6 * float(seen[0].abs().max())):
            raise ConfigError(
                f"sft.packing: in {type(self.accelerator.unwrap_model(model)).__name__} a packed row would see the row "
                "before it; set sft.packing false"
            )
        self._borders_checked = True

    def _ids_of(self, inputs: Any) -> list[str]:
        return [self._example_ids[row] for row in sorted(set(inputs["rows"].flatten().tolist()) - {-1})]
