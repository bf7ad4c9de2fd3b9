"""Memory of one GPU that a training job needs, from config.json and the job's section, before anything is loaded.

    SFT of Qwen3-8B, 8 GPUs, ZeRO-3, checkpointing, 4 x 2048 tokens:
    weights 3.8, gradients 3.8, optimizer 11.4, casts 12.9, activations 6.5, buffers 6.5 GiB; 50.5 with reserve

Bytes, for N parameters of which M are trained, by W processes (ZeRO: Rajbhandari et al., arXiv 1910.02054, sections 3
and 5, here with float32 weights):

    weights      4 N; under adapters 2 N in bfloat16                                  / W at stage 3
    gradients    4 M                                                                  / W at stages 2, 3
    optimizer    8 M for Adam's two moments, and from stage 1 on 4 M for DeepSpeed's own copy of the weights     / W
    casts        2 N: autocast keeps the bfloat16 copies of float32 matrices until the backward pass
    activations  tokens x layers x what a layer stores a token, or with checkpointing 4 h (its input; section 5 of
                 Korthikanti et al., arXiv 2205.05198) and one layer's worth; 8 h a token more for a value head
    offload      optimizer: no optimizer, and from stage 2 on no gradients (ZeRO-Offload, Ren et al., arXiv 2101.06840);
                 all: no weights but the gathered ones either
    buffers      DeepSpeed's default buckets: 5e8 elements, twice (stages 1, 2), or 1e9 gathered ones (stage 3); TRL's
                 LM head: a tile of 4096 x 32768 logits, and its gradient in float32; a reward model's likelihoods:
                 logits and their logarithms of 1 / LIKELIHOOD_PARTS of the tokens
    reference    4 N if beta > 0, where weights are not offloaded                     / W at stage 3
    scorer       the process reward model in the number format of its files, whole on every GPU
    rollouts     what sampling holds. transformers: 8 x layers x key-value size bytes a token (keys and values in
                 float32, prompt and completion), one layer's twice while it grows, 12 x vocabulary bytes a completion
                 (logits, their sorted or scaled copy, probabilities), at stage 3 4 N gathered. A vLLM server: nothing
    engine       vLLM on the same GPU: its share, which it keeps while the policy learns

A layer stores 26 h + 8 i + 4 q bytes a token under bfloat16 autocast and 24 h + 16 i + 8 q in float32, with hidden size
h, MLP size i and q = (heads + key-value heads) x head size; 6 q (8 q) more where queries and keys are normalised, and
16 h + 2 q (16 h) more where attention and MLP are normalised behind, too. These numbers were fitted to what autograd
saved (saved_tensors_hooks, seven sizes of Qwen3, Llama and Gemma layers each, two of Gemma 3, exact to 2 %); attention
scores are not kept by sdpa or flash attention. Sampling with transformers and learning take turns, so the larger of
rollouts and activations with casts counts. On top: RESERVE for the CUDA context and NCCL, and FRAGMENTATION. Dense
models only. An upper bound for full batches; not yet held against a GPU.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from agentark_core.config import GRPOConfig, LoRAConfig, PRMConfig, SFTConfig
from agentark_core.errors import ConfigError
from agentark_core.training.model_shape import Shape

GIB = 2**30
RESERVE = GIB
FRAGMENTATION = 1.1
LIKELIHOOD_PARTS = 16
"""Logits of the language model under a likelihood head exist for this share of the tokens at a time. All processes have
as many parts, since under ZeRO-3 each one gathers the output layer."""
BUCKET = 5e8
GATHERED = 1e9
TILE = 4096 * 32768

Config = SFTConfig | PRMConfig | GRPOConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one GPU, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    casts: float
    activations: float
    buffers: float
    reference: float = 0.0
    scorer: float = 0.0
    rollouts: float = 0.0
    engine: float = 0.0

    @property
    def allocated(self) -> float:
        """What the training process itself holds at its peak; the engine counts its own."""
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "engine"}
        return float(sum(parts.values()) - min(self.activations + self.casts, self.rollouts))

    @property
    def total(self) -> float:
        """All of it, with the reserve and what fragmentation costs."""
        return FRAGMENTATION * self.allocated + RESERVE + self.engine

    def __str__(self) -> str:
        parts = [(part.name, getattr(self, part.name)) for part in fields(self)]
        told = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts if size or name not in _MAY_LACK)
        return f"{told} GiB; {self.total / GIB:.1f} with reserve"


_MAY_LACK = {"reference", "scorer", "rollouts", "engine"}


def estimate(shape: Shape, config: Config, *, traces: int = 1, scorer: float = 0.0, available: float = 0.0) -> Memory:
    """The terms above for one of config.num_workers GPUs; of a PRM's two stages the one that needs more.

    traces: most traces of a question (PRM); scorer: bytes of the process reward model, available: of a GPU (GRPO).
    """
    if isinstance(config, PRMConfig):
        head = shape.likelihood_head if config.head == "likelihood" else 0
        stages = {head or shape.layer: config.stage1, shape.body + head: config.stage2}
        return max(
            (_learning(shape, config, trained=m, rows=traces) for m, stage in stages.items() if stage.epochs),
            key=lambda stage: stage.total,
        )
    if isinstance(config, SFTConfig):
        trained = shape.adapters(config.lora) if config.lora else shape.text
        return _learning(shape, config, trained=trained, rows=1)
    learning = _learning(shape, config, trained=shape.text, rows=1)
    share = 1 / config.num_workers if config.zero_stage == 3 else 1
    size = {part.name: getattr(learning, part.name) for part in fields(learning)}
    if config.advantage == "value":
        size["activations"] += 8 * shape.hidden * config.micro_batch_size * _length(config)
    on_gpu = config.beta and config.offload != "all"
    size["reference"] = 4 * (shape.text + shape.vision) * share if on_gpu else 0.0
    size["scorer"] = scorer
    if config.rollouts == "transformers":
        size["rollouts"] = _sampling(shape, config)
    elif config.rollouts == "vllm_colocate":
        size["engine"] = max(config.vllm_memory * available, 2 * (shape.text + shape.vision))
    return Memory(**size)


def _length(config: Config) -> int:
    return config.max_prompt_tokens + config.max_tokens if isinstance(config, GRPOConfig) else config.max_length


def _learning(shape: Shape, config: Config, *, trained: int, rows: int) -> Memory:
    """One forward and backward pass. rows: sequences of a row that micro_batch_size counts."""
    lora = config.lora if isinstance(config, SFTConfig) else None
    has_head = not isinstance(config, PRMConfig)  # of a language model, that learns
    likelihood = isinstance(config, PRMConfig) and config.head == "likelihood"
    text = shape.text if has_head or likelihood else shape.body
    parameters = text + shape.vision + (shape.likelihood_head if likelihood else 0)
    share = 1 / config.num_workers
    stage = config.zero_stage
    mixed = config.dtype == "bfloat16"
    narrow = mixed and lora is not None and stage < 3
    tokens = config.micro_batch_size * rows * _length(config)
    query = (shape.heads + shape.key_values) * shape.head
    factor_h, factor_i, factor_q = (26, 8, 10 if shape.norms else 4) if mixed else (24, 16, 16 if shape.norms else 8)
    if shape.sandwich:
        factor_h, factor_q = factor_h + 16, factor_q + (2 if mixed else 0)
    layer = factor_h * shape.hidden + factor_i * shape.mlp + factor_q * query
    checkpointing = config.gradient_checkpointing is not False
    # Frozen layers keep nothing: the graph begins at the first that learns.
    layers = 1 if isinstance(config, PRMConfig) and trained < shape.body else shape.layers
    tile = TILE if has_head else 2 * tokens * shape.vocabulary / LIKELIHOOD_PARTS if likelihood else 0
    head = 4 * shape.vocabulary * shape.hidden if has_head and not lora else 0
    moved = config.offload != "none"
    return Memory(
        weights=0.0
        if config.offload == "all"
        else ((2 if narrow else 4) * parameters + (4 * trained if lora else 0)) * (share if stage == 3 else 1),
        gradients=0.0 if moved and stage >= 2 else 4 * trained * (share if stage >= 2 else 1),
        optimizer=0.0 if moved else 12 * trained * share if stage else 8 * trained,
        casts=2 * shape.layers * shape.layer if mixed and not narrow else 0,
        activations=tokens * (4 * shape.hidden * layers + layer if checkpointing else layer * layers),
        buffers=4 * ([0, 2 * min(BUCKET, trained), 2 * min(BUCKET, trained), min(GATHERED, parameters)][stage] + tile)
        + head,
    )


def _sampling(shape: Shape, config: GRPOConfig) -> float:
    """What transformers holds while it answers all prompts of a rollout batch at once."""
    rows = config.prompts_per_step * config.group_size // config.num_workers
    one_layer = 8 * rows * _length(config) * shape.key_values * shape.head
    gathered = 4 * (shape.text + shape.vision) if config.zero_stage == 3 else 0
    return one_layer * (shape.layers + 1) + 12 * rows * shape.vocabulary + gathered


def check(base: Path, config: Config, *, available: float, traces: int = 1, prm: Path | None = None) -> None:
    """Log the estimate for the model in base; ConfigError with what would help if it exceeds available bytes (0: not
    known). traces: most traces of a question (PRM); prm: directory of the process reward model (GRPO)."""
    shape = Shape.of(base)
    if shape is None:
        log.info("%s: memory per GPU is estimated for dense models only", base)
        return
    held = float(sum(file.stat().st_size for file in prm.glob("*.safetensors"))) if prm else 0.0
    given: dict[str, Any] = {"traces": traces, "scorer": held, "available": available}
    needed = estimate(shape, config, **given)
    log.info("%s: memory per GPU: %s", base, needed)
    if available and needed.total > available:
        raise ConfigError(
            f"{base}: a GPU has {available / GIB:.0f} GiB, the job needs about {needed} "
            f"(set {remedies(shape, config, **given)})"
        )


def remedies(shape: Shape, config: Config, *, traces: int = 1, scorer: float = 0.0, available: float) -> str:
    """Settings that make the job fit: each one alone that does, else all that cost little time, else these with
    offload, else adapters (SFT) or a smaller engine (GRPO)."""
    section = {SFTConfig: "sft", PRMConfig: "prm", GRPOConfig: "grpo"}[type(config)]
    batch = config.prompts_per_step if isinstance(config, GRPOConfig) else config.batch_size
    wider = config.num_workers
    while wider < 64 and batch % (2 * wider) == 0:
        wider *= 2
    rows = {"micro_batch_size": 1}
    recompute = {"gradient_checkpointing": True} if config.gradient_checkpointing is False else {}
    cheap: list[dict[str, Any]] = [recompute, rows, {"zero_stage": 3}]
    together: dict[str, Any] = {**rows, "zero_stage": 3, **recompute}
    dear: list[dict[str, Any]] = []
    if isinstance(config, SFTConfig):
        dear = [{**together, "zero_stage": 2, "offload": "none", "lora": LoRAConfig()}]
    elif isinstance(config, GRPOConfig):
        all_cheap = {**together, "num_workers": wider}
        without = {**all_cheap, "rollouts": "vllm_server"}
        rest = estimate(shape, config.model_copy(update=without), scorer=scorer).total
        smaller = math.floor(20 * (1 - rest / available)) / 20
        if config.rollouts == "vllm_colocate" and 0 < smaller < config.vllm_memory:
            dear = [{**all_cheap, "vllm_memory": smaller}]
    cheap.append({"num_workers": wider, **together})
    offloaded = [{**together, "offload": what} for what in ("optimizer", "all")]
    for group in (cheap, [together], offloaded, dear):
        fitting = [
            setting
            for setting in group
            if estimate(
                shape, config.model_copy(update=setting), traces=traces, scorer=scorer, available=available
            ).total
            <= available
        ]
        if fitting:
            return " or ".join(
                ", ".join(f"{section}.{key} {_said(value)}" for key, value in s.items()) for s in fitting
            )
    length = "max_tokens" if isinstance(config, GRPOConfig) else "max_length"
    return f"a smaller {section}.{length}, more or larger GPUs, or a smaller student"


def _said(value: Any) -> str:
    return json.dumps(value.model_dump() if isinstance(value, LoRAConfig) else value)
