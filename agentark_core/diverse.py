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

    def apart(one: int, other: int) -> tuple[float, float] | None:
        """Distance in operations, then in words; None if the two do not differ."""
        by_operations = operation_distance(structures[one], structures[other])
        has_any = bool(structures[one] or structures[other])
        if has_any and by_operations < MIN_OPERATIONS:
            return None
        by_words = text_distance(traces[one], traces[other])
        return None if not has_any and by_words < MIN_WORDS else (by_operations, by_words)

    chosen = [0] if traces else []
    nearest: dict[int, tuple[float, float]] = {}
    left = set(range(1, len(traces)))
    while left and len(chosen) < limit:
        for candidate in sorted(left):
            found = apart(chosen[-1], candidate)
            if found is None:
                left.discard(candidate)
            else:
                nearest[candidate] = min(nearest.get(candidate, found), found)
        if left:
            best = max(sorted(left), key=nearest.__getitem__)
            chosen.append(best)
            left.discard(best)
    return chosen
