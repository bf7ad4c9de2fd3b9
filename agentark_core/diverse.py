"""The rule selector of data augmentation: up to k correct traces of one question that differ in structure.

Two traces differ if at least MIN_OPERATIONS of their operations do (structure.operation_distance); where neither has
any, if at least MIN_WORDS of their word pairs do. The first trace given is taken first (corrective ones come first);
then, each time, the one whose nearest chosen trace is farthest, operations before words. No model is needed, and the
same traces give the same choice.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentark_core.structure import operation_distance, operations, text_distance

MIN_OPERATIONS = 0.25
"""One operation of four: less is a detail (a unit conversion, a check) of the same solution."""

MIN_WORDS = 0.5


def diverse(traces: Sequence[str], *, limit: int) -> list[int]:
    """Positions of the chosen traces in the order of choice; at least one (if there is one), at most limit."""
    structures = [operations(trace) for trace in traces]

    def distance(one: int, other: int) -> tuple[float, float]:
        return operation_distance(structures[one], structures[other]), text_distance(traces[one], traces[other])

    def differs(one: int, other: int, apart: tuple[float, float]) -> bool:
        if structures[one] or structures[other]:
            return apart[0] >= MIN_OPERATIONS
        return apart[1] >= MIN_WORDS

    chosen = [0] if traces else []
    nearest: dict[int, tuple[float, float]] = {}
    left = set(range(1, len(traces)))
    while left and len(chosen) < limit:
        for candidate in sorted(left):
            apart = distance(chosen[-1], candidate)
            if not differs(chosen[-1], candidate, apart):
                left.discard(candidate)
            nearest[candidate] = min(nearest.get(candidate, apart), apart)
        if left:
            best = max(sorted(left), key=nearest.__getitem__)
            chosen.append(best)
            left.discard(best)
    return chosen
