"""The embedded models' tokenizer: whole words of our formats, every digit its own token, bytes for everything else.

Byte-level BPE without merges: the vocabulary is the 256 byte characters plus whole words in byte-level spelling
("Ġbags" is " bags"). A word that is not in the vocabulary falls back to its bytes, so any UTF-8 text round-trips.
`build` collects the words from rendered training text of every format, hence no training text needs a fallback byte.

    "Step 1: 22 + 11 = 33" -> Step| 1|:| 2|2| +| 1|1| =| 3|3
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (PAD, END, *ROLES)

PIECES = r"\\boxed\{| ?\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]|\s"
"""How text is cut before the vocabulary is looked up."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ('system', 'user', 'assistant') -%}"
    "{{- raise_exception('unknown role: ' + message['role']) -}}{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def byte_characters() -> list[str]:
    """The 256 characters by which byte-level tokenizers spell bytes, in byte order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spelled = {byte: chr(byte) for byte in printable}
    for shift, byte in enumerate(byte for byte in range(256) if byte not in spelled):
        spelled[byte] = chr(256 + shift)
    return [spelled[byte] for byte in range(256)]


def build(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Tokenizer whose words are all pieces of texts (deterministic: sorted). Texts hold no special tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = {piece for text in texts for piece, _ in cut.pre_tokenize_str(text)}
    words |= {prefix + str(digit) for prefix in ("", "Ġ") for digit in range(10)}
    ordered = [*SPECIAL, *sorted(words), *(char for char in byte_characters() if char not in words)]
    tokenizer = Tokenizer(
        models.BPE(vocab={word: index for index, word in enumerate(ordered)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def fallback_ids(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Ids that only unknown words use: every id after the last word."""
    vocab = tokenizer.get_vocab()
    ordered = sorted(vocab, key=lambda token: vocab[token])
    chars = set(byte_characters())
    last_word = max(vocab[token] for token in ordered if token not in chars)
    return set(range(last_word + 1, len(vocab)))
