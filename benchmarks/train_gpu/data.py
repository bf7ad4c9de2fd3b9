"""A model with random weights of a published shape, and rows of an exact number of tokens for each training job.

Every word of the vocabulary is a blank and up to three letters, and one token: what a random model samples is text that
gives the same tokens again, so a reward model reads as many as were sampled.
"""

from __future__ import annotations

import json
import random
import shutil
import string
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentark_core import examples, process
from agentark_core.chat import ChatFormat
from agentark_core.extraction import PROMPT_SCHEMA
from agentark_core.step_tokens import tokenise
from agentark_core.steps import STEPS_VERSION, split
from agentark_core.training.planning import tokenizer_digest, tokenizer_files
from agentark_core.types import Message, SFTExample

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
BLANK = "Ġ"
"""How byte-level BPE writes a blank."""
QUESTION: list[Message] = [{"role": "user", "content": "Q"}]
STEPS = "\nStep 1: add.\nStep 2: halve.\n\\boxed{7}"
"""How every solution ends, after the words that give it its length."""
TRACES = 4
"""Of a question for the process reward model: half of them right, half wrong."""


def tokenizer(size: int) -> Any:
    """A byte-level BPE of exactly size tokens with Qwen's chat markup."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = string.ascii_letters + string.digits
    words = ("".join(word) for length in (1, 2, 3) for word in product(letters, repeat=length))
    known = list(islice(words, size - len(SPECIAL) - len(alphabet)))
    entries = [*SPECIAL, *alphabet, *(BLANK + word for word in known)]
    merges = [(BLANK + word[:-1], word[-1]) for word in known]
    backend = Tokenizer(models.BPE(vocab={entry: number for number, entry in enumerate(entries)}, merges=merges))
    blanks = pre_tokenizers.Split(" ", "merged_with_next")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [blanks, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=TEMPLATE,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def make_model(described: dict[str, Any], folder: Path) -> None:
    """Write a loadable model of that config.json with random bfloat16 weights, as published ones are stored."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    made = tokenizer(described["vocab_size"])
    ends = {"eos_token_id": made.eos_token_id, "pad_token_id": made.pad_token_id}
    config = AutoConfig.for_model(**{**described, **ends})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    made.save_pretrained(folder)


def make_scorer(base: Path, folder: Path) -> None:
    """Write a process reward model of the base's size with random weights, in the base's number format."""
    import torch

    from agentark_core.training import prm_head

    prm_head.load(base, head="linear", dtype=torch.bfloat16, seed=0).save_pretrained(folder)
    for file in tokenizer_files(base):
        shutil.copyfile(file, folder / file.name)
    about = {"splitter": STEPS_VERSION, "tokenizer": tokenizer_digest(folder)}
    (folder / "prm.json").write_text(json.dumps(about), encoding="utf-8")


def texts(chat: ChatFormat, *, number: int, length: int, count: Callable[[str], int], ending: str) -> list[str]:
    """Random words, then the ending, so that count of each text is length. ValueError if the ending alone has more."""
    rng = random.Random(0)
    words = sorted(entry[1:] for entry in chat.tokenizer.get_vocab() if entry.startswith(BLANK) and len(entry) > 1)
    room = length - count(ending)
    made = ["".join(" " + rng.choice(words) for _ in range(room)) + ending for _ in range(number)]
    if any(count(text) != length for text in made):
        raise ValueError(f"no text of {length} tokens: the shortest has {length - room}")
    return made


def solutions(chat: ChatFormat, *, number: int, length: int) -> list[str]:
    """Solutions in steps, each of length tokens together with the prompt."""

    def count(text: str) -> int:
        return len(tokenise(chat, QUESTION, split(text)).input_ids)

    return texts(chat, number=number, length=length, count=count, ending=STEPS)


def write_examples(chat: ChatFormat, path: Path, *, number: int, length: int) -> None:
    """SFT examples, each of length tokens; all but those of the prompt carry loss."""
    origin: dict[str, Any] = {"source_fingerprint": "f", "work_id": "w", "round": 1, "agent": 1, "corrective": False}
    prompt = tuple((message["role"], message["content"]) for message in QUESTION)
    rows = [
        SFTExample(example_id=str(place), problem_id=str(place), prompt=prompt, completion=text, **origin)
        for place, text in enumerate(solutions(chat, number=number, length=length))
    ]
    pq.write_table(examples.to_table(rows), path, write_page_checksum=True)


def write_process(chat: ChatFormat, path: Path, *, number: int, length: int) -> None:
    """Questions with TRACES labelled traces of length tokens; each right step has the wrong ones at its place."""
    rows = []
    for place, text in enumerate(solutions(chat, number=number * TRACES, length=length)):
        question, agent = divmod(place, TRACES)
        right = agent < TRACES // 2
        wrong = [f"{question}-{other}" for other in range(TRACES // 2, TRACES)] if right else []
        steps = split(text)
        rows.append(
            {
                **{"example_id": f"{question}-{agent}", "problem_id": str(question), "prompt": QUESTION},
                **{"completions": steps, "labels": [right] * len(steps), "weights": [1.0] * len(steps)},
                "negatives": [[{"example_id": w, "step": step} for w in wrong] for step in range(len(steps))],
                **{"reasons": ["-"] * len(steps), "correct": right, "source_fingerprint": "f", "work_id": "w"},
                **{"round": 1, "agent": agent + 1},
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=process.SCHEMA), path, write_page_checksum=True)


def write_prompts(chat: ChatFormat, path: Path, *, number: int, length: int) -> None:
    """Prompts of length tokens each."""

    def prompt(text: str) -> list[Message]:
        return [{"role": "user", "content": text}]

    def count(text: str) -> int:
        return len(chat.prompt_ids(prompt(text)))

    rows = [
        {
            **{"problem_id": str(place), "prompt": prompt(text), "gold": "7", "task": "number"},
            **{"work_id": "w", "source_fingerprint": "f", "decided": 0, "correct": 0},
        }
        for place, text in enumerate(texts(chat, number=number, length=length, count=count, ending=""))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), path, write_page_checksum=True)
