"""The heads of a process reward model, on a language model of transformers.

    linear       R_phi = w . h + b of the last hidden state h: transformers' token classification model (the paper's)
    likelihood   two layers on h and on how likely the language model finds the completion so far

A language model that can solve the question is surprised by a wrong step, but h at the step's end hardly says so: how
likely a token was is known one position earlier, before it is read. So the second head is given it. No gradient goes
through it: a likelihood is to stay what the language model, not what the reward, has learned.

Shape suffixes: _R sequences, _T tokens, _N tokens of completions. Imports torch and transformers at the top.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import layer_norm
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForTokenClassification,
)
from transformers.modeling_outputs import TokenClassifierOutput

from agentark_core.config import PRMHead
from agentark_core.errors import ModelError
from agentark_core.training.memory import LIKELIHOOD_PARTS

LIKELIHOODS = 3
"""The lowest, the sum and the mean of the log-probabilities so far."""


def load(path: Path, *, head: PRMHead, dtype: Any, seed: int | None = None) -> Any:
    """The model in path with its reward head; with a new one, drawn from seed, if it has none.

    Without a seed the random numbers of the process go on as they were.

    Raises ModelError if its architecture takes no such head.
    """
    config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    if head == "linear":
        what, known = "token classification", MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
        config.num_labels = 1
        config.classifier_dropout = 0.0
    else:
        what, known = "causal language", MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise ModelError(
            f"{path}: {type(config).__name__} has no {what} model in transformers to put a reward head on; choose "
            "another prm.model"
        )
    if seed is not None:
        torch.manual_seed(seed)
    kind = AutoModelForTokenClassification if head == "linear" else _with_likelihoods(known[type(config)])
    return kind.from_pretrained(
        path, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )


def inputs(head: PRMHead, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, starts_R: torch.Tensor) -> Any:
    """What the model is called with; its `logits` (_R, _T, 1) are R_phi at every token.

    starts_R: where each completion begins. Padding stands behind.
    """
    given = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    return given | {"starts_R": starts_R} if head == "likelihood" else given


def choose_trained(model: Any, *, head: PRMHead, stage: str) -> None:
    """What learns in the stages of method.md section 3. stage1: the last layer and the reward head; the likelihood head
    alone, for which the last layer is a part of the language model. stage2: all that a gradient reaches."""
    if stage == "stage1":
        model.requires_grad_(False)
        for part in (model.base_model.layers[-1], model.score) if head == "linear" else (model.score,):
            part.requires_grad_(True)
    elif head == "likelihood" and not model.config.get_text_config().tie_word_embeddings:
        model.get_output_embeddings().requires_grad_(False)


def so_far(logprobs_R_T: torch.Tensor, *, mask_R_T: torch.Tensor) -> torch.Tensor:
    """Shape (_R, _T, LIKELIHOODS): log(1 - x) of the lowest, the sum and the mean of the masked log-probabilities up to
    each token. All 0 before the first one."""
    logprobs_R_T = logprobs_R_T * mask_R_T
    total_R_T = logprobs_R_T.cumsum(1)
    mean_R_T = total_R_T / mask_R_T.cumsum(1).clamp(min=1)
    return torch.log1p(-torch.stack([logprobs_R_T.cummin(1).values, total_R_T, mean_R_T], dim=2))


@cache
def _with_likelihoods(kind: Any) -> Any:
    """A subclass of a causal language model that gives rewards instead of logits."""

    class LikelihoodRewards(kind):
        """Files: those of the language model, and `score`."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            hidden = config.get_text_config().hidden_size
            self.score = torch.nn.Sequential(
                torch.nn.Linear(hidden + LIKELIHOODS, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, 1)
            )
            self.post_init()

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, starts_R: torch.Tensor, **options: Any
        ) -> TokenClassifierOutput:
            """Logits of shape (_R, _T, 1)."""
            hidden = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **options).last_hidden_state
            places = torch.arange(input_ids.shape[1], device=input_ids.device)
            mask_R_T = attention_mask.bool() & (places >= starts_R[:, None])
            logprobs_R_T = self.logprobs(hidden, input_ids=input_ids, mask_R_T=mask_R_T)
            read = [layer_norm(hidden, hidden.shape[-1:]), so_far(logprobs_R_T, mask_R_T=mask_R_T).to(hidden.dtype)]
            return TokenClassifierOutput(logits=self.score(torch.cat(read, dim=2)))

        @torch.no_grad()
        def logprobs(self, hidden: torch.Tensor, *, input_ids: torch.Tensor, mask_R_T: torch.Tensor) -> torch.Tensor:
            """Shape (_R, _T), float32: the log-probability of each token of a completion given those before it, else 0.

            hidden: the last hidden states, (_R, _T, hidden size).
            """
            output, cap = self.get_output_embeddings(), getattr(self.config, "final_logit_softcapping", None)
            hidden_N, tokens_N = hidden[:, :-1][mask_R_T[:, 1:]], input_ids[mask_R_T]
            found = []
            for part, tokens in zip(
                hidden_N.tensor_split(LIKELIHOOD_PARTS), tokens_N.tensor_split(LIKELIHOOD_PARTS), strict=True
            ):
                logits = output(part).float()
                logits = cap * torch.tanh(logits / cap) if cap else logits
                found.append(logits.log_softmax(1).gather(1, tokens[:, None])[:, 0])
            logprobs_R_T = torch.zeros(mask_R_T.shape, device=hidden.device)
            logprobs_R_T[mask_R_T] = torch.cat(found)
            return logprobs_R_T

    return LikelihoodRewards
