"""How first answers of a run of debates reason: perplexity under models, qualities by judges; kept for reports.

    reports/FINGERPRINT/reasoning.json
    {"perplexity": [{"model": .., "mean": 3.1, ..}], "qualities": [{"judge": .., "means": {"coherence": ..}, ..}]}

One entry a model or judge; measured again, the entry is replaced. reasoning_view.py measures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentark_core.ledger import atomic_write_json
from agentark_core.mean_interval import Interval
from agentark_core.qualities import Agreement, Correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanPerplexity:
    """Eq. 11 under one model: mean over n samples with tokens reasoning tokens in all. Left out are no_reasoning and
    too_long samples, and incomplete questions, which have no complete first answer."""

    model: str
    mean: float
    interval: Interval
    n: int
    tokens: int
    no_reasoning: int
    too_long: int
    incomplete: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanScore:
    """A quality over n rated solutions, 1 to 5."""

    mean: float
    interval: Interval
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """What one judge says of so many solutions, by quality. means: of those it could rate. agreement: with itself under
    other seeds. correlations: of some qualities with the share of steps that an exact check finds right, on arkling."""

    judge: str
    solutions: int
    unrated: int
    means: dict[str, MeanScore]
    agreement: dict[str, Agreement]
    correlations: dict[str, Correlation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """All that was measured on one run of debates."""

    perplexity: tuple[MeanPerplexity, ...] = ()
    qualities: tuple[Rated, ...] = ()


def read(home: Path, run: str) -> Reasoning | None:
    """What was measured on a run of debates (fingerprint); None if nothing was."""
    try:
        data = json.loads(_path(home, run).read_bytes())
    except FileNotFoundError:
        return None
    return Reasoning(
        perplexity=tuple(MeanPerplexity(**one | {"interval": _interval(one)}) for one in data["perplexity"]),
        qualities=tuple(_rated(one) for one in data["qualities"]),
    )


def keep(home: Path, run: str, found: MeanPerplexity | Rated) -> None:
    """Keep a measurement of a run of debates, in place of an earlier one by the same model or judge."""
    kept = read(home, run) or Reasoning()
    if isinstance(found, MeanPerplexity):
        others = tuple(one for one in kept.perplexity if one.model != found.model)
        kept = replace(kept, perplexity=(*others, found))
    else:
        rated = tuple(one for one in kept.qualities if one.judge != found.judge)
        kept = replace(kept, qualities=(*rated, found))
    atomic_write_json(_path(home, run), asdict(kept))


def _path(home: Path, run: str) -> Path:
    return home / "reports" / run / "reasoning.json"


def _interval(data: Mapping[str, Any]) -> Interval:
    return None if data["interval"] is None else (data["interval"][0], data["interval"][1])


def _rated(data: Mapping[str, Any]) -> Rated:
    kinds = {"agreement": Agreement, "correlations": Correlation}
    made = {field: {name: kind(**of) for name, of in data[field].items()} for field, kind in kinds.items()}
    means = {name: MeanScore(**of | {"interval": _interval(of)}) for name, of in data["means"].items()}
    return Rated(**{**data, **made, "means": means})
