"""Reasoning perplexity (Eq. 11 of the paper): how likely a model finds the reasoning of given completions.

    "Step 1: 3 + 4 = 7\\n\\\\boxed{7}<end>"   only the tokens of "Step 1: 3 + 4 = 7\\n" count
    per sample  exp(-(1/T) sum_t log p(r_t | r_<t, x)),  then the mean over samples

The prompt and the answer part are masked as training masks them (training/answer_part.py): prompt by the model's own
chat template, and from the step that states the answer on nothing counts. Nor does what the template itself writes
around the completion, such as empty thinking tags. A sample without reasoning tokens, or longer than the model's
context, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentark_core.errors import EmptyDataset
from agentark_core.length_batches import length_batches
from agentark_core.types import Message

if TYPE_CHECKING:
    from agentark_core.chat import ChatFormat

TOKENS_PER_BATCH = 2048
"""With padding; a batch holds one row of logits over the vocabulary for each (1.2 GB of float32 for Qwen3's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A completion and the chat that it answers."""

    prompt: tuple[Message, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A tokenised sample: positions start..end-1 of ids are its reasoning."""

    ids: list[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexities:
    """samples: one value a sample in order, None where it was left out; the counts say why; tokens: that counted."""

    samples: tuple[float | None, ...]
    tokens: int
    no_reasoning: int
    too_long: int

    @property
    def values(self) -> list[float]:
        """Of the samples that count."""
        return [value for value in self.samples if value is not None]

    @property
    def mean(self) -> float:
        """Eq. 11. Raises EmptyDataset if no sample counts."""
        if not self.values:
            raise EmptyDataset(
                f"no sample has reasoning tokens within the context ({self.no_reasoning} without any, {self.too_long} "
                "too long); take completions that reason before they answer"
            )
        return sum(self.values) / len(self.values)


def reasoning_perplexity(samples: Sequence[Sample], *, model_dir: Path, device: str = "") -> Perplexities:
    """Perplexity of each sample's reasoning under a checked model directory (model_files.resolve).

    device: empty takes the GPU where there is one. Weights are float32 on a CPU, else as published; probabilities are
    always float32. Raises ModelError as chat.ChatFormat does.
    """
    import torch

    from agentark_core.chat import ChatFormat
    from agentark_core.training.student_model import model_class

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    chat = ChatFormat.load(model_dir)
    model = (
        model_class(model_dir)
        .from_pretrained(
            model_dir,
            dtype=torch.float32 if device == "cpu" else "auto",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
        .to(device)
    )
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    rows = [row_of(sample, chat=chat) for sample in samples]
    long = {n for n, row in enumerate(rows) if context and len(row.ids) > context}
    empty = {n for n, row in enumerate(rows) if row.start == row.end} - long
    counted = [n for n in range(len(rows)) if n not in long | empty]
    found: list[float | None] = [None] * len(rows)
    for batch in length_batches([len(rows[n].ids) for n in counted], tokens=TOKENS_PER_BATCH):
        numbers = [counted[place] for place in batch]
        for number, logprobs in zip(numbers, token_logprobs(model, [rows[n] for n in numbers]), strict=True):
            found[number] = exp(-sum(logprobs) / len(logprobs))
    return Perplexities(
        samples=tuple(found),
        tokens=sum(rows[n].end - rows[n].start for n in counted),
        no_reasoning=len(empty),
        too_long=len(long),
    )


def row_of(sample: Sample, *, chat: ChatFormat) -> Row:
    """Prompt and completion as training tokenises them. A text that states no answer is reasoning throughout."""
    from agentark_core.training.answer_part import first_token

    prompt = chat.prompt_ids(sample.prompt)
    completion, ends = chat.completion_ends(sample.prompt, sample.text)
    before = sum(end == 0 for end in ends)
    written = sum(end <= len(sample.text) for end in ends)
    answer = first_token(chat, completion, text=sample.text)
    return Row(ids=prompt + completion, start=len(prompt) + before, end=len(prompt) + max(before, min(answer, written)))


def token_logprobs(model: Any, rows: Sequence[Row]) -> list[list[float]]:
    """log p of every reasoning token of each row, natural logarithm, from one forward pass."""
    import torch

    width = max(len(row.ids) for row in rows)
    # Padding stands behind: a causal model never sees it from the positions that are read.
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    first, last = min(row.start for row in rows), max(row.end for row in rows)
    with torch.inference_mode():
        # The token at t is predicted at t - 1; logits of long prompts are never made.
        kept = torch.arange(first - 1, last - 1, device=model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits
        found = []
        for row, row_logits, row_ids in zip(rows, logits, ids, strict=True):
            read = row_logits[row.start - first : row.end - first].float()
            target = row_ids[row.start : row.end]
            picked = read.gather(1, target[:, None])[:, 0] - read.logsumexp(dim=1)
            found.append(picked.double().tolist())
    return found
