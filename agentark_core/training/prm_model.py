"""A trained process reward model: sigma(R_phi) of every step of every completion.

    PRM.load(path).scores([[{"role": "user", "content": "Q: .."}]], ["Step 1: 3 + 4 = 7\n\\boxed{8}"])
    -> [[0.98, 0.03]]

Imports torch and transformers at the top: import this module only where a model is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from agentark_core import model_files
from agentark_core.chat import ChatFormat
from agentark_core.config import PRMHead
from agentark_core.errors import DataError, ModelError
from agentark_core.length_batches import length_batches
from agentark_core.step_tokens import Tokens, tokenise
from agentark_core.steps import STEPS_VERSION, split
from agentark_core.training import prm_head
from agentark_core.training.planning import tokenizer_digest
from agentark_core.types import Message

TOKENS_PER_BATCH = 16_384
"""Tokens of one forward pass, padding included."""


class PRM:
    """Attributes: chat (its tokenizer and template), model (float32 on a CPU, its own type on a GPU), context (tokens
    that it reads, prompt included)."""

    def __init__(self, chat: ChatFormat, model: Any, *, head: PRMHead) -> None:
        self.chat = chat
        self._head = head
        self.model = model.eval()
        self.context = model.config.get_text_config().max_position_embeddings

    @classmethod
    def load(cls, path: Path | str, *, device: str | None = None) -> PRM:
        """Read what training.prm wrote. device: default a GPU if there is one.

        Raises ModelError if it is none, if its tokenizer is not the one it was trained with, or if the splitter of
        today cuts other steps than those it was trained on.
        """
        path = Path(path)
        model_files.check_model_dir(path)
        try:
            about = json.loads((path / "prm.json").read_text(encoding="utf-8"))
            splitter, tokenizer = about["splitter"], about["tokenizer"]
            head = about.get("head", "linear")  # of models from before there was another
        except (OSError, ValueError, KeyError, TypeError):
            raise ModelError(f"{path}: no prm.json of a process reward model; train one with training.prm") from None
        if head not in get_args(PRMHead):
            raise ModelError(f"{path}: prm.json names the head {head!r}; known are {', '.join(get_args(PRMHead))}")
        if splitter != STEPS_VERSION:
            raise ModelError(
                f"{path}: trained on steps of the splitter {splitter!r}, this version cuts {STEPS_VERSION!r}; train it "
                "again, or use the version that trained it"
            )
        if (found := tokenizer_digest(path)) != tokenizer:
            raise ModelError(f"{path}: trained with the tokenizer files {tokenizer}, found {found}; restore them")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = prm_head.load(path, head=head, dtype=torch.float32 if device == "cpu" else "auto")
        return cls(ChatFormat.load(path), model.to(device), head=head)

    def scores(self, prompts: list[list[Message]], completions: list[str]) -> list[list[float]]:
        """sigma(R) from 0 to 1 of every step (steps.split) of each completion; [] for an empty one.

        All steps of a completion come from one forward pass. Raises DataError if one exceeds the model's context.
        """
        return self.step_scores(prompts, [split(completion) for completion in completions])

    def step_scores(self, prompts: Sequence[Sequence[Message]], steps: Sequence[Sequence[str]]) -> list[list[float]]:
        """`scores` of completions given as their steps, for steps that others have drawn (ProcessBench)."""
        rows = [tokenise(self.chat, prompt, parts) for prompt, parts in zip(prompts, steps, strict=True)]
        for number, row in enumerate(rows):
            if len(row.input_ids) > self.context:
                raise DataError(
                    f"completion {number}: {len(row.input_ids)} tokens with its prompt, the process reward model reads "
                    f"{self.context}; limit max_tokens or use another model"
                )
        found: list[list[float]] = [[] for _ in rows]
        for batch in length_batches([len(row.input_ids) for row in rows], tokens=TOKENS_PER_BATCH):
            for number, scores in zip(batch, self._forward([rows[number] for number in batch]), strict=True):
                found[number] = scores
        return found

    @torch.inference_mode()
    def _forward(self, rows: list[Tokens]) -> list[list[float]]:
        # Padding stands behind: a causal model never sees it from the positions that are read.
        device, length = self.model.device, max(len(row.input_ids) for row in rows)
        pad = self.chat.stop_ids[0]
        ids = torch.tensor([row.input_ids + [pad] * (length - len(row.input_ids)) for row in rows], device=device)
        lengths = torch.tensor([len(row.input_ids) for row in rows], device=device)
        mask = (torch.arange(length, device=device) < lengths[:, None]).long()
        starts_R = torch.tensor([row.start for row in rows], device=device)
        given = prm_head.inputs(self._head, input_ids=ids, attention_mask=mask, starts_R=starts_R)
        out = self.model(**given).logits[:, :, 0].float().sigmoid()
        return [scores[row.positions].tolist() for scores, row in zip(out.cpu(), rows, strict=True)]
