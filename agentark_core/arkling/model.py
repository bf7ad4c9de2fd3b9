"""The embedded models as transformers models: sizes, construction, and batched generation in plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from agentark_core.arkling.tokenizer import END, PAD
from agentark_core.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

ModelName = Literal["teacher", "student", "small", "large"]
"""small, large: of half and of twice the student's size, not shipped; experiments make them."""

SIZES: dict[str, dict[str, int]] = {
    "teacher": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4},
    "student": {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 4, "num_attention_heads": 4},
    "large": {"hidden_size": 144, "intermediate_size": 432, "num_hidden_layers": 4, "num_attention_heads": 4},
    "small": {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 2},
}


def new_model(name: ModelName, *, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A freshly initialised Qwen3 model in float32."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    vocab = tokenizer.get_vocab()
    config = Qwen3Config(
        vocab_size=len(vocab),
        **SIZES[name],
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_theta=10000.0,
        bos_token_id=None,
        eos_token_id=vocab[END],
        pad_token_id=vocab[PAD],
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=vocab[END], pad_token_id=vocab[PAD])
    return model


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Sequence[Message]],
    *,
    temperature: float,
    max_tokens: int = 112,
    batch_size: int = 256,
) -> list[str]:
    """One completion per chat (torch's global generator; temperature 0 is greedy), in the order of chats."""
    import torch

    rendered = [tokenizer.apply_chat_template(list(c), tokenize=False, add_generation_prompt=True) for c in chats]
    ids = tokenizer(rendered)["input_ids"]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    texts = [""] * len(ids)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, padding_side="left", return_tensors="pt")
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            out = model.generate(**batch, max_new_tokens=max_tokens, **sampling)
        decoded = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for row, text in zip(rows, decoded, strict=True):
            texts[row] = text
    return texts
