"""The sizes of a model, from its config.json: what the estimate of memory starts from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agentark_core.config import LoRAConfig

GEMMA3_VOCABULARY = 262_208


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
    sandwich: bool
    """Whether the results of attention and MLP are normalised too (Gemma 3)."""
    vision: int

    @classmethod
    def of(cls, model: Path) -> Self | None:
        """Of a model directory."""
        return cls.read(json.loads((model / "config.json").read_text(encoding="utf-8")))

    @classmethod
    def read(cls, described: dict[str, Any]) -> Self | None:
        """From the content of config.json; None for an architecture that this module knows nothing about."""
        text = described.get("text_config", described)
        kind = str(text.get("model_type", ""))
        if any("expert" in key for key in text) or "num_key_value_heads" not in text:
            return None
        if "vocab_size" not in text and kind != "gemma3_text":
            return None
        return cls(
            hidden=text["hidden_size"],
            mlp=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            key_values=text["num_key_value_heads"],
            head=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
            # Gemma 3's published files leave it to the architecture.
            vocabulary=text.get("vocab_size", GEMMA3_VOCABULARY),
            tied=described.get("tie_word_embeddings", kind.startswith("gemma")),
            norms=kind.startswith(("qwen3", "gemma3")),
            sandwich=kind.startswith("gemma3"),
            vision=_vision(described["vision_config"], text=text) if "vision_config" in described else 0,
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
    def body(self) -> int:
        """Parameters without the head of a language model: those of a reward model."""
        return self.vocabulary * self.hidden + self.layers * self.layer

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return sum(a * b for a, b in self.matrices)

    @property
    def likelihood_head(self) -> int:
        """Parameters of a reward head that reads likelihoods (a linear one has next to none)."""
        return self.hidden**2

    @property
    def text(self) -> int:
        """Parameters of the language model (biases and norms, some 0.01 %, left out)."""
        return self.embedding + self.layers * self.layer

    def adapters(self, lora: LoRAConfig) -> int:
        """Parameters of low-rank adapters on all matrices."""
        return self.layers * sum(lora.rank * (a + b) for a, b in self.matrices)


def _vision(encoder: dict[str, Any], *, text: dict[str, Any]) -> int:
    """Parameters of an image encoder with what leads from it to the language model.

    SigLIP (Gemma 3): plain MLP blocks with biases, patches with positions, one projection. Otherwise (Qwen2.5-VL) gated
    MLP blocks of `depth`, patches, and a merger of two layers.
    """
    size, mlp = encoder["hidden_size"], encoder["intermediate_size"]
    blocks = encoder.get("depth") or encoder["num_hidden_layers"]
    patches = 3 * encoder.get("temporal_patch_size", 1) * encoder["patch_size"] ** 2 * size
    if encoder.get("model_type") == "siglip_vision_model":
        positions = (encoder["image_size"] // encoder["patch_size"]) ** 2 * size
        return int(blocks * (4 * size * size + 2 * size * mlp) + patches + positions + size * text["hidden_size"])
    merged = size * encoder.get("spatial_merge_size", 1) ** 2
    merger = merged * merged + merged * encoder.get("out_hidden_size", size)
    return int(blocks * (4 * size * size + 3 * size * mlp) + patches + merger)
