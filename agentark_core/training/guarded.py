"""What every trainer under DeepSpeed shares: fixed row order, stop on non-finite numbers, checkpoints marked complete.

Imports torch and transformers at the top: import this module only inside a training process.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from agentark_core.config import PRMConfig, SFTConfig
from agentark_core.training import TrainingError, checkpoints, sft_data


def deepspeed_config(config: SFTConfig | PRMConfig, *, on_gpu: bool) -> dict[str, Any]:
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


class GuardedTrainer(Trainer):
    """Arguments beyond Trainer's: section (of the config, for messages), order (row numbers for all steps), run (what
    a resumed run must share), keep_checkpoints."""

    def __init__(
        self, *, section: str, order: list[int], run: dict[str, Any], keep_checkpoints: int, **kwargs: Any
    ) -> None:
        self._section = section
        self._order = order
        self._run = run
        self._keep = keep_checkpoints
        super().__init__(**kwargs)

    def ids_of(self, inputs: Any) -> list[str]:
        """Ids of the examples in a batch, for an error message."""
        raise NotImplementedError

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses a gradient that is not finite: DeepSpeed would skip the step with a warning and go on."""
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.model_wrapped.skipped_steps:
            raise self.diverged("the gradient is not finite", inputs)
        return loss

    def diverged(self, what: str, inputs: Any) -> TrainingError:
        """The error of a batch whose numbers are not finite."""
        section, ids = self._section, ", ".join(self.ids_of(inputs))
        return TrainingError(
            f"step {self.state.global_step + 1}, rank {self.args.process_index}: {what}; examples in this batch: {ids}; "
            f"lower {section}.learning_rate, use {section}.dtype float32, or drop them"
        )

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
                    f"resume from the last complete checkpoint with a lower {self._section}.learning_rate"
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
