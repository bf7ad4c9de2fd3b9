"""How long engines worked on a debate run, how fast, and at what price: read from its usage files and its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

from agentark_core.ledger import Store
from agentark_core.usage import spent, usage_folder

MIN_FULL_S = 3.0
"""Usage is counted once a second, so a shorter time with a full batch says too little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Completion tokens a second of one engine, its prefills included.

    full_batch: measured over `seconds` in which questions waited for a seat, so the batch was as full as in a long
    run. Otherwise it is that of the whole sample, whose batch was not full: a lower bound.
    """

    tokens_per_s: float
    full_batch: bool
    seconds: float


def sample_speed(store: Store) -> Speed:
    """The speed of the engine that debated a sample: one run of one shard."""
    usage = _usage(store.root)
    full_s = sum(each["slot_seconds"] / each["slots"] for each in usage if each["slots"])
    full_tokens = sum(each["full_tokens"] for each in usage)
    if full_s >= MIN_FULL_S and full_tokens > 0:
        return Speed(tokens_per_s=full_tokens / full_s, full_batch=True, seconds=full_s)
    metas = [entry.meta for entry in store.entries().values()]
    replayed = any(meta["replayed_turns"] for meta in metas)
    # The manifest knows fractions of seconds but not what earlier starts of a run took; usage knows both, roughly.
    seconds = engine_seconds(store.root) if replayed else sum(meta["seconds"] for meta in metas)
    tokens = sum(meta["completion_tokens"] for meta in metas)
    return Speed(tokens_per_s=tokens / max(seconds, 1e-3), full_batch=False, seconds=seconds)


def engine_seconds(run_root: Path) -> float:
    """Seconds that engines had work of this run, over all its starts and engines."""
    return spent(run_root)[1]


def wall_seconds(run_root: Path) -> float:
    """Seconds in which at least one engine worked on this run, over all its starts."""
    return covered(
        [
            (
                datetime.fromisoformat(each["started_at"]).timestamp(),
                datetime.fromisoformat(each["updated_at"]).timestamp(),
            )
            for each in _usage(run_root)
        ]
    )


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that at least one span of (start, end) covers."""
    seconds, until = 0.0, -inf
    for start, end in sorted(spans):
        begin = max(start, until)
        if end > begin:
            seconds, until = seconds + end - begin, end
    return seconds


def cost(run_root: Path) -> float:
    """What the endpoint took for this run, over all its starts, in the currency of its prices."""
    return sum(float(each["cost"]) for each in _usage(run_root))


def _usage(run_root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in usage_folder(run_root).glob("*.json")]
