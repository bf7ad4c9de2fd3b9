"""What is measured inside a training process: seconds of its steps and of their parts, and the peak of its memory.

A GPU computes behind Python's back, so every clock first waits until it has finished. Waiting at each part leaves the
GPU idle for a moment; where parts are not wanted, only the ends of the steps are waited for.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

PARTS = {
    "generation": "_generate_single_turn",
    "scoring": "_calculate_rewards",
    "log-probabilities": "_get_per_token_logps_and_entropies",
    "forward": "compute_loss",
}
"""Parts of a step and the trainer's methods that they are, where it has them; DeepSpeed's engine has two more."""
OF_ENGINE = {"backward": "backward", "optimiser": "step"}


class Clock(TrainerCallback):
    """Measures steps after warm_up of them, then ends the training (so that no checkpoint is written).

    A part within a part is the outer one's: log-probabilities are those of the rollout, not those of `forward`.
    """

    def __init__(self, *, warm_up: int, steps: int, parts: bool) -> None:
        self.warm_up, self.steps, self.parts = warm_up, steps, parts
        self.trainer: Any = None
        self.rows: list[dict[str, Any]] = []
        """Of each measured step: seconds since the end of the one before, and by part."""
        self.memory: dict[str, int] = {}
        """Peak bytes that torch had allocated and reserved; empty without a GPU."""
        self._spent: dict[str, float] = defaultdict(float)
        self._in_part = False
        self._last = 0.0

    def watch(self, trainer: Any) -> None:
        """Measure this trainer."""
        self.trainer = trainer
        trainer.add_callback(self)
        if self.parts:
            self._time_methods(trainer, PARTS)

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """DeepSpeed's engine is there now. It steps within accelerate's backward."""
        if self.parts:
            self._time_methods(self.trainer.model_wrapped, OF_ENGINE)
        self._last = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the step; after the last one, read the peak before anything is saved."""
        now = self._now()
        if state.global_step > self.warm_up:
            self.rows.append({"seconds": now - self._last, "parts": dict(self._spent)})
        self._spent.clear()
        self._last = now
        if len(self.rows) == self.steps:
            control.should_training_stop = True
            if torch.cuda.is_available():
                self.memory = {
                    "allocated": torch.cuda.max_memory_allocated(),
                    "reserved": torch.cuda.max_memory_reserved(),
                }

    def _time_methods(self, owner: Any, names: dict[str, str]) -> None:
        for part, name in names.items():
            if hasattr(owner, name):
                setattr(owner, name, self._timed(part, getattr(owner, name)))

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self._in_part:
                return function(*args, **kwargs)
            self._in_part, start = True, self._now()
            try:
                return function(*args, **kwargs)
            finally:
                self._in_part = False
                self._spent[part] += self._now() - start

        return run

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()
