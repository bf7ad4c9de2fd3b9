"""transformers' Trainer for a process reward model: batches of whole questions, and their loss.

The loss of an optimiser step is the sum of prm_loss over its questions, divided by its number of terms: positive steps
of Eq. 7, or the weights of cross-entropy. Sums run over all forward passes and processes before they are divided, so
neither accumulation nor the number of processes changes it.

Imports torch and transformers at the top: import this module only inside a training process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from agentark_core.chat import ChatFormat
from agentark_core.config import PRMConfig, PRMStage
from agentark_core.training import group, prm_head, prm_loss, sft_data
from agentark_core.training.guarded import Guarded
from agentark_core.training.prm_plan import Plan


def build_trainer(
    job: Plan,
    items: list[dict[str, Any]],
    *,
    name: str,
    stage: PRMStage,
    start: Path,
    steps: int,
    chat: ChatFormat,
    on_gpu: bool,
    metrics: TrainerCallback,
) -> PRMTrainer:
    """The trainer of one stage: steps optimiser steps over items (prm_data.questions) from the weights in start."""
    disable_progress_bar()
    set_verbosity_error()  # that the head is new is no news
    config = job.config
    arguments = TrainingArguments(
        **group.trainer_arguments(
            config,
            output=job.output / name / "checkpoints",
            steps=steps,
            accumulation=job.accumulation,
            learning_rate=stage.learning_rate,
            on_gpu=on_gpu,
        ),
        lr_scheduler_type="cosine",
        remove_unused_columns=False,  # the collator needs them all
    )
    # After TrainingArguments, which announce ZeRO-3 to from_pretrained.
    # In float32, so that small updates count. The head of the first stage is kept.
    model = prm_head.load(start, head=config.head, dtype=torch.float32, seed=config.seed)
    prm_head.choose_trained(model, head=config.head, stage=name)
    lengths = [sum(len(trace["input_ids"]) for trace in item["traces"]) for item in items]
    pad = chat.tokenizer.pad_token_id
    trainer = PRMTrainer(
        config=config,
        section="prm",
        order=sft_data.training_order(lengths, steps=steps, batch_size=config.batch_size, seed=config.seed),
        run=job.run,
        keep_checkpoints=config.keep_checkpoints,
        model=model,
        args=arguments,
        train_dataset=items,
        data_collator=Collator(pad_token_id=chat.stop_ids[0] if pad is None else pad),
        processing_class=chat.tokenizer,
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)  # metrics.jsonl has every step
    return trainer


class Collator:
    """Whole questions -> one padded batch of their traces, and what is learned from their steps.

    input_ids, attention_mask: (traces, tokens). starts_R: where each completion begins. trace_S, position_S: where each
    step is scored. labels_S, weights_S. positives_P, negatives_P_N: steps by number in the batch, -1 pads. traces: the
    ids, in order.
    """

    def __init__(self, *, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        traces = [trace for item in items for trace in item["traces"]]
        length = max(len(trace["input_ids"]) for trace in traces)
        ids = [trace["input_ids"] + [self.pad_token_id] * (length - len(trace["input_ids"])) for trace in traces]
        mask = [[1] * len(trace["input_ids"]) + [0] * (length - len(trace["input_ids"])) for trace in traces]
        contrasts, first = [], 0
        for item in items:
            contrasts += [
                (first + positive, [first + n for n in negatives]) for positive, negatives in item["contrasts"]
            ]
            first += len(item["labels"])
        width = max((len(negatives) for _, negatives in contrasts), default=0)
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(mask),
            "starts_R": torch.tensor([trace["start"] for trace in traces]),
            "trace_S": torch.tensor([row for row, trace in enumerate(traces) for _ in trace["positions"]]),
            "position_S": torch.tensor([position for trace in traces for position in trace["positions"]]),
            "labels_S": torch.tensor([label for item in items for label in item["labels"]]),
            "weights_S": torch.tensor([weight for item in items for weight in item["weights"]]),
            "positives_P": torch.tensor([positive for positive, _ in contrasts], dtype=torch.long),
            "negatives_P_N": torch.tensor(
                [negatives + [-1] * (width - len(negatives)) for _, negatives in contrasts], dtype=torch.long
            ),
            "traces": [trace["example_id"] for trace in traces],
        }


class PRMTrainer(Guarded, Trainer):
    """Arguments beyond those of its bases: config, order (item numbers for all steps)."""

    def __init__(self, *, config: PRMConfig, order: list[int], **kwargs: Any) -> None:
        self._config = config
        self._order = order
        self._tokens_since_log = 0
        self._tokens = 0
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the whole batch, so Trainer must not

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Terms of the loss in all forward passes and processes of one optimiser step."""
        if self._config.loss == "contrastive":
            terms = float(sum(len(batch["positives_P"]) for batch in batch_samples))
        else:
            terms = float(sum(batch["weights_S"].sum() for batch in batch_samples))
        return self.accelerator.reduce(torch.tensor(terms, device=device), reduction="sum")

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This forward pass's share of the loss; refuses one that is not finite."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "starts_R")}
        out = model(**prm_head.inputs(self._config.head, **read))
        scores_S = out.logits[inputs["trace_S"], inputs["position_S"], 0].float()
        if self._config.loss == "contrastive":
            total = prm_loss.contrastive(
                scores_S,
                positives_P=inputs["positives_P"],
                negatives_P_N=inputs["negatives_P_N"],
                temperature=self._config.temperature,
            )
        else:
            total = prm_loss.cross_entropy(scores_S, labels_S=inputs["labels_S"], weights_S=inputs["weights_S"])
        loss = total / num_items_in_batch
        if not torch.isfinite(loss.detach()).all():
            raise self.diverged(f"the loss is {loss.item()}", self._ids_of(inputs))
        self._tokens_since_log += int(inputs["attention_mask"].sum())
        return loss * self.accelerator.num_processes  # gradients are averaged over the processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds tokens so far, of all processes."""
        if "loss" in logs:
            step = torch.tensor(float(self._tokens_since_log), device=self.args.device)
            self._tokens += round(self.accelerator.reduce(step, reduction="sum").item())
            self._tokens_since_log = 0
            logs["num_tokens"] = self._tokens
        super().log(logs, start_time)

    def _ids_of(self, inputs: Any) -> list[str]:
        """Ids of the traces in a batch."""
        return list(inputs["traces"])
