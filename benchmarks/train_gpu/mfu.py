"""Model FLOPs utilisation: the share of a GPU's peak that goes into what the model has to compute.

    MFU = tokens/s x (6 N + 12 L Q s) / peak            (PaLM, Chowdhery et al., arXiv 2204.02311, appendix B)

N: weights that every token is multiplied with: the matrices of the layers and, with head, the language model's head. A
head tied to the embedding counts once; looking a token up in an embedding multiplies nothing and does not count. L:
layers. Q: heads x head size, which is the hidden size in many models but not in Qwen3-0.6B. s: tokens of a row; the
whole square of the scores counts, as in PaLM, though half of it is masked. What gradient checkpointing computes again
does not count. The head is computed for the tokens that carry loss only: count it for rows that are nearly all of them.
"""

from __future__ import annotations

from agentark_core.training.model_shape import Shape

PEAK_TFLOPS = {
    "NVIDIA H200": 989.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
}
"""bfloat16 without sparsity, in 10^12 operations a second (NVIDIA's data sheets), by the name that the driver gives."""


def multiplied(shape: Shape, *, head: bool) -> int:
    """N: weights that a token is multiplied with. head: of the language model (a reward model has none)."""
    return shape.layers * shape.layer + (shape.vocabulary * shape.hidden if head else 0)


def flops_per_token(shape: Shape, *, length: int, head: bool = True) -> int:
    """Operations of forward and backward pass for one token of a row of length tokens."""
    return 6 * multiplied(shape, head=head) + 12 * shape.layers * shape.heads * shape.head * length


def mfu(tokens_per_second: float, *, flops: float, peak_tflops: float) -> float:
    """Share of the peak, from 0 to 1. flops: for one token; peak_tflops: in 10^12 operations a second."""
    return tokens_per_second * flops / (peak_tflops * 1e12)
