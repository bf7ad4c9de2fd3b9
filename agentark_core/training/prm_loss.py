"""The losses of a process reward model: Eq. 7, and binary cross-entropy as its control. Shapes: _S steps, _P positive
steps, _N negatives of one of them. Scores are R_phi, before the sigmoid."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def contrastive(
    scores_S: torch.Tensor, *, positives_P: torch.Tensor, negatives_P_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Shape (): Eq. 7, -sum_t log(exp(sigma(R(r_t+)) / tau) / sum over r_t+ and N_t of exp(sigma(R(r)) / tau)).

    positives_P, negatives_P_N: numbers of steps; -1 pads negatives. A sigmoid lies between 0 and 1, so a term is at
    least log(1 + N exp(-1 / tau)): with tau = 1 and four negatives 0.90 of the 1.61 it starts at, with 0.1 nearly 0.
    """
    sigma_S = scores_S.sigmoid() / temperature
    positive_P = sigma_S[positives_P]
    negative_P_N = sigma_S[negatives_P_N.clamp(min=0)].masked_fill(negatives_P_N < 0, -torch.inf)
    return (torch.cat([positive_P[:, None], negative_P_N], dim=1).logsumexp(dim=1) - positive_P).sum()


def cross_entropy(scores_S: torch.Tensor, *, labels_S: torch.Tensor, weights_S: torch.Tensor) -> torch.Tensor:
    """Shape (): sum over steps of weight * -(z log sigma(R) + (1 - z) log(1 - sigma(R))), labels z from 0 to 1."""
    return binary_cross_entropy_with_logits(scores_S, labels_S, weight=weights_S, reduction="sum")
