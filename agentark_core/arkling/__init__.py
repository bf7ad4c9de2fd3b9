"""The embedded default: a task generator, a tokenizer, and two tiny language models trained from scratch.

They need no download and no GPU, load in vLLM and transformers like any other model, and make voting, debate and
distillation measurable on a laptop. Importing this package is cheap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def model_path(name: Literal["teacher", "student"]) -> Path:
    """Directory of a shipped model (config, safetensors weights, tokenizer, training record)."""
    return Path(__file__).parent / "models" / name
