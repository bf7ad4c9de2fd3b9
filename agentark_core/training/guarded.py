"""What the trainers of all stages share: stop on non-finite numbers, checkpoints marked complete, metrics.jsonl.

Imports transformers at the top: import this module only inside a training process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback

from agentark_core.training import TrainingError, checkpoints, sft_data


class Guarded:
    """Goes before a transformers Trainer in the list of bases. Arguments beyond the trainer's: run (what a resumed run
    must share), keep_checkpoints, section (of the config, named in remedies). A subclass has `_ids_of`."""

    def __init__(self, *, run: dict[str, Any], keep_checkpoints: int, section: str, **kwargs: Any) -> None:
        self._run = run
        self._keep = keep_checkpoints
        self._section = section
        self.kept_steps: set[int] = set()
        """Checkpoints that are not pruned."""
        self._since_step: list[Any] = []
        """Micro batches whose gradients are in the step that comes next."""
        super().__init__(**kwargs)

    def _ids_of(self, inputs: Any) -> list[str]:
        """Ids of the rows in a batch."""
        raise NotImplementedError

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss; refuses one that is not finite."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss.detach()).all():
            raise self.diverged(f"the loss is {loss.item()}", self._ids_of(inputs))
        return loss

    def create_optimizer(self: Any, *args: Any) -> Any:
        """The trainer's optimizer. Under ZeRO stage 0 DeepSpeed does not look at gradients, so its step does."""
        optimizer = super().create_optimizer(*args)  # type: ignore[misc]
        if self.args.deepspeed["zero_optimization"]["stage"] == 0:
            optimizer.register_step_pre_hook(self._check_gradient)
        return optimizer

    def _check_gradient(self: Any, optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        # Clipping has left a NaN where one gradient was not finite. The norm takes one pass and no memory.
        if not torch.isfinite(get_total_norm([weight.grad for weight in weights if weight.grad is not None])):
            raise self._bad_gradient()

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses a gradient that is not finite: DeepSpeed would skip the step (stages 1 to 3) or take it (0)."""
        self._since_step.append(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self.model_wrapped.skipped_steps:
            raise self._bad_gradient()
        if self.accelerator.sync_gradients:
            self._since_step.clear()
        return loss

    def _bad_gradient(self: Any) -> TrainingError:
        """Every rank asks: by now the gradient is that of all of them, and nobody knows whose rows spoilt it."""
        ids = gather_object([name for inputs in self._since_step for name in self._ids_of(inputs)])
        return self.diverged("the gradient is not finite", list(dict.fromkeys(ids)))

    def diverged(self: Any, what: str, ids: list[str]) -> TrainingError:
        """The error that ends a run at the step that it is in."""
        return TrainingError(
            f"step {self.state.global_step + 1}, rank {self.args.process_index}: {what}; examples in this batch: "
            f"{', '.join(ids)}; lower {self._section}.learning_rate, use {self._section}.dtype float32, or drop them"
        )

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        self.check_weights()
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        self.accelerator.wait_for_everyone()  # every rank writes its own optimizer shard
        if self.args.should_save:
            root = Path(str(self.args.output_dir))
            step = self.state.global_step
            checkpoints.write_marker(root / f"checkpoint-{step}", {"step": step, "run": self._run})
            checkpoints.prune(root, keep=self._keep, spare=self.kept_steps)
        self.accelerator.wait_for_everyone()

    def check_weights(self: Any) -> None:
        """Raise TrainingError if a weight is not finite: such weights are never saved."""
        for name, weight in self.model.named_parameters():
            # Under ZeRO-3 a parameter is empty between passes, and ds_tensor is this rank's share of it.
            if not torch.isfinite(getattr(weight, "ds_tensor", weight).detach()).all():
                raise TrainingError(
                    f"step {self.state.global_step}, rank {self.args.process_index}: weight {name} is not finite; "
                    f"resume from the last complete checkpoint with a lower {self._section}.learning_rate"
                )


class MetricsFile(TrainerCallback):
    """Writes metrics.jsonl, one row per step: step, loss, lr, grad_norm, tokens and seconds since the start.

    grad_norm is null under ZeRO stage 0, which does not tell it. extra: more columns and the names under which the
    trainer logs them; null in steps where it does not. A resumed run drops the rows after its checkpoint and counts on
    from the last one it keeps.
    """

    def __init__(self, path: Path, *, resume_step: int, write: bool, extra: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._write = write
        self._extra = extra or {}
        self.rows = [row for row in sft_data.read_metrics(path) if row["step"] <= resume_step] if resume_step else []
        self._base = self.rows[-1] if self.rows else {"tokens": 0, "seconds": 0.0}
        self._start = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        """Drop the rows that will be written again; every rank has read the file by now. The clock starts here."""
        self._start = time.monotonic()
        state.num_input_tokens_seen = 0  # GRPO's count would go on from the checkpoint's; here it starts anew
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
            "grad_norm": logs.get("grad_norm"),
            **{column: logs.get(name) for column, name in self._extra.items()},
            "tokens": int(self._base["tokens"] + logs.get("num_tokens", 0)),
            "seconds": round(self._base["seconds"] + time.monotonic() - self._start, 3),
        }
        self.rows.append(row)
        if self._write:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
