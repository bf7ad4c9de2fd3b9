"""Tiny random-weight models of five families for tests: each with its own architecture, tokenizer and chat template.

The templates keep what makes each family's public template special for training: Qwen3 rewrites thinking blocks,
Llama 3 trims contents and starts with its own begin-of-text token, Gemma calls the assistant "model" and knows no
system role, Gemma 3 puts the system message before the first question, Qwen2.5-VL adds one. Gemma 3 and Qwen2.5-VL have
an image encoder beside their language model. Weights are random (seed 0), so outputs are noise; shapes are those that
vLLM's CPU attention supports.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

Family = Literal["qwen3", "llama", "gemma", "gemma3", "qwen2_5_vl"]

QWEN3_TEMPLATE = """
{%- set ns = namespace(last=0) %}
{%- for message in messages %}{%- if message.role == "user" %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning = "" %}
        {%- if "</think>" in content %}
            {%- set reasoning = content.split("</think>")[0].rstrip("\\n").split("<think>")[-1].lstrip("\\n") %}
            {%- set content = content.split("</think>")[-1].lstrip("\\n") %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- "<|im_start|>assistant\\n<think>\\n" + reasoning.strip("\\n") + "\\n</think>\\n\\n" }}
            {{- content.lstrip("\\n") }}
        {%- else %}
            {{- "<|im_start|>assistant\\n" + content }}
        {%- endif %}
        {{- "<|im_end|>\\n" }}
    {%- else %}
        {{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- "<think>\\n\\n</think>\\n\\n" }}{%- endif %}
{%- endif %}
"""
QWEN2_5_TEMPLATE = """
{%- if messages[0].role != "system" %}
    {{- "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|im_start|>assistant\\n" }}{%- endif %}
"""
LLAMA_TEMPLATE = """
{{- bos_token }}
{%- if messages[0].role == "system" %}
    {%- set system = messages[0].content | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n\\n" }}
{{- system + "<|eot_id|>" }}
{%- for message in messages %}
    {{- "<|start_header_id|>" + message.role + "<|end_header_id|>\\n\\n" + message.content | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{%- endif %}
"""
GEMMA_TEMPLATE = """
{{- bos_token }}
{%- if messages[0].role == "system" %}{{ raise_exception("System role not supported") }}{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {%- set role = "model" if message.role == "assistant" else message.role %}
    {{- "<start_of_turn>" + role + "\\n" + message.content | trim + "<end_of_turn>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<start_of_turn>model\\n" }}{%- endif %}
"""
GEMMA3_TEMPLATE = GEMMA_TEMPLATE.replace(
    """{%- if messages[0].role == "system" %}{{ raise_exception("System role not supported") }}{%- endif %}""",
    """{%- set ns = namespace(before="") %}
{%- if messages[0].role == "system" %}
    {%- set ns.before = messages[0].content + "\\n\\n" %}{%- set messages = messages[1:] %}
{%- endif %}""",
).replace("+ message.content", '+ (ns.before if loop.first else "") + message.content')

SPECIAL: dict[Family, list[str]] = {
    "qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "gemma": ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
    "gemma3": [
        *("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        *("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
    ],
    "qwen2_5_vl": [
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    ],
}
"""Special tokens in id order."""

TEMPLATES: dict[Family, str] = {
    "qwen3": QWEN3_TEMPLATE,
    "llama": LLAMA_TEMPLATE,
    "gemma": GEMMA_TEMPLATE,
    "gemma3": GEMMA3_TEMPLATE,
    "qwen2_5_vl": QWEN2_5_TEMPLATE,
}
NAMED_TOKENS: dict[Family, dict[str, str]] = {
    "qwen3": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "llama": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "gemma": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
    "gemma3": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
    "qwen2_5_vl": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}
CORPUS = [
    "user system assistant model Reason step by step, one step per line.",
    "Put your final answer within \\boxed{42} on the last line.\n\nSolution 1:\nStep 1: 9 * 22 = 198\n",
    "Cutting Knowledge Date: December 2023. Tom has 3 bags with 12 apples each; how many apples are there?",
]


def make(family: Family, path: Path, *, described: dict[str, Any] | None = None) -> Path:
    """Write a loadable model directory of that family and return its path.

    described: config.json of a published model; the tiny one keeps what it says but for sizes. Sizes: hidden 64,
    2 layers, context 2048.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

    tokenizer = _tokenizer(family)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL[family]}
    ends = {
        "qwen3": [ids.get("<|im_end|>"), ids.get("<|endoftext|>")],
        "llama": [ids.get("<|end_of_text|>"), ids.get("<|eot_id|>")],
        "gemma": [ids.get("<eos>")],
        "gemma3": [ids.get("<eos>"), ids.get("<end_of_turn>")],
        "qwen2_5_vl": [ids.get("<|im_end|>"), ids.get("<|endoftext|>")],
    }[family]
    torch.manual_seed(0)
    config = _config(family, tokenizer=tokenizer, ends=ends, described=described or {})
    kind = AutoModelForImageTextToText if family in ("gemma3", "qwen2_5_vl") else AutoModelForCausalLM
    model = kind.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _config(family: Family, *, tokenizer: Any, ends: list[int | None], described: dict[str, Any]) -> Any:
    from transformers import Gemma3Config, GemmaConfig, LlamaConfig, Qwen2_5_VLConfig, Qwen3Config

    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends,
    }
    tied = {"tie_word_embeddings": described.get("tie_word_embeddings", True)}
    if family == "gemma3":
        untouched = _untouched(described.get("text_config", {}), sizes=text)
        layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
        return Gemma3Config(
            text_config={**untouched, **tied, **text, **layers, "head_dim": 32},
            vision_config={
                **_untouched(described.get("vision_config", {}), sizes=text),
                **{"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2},
                **{"image_size": 28, "patch_size": 14},
            },
            mm_tokens_per_image=4,
            **tied,
            eos_token_id=ends,
            boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
            eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
            image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        )
    if family != "qwen2_5_vl":
        kind: Any = {"qwen3": Qwen3Config, "llama": LlamaConfig, "gemma": GemmaConfig}[family]
        return kind(**{**_untouched(described, sizes=text), **tied, **text, "head_dim": 32})
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    }
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    tokens = ("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>")
    marks = ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>")
    return Qwen2_5_VLConfig(
        text_config={**text, **tied, "rope_parameters": rotary},
        vision_config=vision,
        **tied,
        **{key: tokenizer.convert_tokens_to_ids(token) for key, token in (*tokens, *marks)},
    )


def _untouched(described: dict[str, Any], *, sizes: dict[str, Any]) -> dict[str, Any]:
    """What a published config says beside sizes and number formats."""
    return {key: value for key, value in described.items() if key not in sizes and not key.startswith("torch")}


def _tokenizer(family: Family) -> Any:
    """Gemma and Gemma 3: metaspace BPE with byte fallback, as SentencePiece models; the others: byte-level BPE."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL[family]]
    if family in ("gemma", "gemma3"):
        backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split("▁", "merged_with_next")]
        )
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = [chr(code) for code in range(33, 127)] + ["▁", "\n"]
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    backend.train_from_iterator(CORPUS, trainer)
    if family in ("gemma", "gemma3"):  # byte tokens are plain vocabulary, behind the trained entries
        trained = json.loads(backend.to_str())["model"]
        vocab = trained["vocab"] | {f"<0x{byte:02X}>": len(trained["vocab"]) + byte for byte in range(256)}
        merges = [tuple(pair) for pair in trained["merges"]]
        backend.model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    if family == "qwen3":  # as in Qwen3, these are one token each but not "special": decoding keeps them
        backend.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=TEMPLATES[family].strip(),
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        **NAMED_TOKENS[family],
    )
