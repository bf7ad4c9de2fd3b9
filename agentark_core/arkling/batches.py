"""Token batches for pretraining: the mixture over the course of training, encoding, and length-sorted batches.

Samples are never packed into one row, so attention cannot leak between them; rows of similar length share a batch.
Each pool of about `POOL_TOKENS` tokens depends only on (seed, index, progress), so training can restart at any pool.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from agentark_core.arkling import formats
from agentark_core.arkling.formats import Sample, Sampled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

POOL_TOKENS = 200_000
BATCH_TOKENS = 6_000

Row = tuple[list[int], list[float]]
"""Token ids and the loss weight of each (0: not learnt)."""

Curriculum = Literal["solo", "debate"]


def mixture(curriculum: Curriculum, progress: float) -> dict[str, float]:
    """Share of the tokens by format. progress runs from 0 to 1 over training."""
    if progress < 0.25:
        early = {"solo": 0.65, "drill": 0.3, "check": 0.05}
        return early if curriculum == "solo" else {"solo": 0.45, "drill": 0.25, "check": 0.05, "debate": 0.25}
    if curriculum == "solo":
        return {"solo": 0.85, "drill": 0.12, "check": 0.03}
    return {"solo": 0.24, "drill": 0.05, "check": 0.03, "debate": 0.68}


def encode(sample: Sample, tokenizer: PreTrainedTokenizerFast) -> Row:
    """The chat as ids with loss weights: 1 on the completion and its end, those of `learn` in the prompt, else 0."""
    prompt = tokenizer.apply_chat_template(list(sample.prompt), tokenize=False, add_generation_prompt=True)
    assert isinstance(prompt, str)
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    weights = [0.0] * len(ids)
    at = 0
    for text, weight in sample.learn:
        begin = prompt.index(text, at)
        at = begin + len(text)
        for index, (start, end) in enumerate(offsets):
            if begin <= start and end <= at:
                weights[index] = weight
    completion = tokenizer(sample.completion)["input_ids"] + [tokenizer.eos_token_id]
    if sample.results_only:
        equals, newline = tokenizer.convert_tokens_to_ids(["Ġ=", "Ċ"])
        inside = False
        for token in completion:
            weights.append(1.0 if inside else 0.0)
            inside = token == equals or (inside and token != newline)
    else:
        weights += [1.0] * len(completion)
    return ids + completion, weights


def pool_rows(
    tokenizer: PreTrainedTokenizerFast,
    *,
    curriculum: Curriculum,
    progress: float,
    seed: int,
    index: int,
    sampled: Sequence[Sampled],
) -> list[list[Row]]:
    """The batches of pool number `index`, in training order."""
    rng = random.Random(f"pool-{seed}-{index}")
    rows: list[Row] = []
    for name, share in mixture(curriculum, progress).items():
        tokens = 0
        while tokens < share * POOL_TOKENS:
            sample = formats.debate(rng, sampled) if name == "debate" else _MAKERS[name](rng)
            rows.append(encode(sample, tokenizer))
            tokens += len(rows[-1][0])
    return sorted_batches(rows, rng)


def sorted_batches(rows: list[Row], rng: random.Random) -> list[list[Row]]:
    """Rows of similar length together, at most BATCH_TOKENS a batch, the batches in random order. Sorts rows."""
    rows.sort(key=lambda row: len(row[0]) + rng.random())
    batches: list[list[Row]] = []
    current: list[Row] = []
    for row in rows:
        if (len(current) + 1) * len(row[0]) > BATCH_TOKENS:
            batches.append(current)
            current = []
        current.append(row)
    batches.append(current)
    rng.shuffle(batches)
    return batches


_MAKERS = {"solo": formats.solo, "drill": formats.drill, "check": formats.check}
