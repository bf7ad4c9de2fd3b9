"""Reasoning perplexity against a float64 computation by hand on tiny random models."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from agentark_core.chat import ChatFormat
from agentark_core.errors import EmptyDataset
from agentark_core.length_batches import length_batches
from agentark_core.perplexity import Perplexities, Sample, reasoning_perplexity, row_of

ANSWERED = "Step 1: 3 + 4 = 7\nStep 2: 7 * 2 = 14\n\\boxed{14}"
TEXTS = [ANSWERED, "Step 1: 9 * 22 = 198\n\\boxed{198}", "\\boxed{7}", "We look at apples and find nothing"]


def samples() -> list[Sample]:
    return [Sample(prompt=({"role": "user", "content": f"Q{n}?"},), text=text) for n, text in enumerate(TEXTS)]


def by_hand(path: Path, sample: Sample, reasoning: str) -> float:
    """Each token alone in float64, the whole sequence, no batch: exp of the mean of -log softmax."""
    import torch
    from transformers import AutoModelForCausalLM

    chat = ChatFormat.load(path)
    prompt = chat.prompt_ids(sample.prompt)
    completion = chat.completion_ids(sample.prompt, sample.text)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0]
    texts = [chat.tokenizer.decode(completion[:n]) for n in range(len(completion) + 1)]
    first = next(n for n, text in enumerate(texts) if "S" in text) - 1  # "Step"; Qwen3's template thinks before it
    last = next(n for n, text in enumerate(texts) if reasoning in text)
    losses = []
    for place in range(len(prompt) + first, len(prompt) + last):
        row = logits[place - 1]
        token = (prompt + completion)[place]
        losses.append(float(torch.log(torch.exp(row).sum()) - row[token]))
    return exp(sum(losses) / len(losses))


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma"])
def test_perplexity_is_that_of_the_reasoning_tokens_alone(family: Any, tmp_path: Path) -> None:
    path = tiny_models.make(family, tmp_path / family)
    asked = samples()
    made = reasoning_perplexity(asked, model_dir=path, device="cpu")
    # up to the line break before the answer, which tokenisers may give to the answer's side or to this one
    assert made.samples[0] == pytest.approx(by_hand(path, asked[0], "= 14\n"), rel=1e-4)
    assert made.samples[1] == pytest.approx(by_hand(path, asked[1], "= 198\n"), rel=1e-4)
    assert made.samples[2] is None and made.samples[3] is not None
    assert made.mean == pytest.approx(sum(made.values) / len(made.values))


def test_a_batch_gives_what_each_sample_gives_alone(tmp_path: Path) -> None:
    path = tiny_models.make("llama", tmp_path / "llama")
    together = reasoning_perplexity(samples(), model_dir=path, device="cpu")
    alone = [reasoning_perplexity([one], model_dir=path, device="cpu").samples[0] for one in samples()]
    assert alone[2] is None
    assert together.values == pytest.approx([value for value in alone if value is not None], rel=1e-5)
    assert (together.no_reasoning, together.too_long) == (1, 0)
    assert together.tokens == sum(
        row.end - row.start for row in (row_of(one, chat=ChatFormat.load(path)) for one in samples())
    )


def test_the_answer_and_the_prompt_do_not_count(tmp_path: Path) -> None:
    path = tiny_models.make("llama", tmp_path / "llama")
    chat = ChatFormat.load(path)
    row = row_of(samples()[0], chat=chat)
    assert chat.tokenizer.decode(row.ids[row.start : row.end]) == "Step 1: 3 + 4 = 7\nStep 2: 7 * 2 = 14\n"


def test_a_sample_over_the_context_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tiny_models.make("llama", tmp_path / "llama")  # context 2048
    long = Sample(prompt=({"role": "user", "content": "word " * 3000},), text=ANSWERED)
    made = reasoning_perplexity([long, samples()[0]], model_dir=path, device="cpu")
    assert made.samples[0] is None and made.samples[1] is not None and made.too_long == 1
    with pytest.raises(EmptyDataset, match="1 too long"):
        _ = reasoning_perplexity([long], model_dir=path, device="cpu").mean


def test_no_sample_has_no_mean() -> None:
    with pytest.raises(EmptyDataset, match="2 without any"):
        _ = Perplexities(samples=(None, None), tokens=0, no_reasoning=2, too_long=0).mean


def test_rows_of_similar_length_share_a_batch_within_its_tokens() -> None:
    assert length_batches([3, 9, 4, 10, 1], tokens=20) == [[3, 1], [2, 0, 4]]
    assert length_batches([50, 1], tokens=20) == [[0], [1]]
    assert length_batches([], tokens=20) == []
