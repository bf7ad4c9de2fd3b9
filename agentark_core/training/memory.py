"""Memory of one GPU that a training job needs, from config.json and SFTConfig, before anything is loaded.

    Qwen3-8B, 8 GPUs, ZeRO-3, checkpointing, 4 x 2048 tokens:
    weights 3.8, gradients 3.8, optimizer 11.4, casts 12.9, activations 6.5, buffers 6.5 GiB; 50.5 with reserve

Bytes, for N parameters of which M are trained, by W processes (ZeRO: Rajbhandari et al., arXiv 1910.02054, sections 3
and 5, here with float32 weights):

    weights      4 N; under adapters 2 N in bfloat16                                  / W at stage 3
    gradients    4 M                                                                  / W at stages 2, 3
    optimizer    8 M for Adam's two moments, and from stage 1 on 4 M for DeepSpeed's own copy of the weights     / W
    casts        2 N: autocast keeps the bfloat16 copies of float32 matrices until the backward pass
    activations  tokens x layers x what a layer stores a token, or with checkpointing 4 h (its input; section 5 of
                 Korthikanti et al., arXiv 2205.05198) and one layer's worth
    offload      optimizer: no optimizer, and from stage 2 on no gradients (ZeRO-Offload, Ren et al., arXiv 2101.06840);
                 all: no weights but the gathered ones either
    buffers      DeepSpeed's default buckets: 5e8 elements, twice (stages 1, 2), or 1e9 gathered ones (stage 3); TRL's
                 LM head: a tile of 4096 x 32768 logits, and its gradient in float32

A layer stores 26 h + 8 i + 4 q bytes a token under bfloat16 autocast and 24 h + 16 i + 8 q in float32, with hidden size
h, MLP size i and q = (heads + key-value heads) x head size; 6 q (8 q) more where queries and keys are normalised. These
numbers were fitted to what autograd saved (saved_tensors_hooks, seven sizes of Qwen3, Llama and Gemma layers each,
exact to 2 %); attention scores are not kept by sdpa or flash attention. On top: RESERVE for the CUDA context and NCCL,
and FRAGMENTATION. Dense models only. An upper bound for full batches; not yet held against a GPU.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from agentark_core.config import LoRAConfig, SFTConfig
from agentark_core.errors import ConfigError

GIB = 2**30
RESERVE = GIB
FRAGMENTATION = 1.1
BUCKET = 5e8
GATHERED = 1e9
TILE = 4096 * 32768

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What config.json says about a dense model. vision: parameters of its image encoder, which is not trained."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    key_values: int
    head: int
    vocabulary: int
    tied: bool
    norms: bool
    """Whether queries and keys are normalised."""
    vision: int

    @classmethod
    def read(cls, described: dict[str, Any]) -> Self | None:
        """From the content of config.json; None for an architecture that this module knows nothing about."""
        text = described.get("text_config", described)
        if any("expert" in key for key in text) or "num_key_value_heads" not in text:
            return None
        kind = str(text.get("model_type", ""))
        return cls(
            hidden=text["hidden_size"],
            mlp=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            key_values=text["num_key_value_heads"],
            head=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
            vocabulary=text["vocab_size"],
            tied=described.get("tie_word_embeddings", kind.startswith("gemma")),
            norms=kind.startswith(("qwen3", "gemma3")),
            vision=_vision(described["vision_config"]) if "vision_config" in described else 0,
        )

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """(in, out) of the matrices of one layer."""
        h, query, key = self.hidden, self.heads * self.head, self.key_values * self.head
        return [(h, query), (h, key), (h, key), (query, h), (h, self.mlp), (h, self.mlp), (self.mlp, h)]

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head if it is not tied."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def text(self) -> int:
        """Parameters of the language model (biases and norms, some 0.01 %, left out)."""
        return self.embedding + self.layers * sum(a * b for a, b in self.matrices)

    def adapters(self, lora: LoRAConfig) -> int:
        """Parameters of low-rank adapters on all matrices."""
        return self.layers * sum(lora.rank * (a + b) for a, b in self.matrices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one GPU, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    casts: float
    activations: float
    buffers: float

    @property
    def total(self) -> float:
        """All of it, with the reserve and what fragmentation costs."""
        return FRAGMENTATION * sum(getattr(self, part.name) for part in fields(self)) + RESERVE

    def __str__(self) -> str:
        parts = ", ".join(f"{part.name} {getattr(self, part.name) / GIB:.1f}" for part in fields(self))
        return f"{parts} GiB; {self.total / GIB:.1f} with reserve"


def estimate(shape: Shape, config: SFTConfig) -> Memory:
    """The terms above for one of config.num_workers GPUs."""
    parameters = shape.text + shape.vision
    trained = shape.adapters(config.lora) if config.lora else shape.text
    share = 1 / config.num_workers
    stage = config.zero_stage
    mixed = config.dtype == "bfloat16"
    narrow = mixed and config.lora is not None and stage < 3
    tokens = config.micro_batch_size * config.max_length
    query = (shape.heads + shape.key_values) * shape.head
    factor_h, factor_i, factor_q = (26, 8, 10 if shape.norms else 4) if mixed else (24, 16, 16 if shape.norms else 8)
    layer = factor_h * shape.hidden + factor_i * shape.mlp + factor_q * query
    checkpointing = config.gradient_checkpointing is not False
    head = 0 if config.lora else 4 * shape.vocabulary * shape.hidden
    moved = config.offload != "none"
    return Memory(
        weights=0.0
        if config.offload == "all"
        else ((2 if narrow else 4) * parameters + (4 * trained if config.lora else 0)) * (share if stage == 3 else 1),
        gradients=0.0 if moved and stage >= 2 else 4 * trained * (share if stage >= 2 else 1),
        optimizer=0.0 if moved else 12 * trained * share if stage else 8 * trained,
        casts=2 * (shape.text - shape.embedding) if mixed and not narrow else 0,
        activations=tokens * (4 * shape.hidden * shape.layers + layer if checkpointing else layer * shape.layers),
        buffers=4 * ([0, 2 * min(BUCKET, trained), 2 * min(BUCKET, trained), min(GATHERED, parameters)][stage] + TILE)
        + head,
    )


def check(base: Path, config: SFTConfig, *, available: float) -> None:
    """Log the estimate for the model in base; ConfigError with what would help if it exceeds available bytes (0: not
    known)."""
    shape = Shape.read(json.loads((base / "config.json").read_text(encoding="utf-8")))
    if shape is None:
        log.info("%s: memory per GPU is estimated for dense models only", base)
        return
    needed = estimate(shape, config)
    log.info("%s: memory per GPU: %s", base, needed)
    if available and needed.total > available:
        raise ConfigError(
            f"{base}: a GPU has {available / GIB:.0f} GiB, the job needs about {needed} "
            f"(set {remedies(shape, config, available=available)})"
        )


def remedies(shape: Shape, config: SFTConfig, *, available: float) -> str:
    """Settings that make the job fit: each one alone that does, else all that cost little time, else these with
    offload, else adapters."""
    wider = config.num_workers
    while wider < 64 and config.batch_size % (2 * wider) == 0:
        wider *= 2
    rows = {"micro_batch_size": 1}
    cheap: list[dict[str, Any]] = [{"gradient_checkpointing": True}, rows, {"zero_stage": 3}]
    cheap.append({"num_workers": wider, "zero_stage": 3, **rows})
    together: dict[str, Any] = {key: value for setting in cheap[:3] for key, value in setting.items()}
    offloaded = [{**together, "offload": what} for what in ("optimizer", "all")]
    adapters = {**together, "zero_stage": 2, "offload": "none", "lora": LoRAConfig()}
    for group in (cheap, [together], offloaded, [adapters]):
        fitting = [s for s in group if estimate(shape, config.model_copy(update=s)).total <= available]
        if fitting:
            return " or ".join(", ".join(f"sft.{key} {_said(value)}" for key, value in s.items()) for s in fitting)
    return "a smaller sft.max_length, more or larger GPUs, or a smaller student"


def _said(value: Any) -> str:
    return json.dumps(value.model_dump() if isinstance(value, LoRAConfig) else value)


def _vision(encoder: dict[str, Any]) -> int:
    """Parameters of an image encoder: gated MLP blocks of `depth`, patches, and the merger to the language model."""
    size, mlp = encoder["hidden_size"], encoder["intermediate_size"]
    blocks = encoder.get("depth") or encoder["num_hidden_layers"]
    patches = 3 * encoder.get("temporal_patch_size", 1) * encoder["patch_size"] ** 2 * size
    merged = size * encoder.get("spatial_merge_size", 1) ** 2
    merger = merged * merged + merged * encoder.get("out_hidden_size", size)
    return int(blocks * (4 * size * size + 3 * size * mlp) + patches + merger)
