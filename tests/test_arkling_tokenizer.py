"""The embedded tokenizer: lossless on any text, no fallback bytes on our formats, and its chat template."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from agentark_core.arkling import formats, model_path
from agentark_core.arkling.tokenizer import SPECIAL, build, byte_characters, fallback_ids

TOKENIZER: PreTrainedTokenizerFast = build(formats.vocabulary_texts())
FALLBACK = fallback_ids(TOKENIZER)

MAKERS = {
    "solo": formats.solo,
    "debate": lambda rng: formats.debate(rng, []),
    "drill": formats.drill,
    "check": formats.check,
}


@settings(max_examples=300)
@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@settings(max_examples=200)
@given(st.lists(st.sampled_from([*SPECIAL, "<|", "|>", "<|end", " ", "\n", "Q: 12", "\\boxed{", "é", "Ġ", "\r\n"])))
def test_text_that_looks_like_special_tokens_round_trips(parts: list[str]) -> None:
    text = "".join(parts)
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize("name", MAKERS)
def test_no_training_format_needs_a_fallback_byte(name: str) -> None:
    rng = random.Random(f"tokenizer-{name}")
    for _ in range(400):
        sample = MAKERS[name](rng)
        chat = [*sample.prompt, {"role": "assistant", "content": sample.completion}]
        text = TOKENIZER.apply_chat_template(chat, tokenize=False)
        ids = TOKENIZER(text)["input_ids"]
        assert not FALLBACK & set(ids)
        assert TOKENIZER.decode(ids) == text


def test_every_digit_is_its_own_token() -> None:
    assert TOKENIZER.tokenize("Step 1: 225 + 11") == ["Step", "Ġ1", ":", "Ġ2", "2", "5", "Ġ+", "Ġ1", "1"]


def test_vocabulary_is_small_and_covers_all_bytes() -> None:
    vocab = TOKENIZER.get_vocab()
    assert len(vocab) <= 600 and set(byte_characters()) <= set(vocab)


def test_chat_template_marks_roles_and_ends_every_turn() -> None:
    chat = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant")]
    text = TOKENIZER.apply_chat_template(chat, tokenize=False)
    assert text == "<|system|>s<|end|><|user|>u<|end|><|assistant|>a<|end|>"
    opened = TOKENIZER.apply_chat_template(chat[:2], tokenize=False, add_generation_prompt=True)
    assert opened == "<|system|>s<|end|><|user|>u<|end|><|assistant|>"
    with pytest.raises(Exception, match="unknown role"):
        TOKENIZER.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_shipped_tokenizers_equal_a_fresh_build(name: str) -> None:
    shipped = AutoTokenizer.from_pretrained(model_path(name))  # type: ignore[arg-type]
    assert shipped.get_vocab() == TOKENIZER.get_vocab()
    assert shipped.chat_template == TOKENIZER.chat_template
    assert shipped.eos_token == "<|end|>" and shipped.pad_token == "<|pad|>"
