"""The student's weights: loading, what of them is trained, and low-rank adapters merged back.

Only the language model is trained. An image encoder (Qwen2.5-VL's vision tower) keeps its weights: text traces say
nothing about it. Imports torch and transformers at the top: import this module only inside a training process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from agentark_core.config import LoRAConfig


def load(base: Path, *, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> Any:
    """The model of a checked directory; parameters outside of its language model are frozen.

    dtype: of the weights; those that learn must be float32, so that small updates count.
    """
    model = model_class(base).from_pretrained(
        base,
        dtype=dtype,
        attn_implementation=attention,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
    )
    trained = {id(weight) for part in _language_parts(model) for weight in part.parameters()}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in trained)
    return model


def model_class(base: Path) -> Any:
    """The auto class that loads a model directory: one with an image encoder has its own."""
    described = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return AutoModelForImageTextToText if "vision_config" in described else AutoModelForCausalLM


def adapters(model: Any, *, lora: LoRAConfig) -> Any:
    """PEFT's config for adapters in every linear layer of the language model, its head left out."""
    from peft import LoraConfig

    inside = {id(module) for module in model.get_decoder().modules()}
    names = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and id(m) in inside]
    return LoraConfig(task_type="CAUSAL_LM", r=lora.rank, lora_alpha=lora.alpha, target_modules=names)


def merged(state: dict[str, torch.Tensor], *, lora: LoRAConfig) -> dict[str, torch.Tensor]:
    """A plain model's weights from those of a PEFT model: W + alpha / rank * B A (LoRA, arXiv 2106.09685, Eq. 3).

    W is (out, in), A (rank, in), B (out, rank); computed in float32. Works on weights that ZeRO-3 has gathered, too.
    """
    result = {}
    for name, weight in state.items():
        if ".lora_" in name:
            continue
        if ".base_layer." in name and name.endswith(".weight"):
            a, b = (state[name.replace("base_layer", f"lora_{side}.default")].float() for side in "AB")
            weight = weight.float() + lora.alpha / lora.rank * (b @ a)
        result[name.removeprefix("base_model.model.").replace(".base_layer.", ".")] = weight
    return result


def _language_parts(model: Any) -> list[Any]:
    parts = [model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()]
    return [part for part in parts if part is not None]
