"""The value function of PPO (Eq. 8-9): a head on the policy's last hidden state, and the advantages that follow.

    values   V(s_t) of the state before completion token t: prompt and the tokens before t
    returns  A_t + V(s_t), what the values are trained towards

The head shares the policy's layers, as in Schulman et al. (arXiv 1707.06347, section 5): a value model of its own would
take the memory of a second policy with its optimiser, and would have to learn from the few rollouts of one job what
the policy has already read into its hidden states. Imports torch at the top: import this module only where a model is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

HEAD = "value_head"
"""Its name in the policy, in checkpoints too. No published model has it."""


class ValueHead(torch.nn.Module):
    """V = (w . n(h)) / width + b in float32, n the root-mean-square norm; 0 everywhere before the first step.

    Norm and 1 / width make a step of the learning rate move V by about that rate at any width (output weights under
    Adam: Yang et al., arXiv 2203.03466, table 8).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(width))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Any) -> Any:
        """(..., width) -> (...)."""
        with torch.autocast(hidden.device.type, enabled=False):
            normed = functional.rms_norm(hidden.float(), hidden.shape[-1:], eps=1e-6)
            return normed @ (self.weight.float() / hidden.shape[-1]) + self.bias.float()


def gae(rewards_B: Any, values_BT: Any, mask_BT: Any, *, gae_lambda: float) -> Any:
    """Generalised advantage estimates, (B, T), 0 outside the mask (Schulman et al., arXiv 1506.02438, Eq. 16).

    A_t = sum_l lambda^l delta_{t+l}, delta_t = r_t + V(s_{t+1}) - V(s_t), without discount. r_t is the completion's
    reward at its last token and 0 before; V behind the last token is 0. mask_BT: 1 for a completion's tokens, which
    come first in their row.
    """
    mask = mask_BT.to(values_BT.dtype)
    values = values_BT * mask
    following = functional.pad(values, (0, 1))[:, 1:]
    is_last = mask - functional.pad(mask, (0, 1))[:, 1:]
    delta = is_last * rewards_B[:, None] + following - values
    advantages, running = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        running = delta[:, t] + gae_lambda * running
        advantages[:, t] = running
    return advantages


def value_loss(values_BT: Any, returns_BT: Any, mask_BT: Any) -> Any:
    """Mean over a completion's tokens of (V - return)^2, then over completions, as the policy's loss is averaged."""
    mask = mask_BT.to(values_BT.dtype)
    squared = (values_BT - returns_BT).square() * mask
    return (squared.sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def without_head(weights: dict[str, Any]) -> dict[str, Any]:
    """The policy's own weights."""
    return {name: weight for name, weight in weights.items() if not name.startswith(f"{HEAD}.")}
