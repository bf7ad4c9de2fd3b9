"""TRL's SFTTrainer with a fixed row order, a stop on non-finite numbers, and checkpoints that are marked complete.

Imports TRL at the top: import this module only inside a training process.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from agentark_core.training import TrainingError, checkpoints


class OrderedSFTTrainer(SFTTrainer):  # type: ignore[misc]
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
            raise TrainingError(
                f"step {self.state.global_step + 1}, rank {self.args.process_index}: the loss is {loss.item()}; "
                f"examples in this batch: {', '.join(self._ids_of(inputs))}; lower sft.learning_rate, "
                "use sft.dtype float32, or look at these examples"
            )
        return loss

    def _ids_of(self, inputs: Any) -> list[str]:
        """Ids of the examples in a batch, found by their tokens (the collator keeps no other columns)."""
        rows = list(self.train_dataset["input_ids"])  # type: ignore[index]
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
        """Raise TrainingError if a weight is not finite (a finite loss can have an infinite gradient)."""
        for name, weight in self.model.named_parameters():  # type: ignore[union-attr]
            if not torch.isfinite(weight.detach()).all():
                raise TrainingError(
                    f"step {self.state.global_step}, rank {self.args.process_index}: weight {name} is not finite; "
                    "resume from the last complete checkpoint with a lower sft.learning_rate"
                )


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """Writes metrics.jsonl, one row per step: step, loss, lr, grad_norm, tokens and seconds since the start.

    A resumed run drops the rows after its checkpoint and counts on from the last one it keeps.
    """

    def __init__(self, path: Path, *, resume_step: int, write: bool) -> None:
        self.path = path
        self._write = write
        self.rows = [row for row in read_metrics(path) if row["step"] <= resume_step] if resume_step else []
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
        grad_norm = logs.get("grad_norm")
        row = {
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "lr": float(logs["learning_rate"]),
            "grad_norm": float(grad_norm) if grad_norm is not None and math.isfinite(float(grad_norm)) else None,
            "tokens": int(self._base["tokens"] + logs.get("num_tokens", 0)),
            "seconds": round(self._base["seconds"] + time.monotonic() - self._start, 3),
        }
        self.rows.append(row)
        if self._write:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; a last line cut by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
