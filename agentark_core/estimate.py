"""What a debate run will cost, predicted from a sample of its own questions.

A total over N questions is predicted from n of them, drawn at random without replacement, as N times their mean, with
Student's t interval on that mean for a finite population (95 %; what varies is the question):

    N * mean +- t(n-1) * N * s * sqrt((1 - n/N) / n)

The prediction is kept in `<home>/estimates/<run>.json`, so that the finished run can be held
against it (estimate_compare.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

from agentark_core.config import BuildTracesConfig
from agentark_core.engine_time import Speed
from agentark_core.errors import ConfigError, EmptyDataset
from agentark_core.estimate_paper import paper
from agentark_core.ledger import atomic_write_json, canonical_json, fingerprint, to_parquet
from agentark_core.records import debates_to_table
from agentark_core.types import Debate, Turn

SCHEMA = 1
COUNTERS = ("turns", "prompt_tokens", "cached_tokens", "completion_tokens")
JOURNAL_HEADER_BYTES = 8
"""Length and checksum before each record (ledger/journal.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A predicted total and its 95 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Figure:
        """The same in another unit."""
        return Figure(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known before the run: fingerprints of its debates and of the sample's, and its size."""

    run: str
    sample: str
    dataset: str
    questions: int
    shards: int
    config: BuildTracesConfig


def draw(problem_ids: Iterable[str], *, questions: int, seed: int) -> list[str]:
    """A random choice of questions: those with the smallest hashes, so a larger draw contains a smaller one."""
    return sorted(problem_ids, key=lambda problem_id: fingerprint("draw", seed=seed, problem=problem_id))[:questions]


def predict(sample: Sequence[Debate], *, facts: RunFacts, speed: Speed) -> dict[str, Any]:
    """The estimate as plain data; sample holds at least two debates of the run's questions."""
    config, questions = facts.config, facts.questions
    counted = [counts(debate) for debate in sample]
    groups = sorted({group for row in counted for group in row}, key=group_order)
    rounds = {
        group: {
            counter: total([row.get(group, {}).get(counter, 0) for row in counted], questions=questions)
            for counter in COUNTERS
        }
        for group in groups
    }
    parquet, journal = _disk(sample, questions=questions, shards=facts.shards)
    if speed.tokens_per_s == 0:
        raise EmptyDataset(
            f"no token was generated for the {len(sample)} sampled questions, so there is no speed to predict from; "
            f"`agentark debates show {facts.sample}` says why"
        )
    hours = _engine_hours(rounds["all"]["completion_tokens"], speed=speed)
    figures = {
        "parquet_bytes": parquet,
        "journal_bytes": journal,
        "engine_hours": hours,
        "wall_hours": hours.scaled(1 / min(config.engine.num_engines, facts.shards)),
    }
    endpoint = config.engine.endpoint
    if endpoint and (endpoint.price_prompt or endpoint.price_completion):
        prices = (endpoint.price_prompt, endpoint.price_cached, endpoint.price_completion)
        figures["cost"] = total([_cost(row["all"], prices=prices) for row in counted], questions=questions)
    return {
        "schema": SCHEMA,
        "run": facts.run,
        "sample": facts.sample,
        "dataset": facts.dataset,
        "questions": questions,
        "sampled": len(sample),
        "debate": config.debate.model_dump(mode="json"),
        "num_engines": config.engine.num_engines,
        "max_num_seqs": config.engine.max_num_seqs,
        "interval": "95 %, Student t on the mean over questions, finite population",
        "speed": asdict(speed),
        "rounds": {g: {c: asdict(figure) for c, figure in row.items()} for g, row in rounds.items()},
        "figures": {name: asdict(figure) for name, figure in figures.items()},
        **(paper(sample, debate=config.debate, wording=config.teacher.prompts) or {}),
    }


def total(values: Sequence[float], *, questions: int) -> Figure:
    """The predicted sum over all questions. It is never below what the sample alone came to."""
    n = len(values)
    value = questions * fmean(values)
    spread = t_quantile(n - 1) * questions * stdev(values) * sqrt(max(0.0, 1 - n / questions) / n)
    return Figure(value=value, low=max(value - spread, float(sum(values))), high=value + spread)


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; Cornish-Fisher series (Abramowitz and Stegun 26.7.5), within 0.01 from 4 on."""
    z = NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def counts(debate: Debate) -> dict[str, dict[str, int]]:
    """Turns and tokens of one debate by `round k`, `summariser` and `all`."""
    groups: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTERS, 0))
    for turn in debate.turns:
        for group in (group_of(turn), "all"):
            row = groups[group]
            row["turns"] += 1
            row["prompt_tokens"] += turn.prompt_tokens
            row["cached_tokens"] += turn.cached_tokens
            row["completion_tokens"] += turn.completion_tokens
    return dict(groups)


def group_of(turn: Turn) -> str:
    """The line of the bill that a turn belongs to."""
    return "summariser" if turn.role == "summariser" else f"round {turn.round}"


def group_order(group: str) -> tuple[int, int]:
    """Sorts the lines of a bill: rounds by number, the summariser, all."""
    name, _, number = group.partition(" ")
    return ("round", "summariser", "all").index(name), int(number or 0)


def journal_bytes(debate: Debate) -> int:
    """What the turns of a debate take in a journal."""
    return sum(JOURNAL_HEADER_BYTES + len(canonical_json(asdict(turn))) for turn in debate.turns)


def _disk(sample: Sequence[Debate], *, questions: int, shards: int) -> tuple[Figure, Figure]:
    """(Parquet, journal).

    A file has a fixed part and compresses better the longer it is, so what questions add is taken from the second half
    of the sample; a question's share of that is taken to be its share of the journal.
    """
    journal = [journal_bytes(debate) for debate in sample]
    half = len(sample) // 2
    whole, first = (len(to_parquet(debates_to_table(debates))) for debates in (sample, sample[:half]))
    added = (whole - first) / sum(journal[half:])
    fixed = max(0.0, whole - added * sum(journal)) * shards
    parquet = total([added * size for size in journal], questions=questions)
    with_fixed = Figure(value=parquet.value + fixed, low=parquet.low + fixed, high=parquet.high + fixed)
    return with_fixed, total(journal, questions=questions)


def _engine_hours(tokens: Figure, *, speed: Speed) -> Figure:
    hours = tokens.scaled(1 / (3600 * speed.tokens_per_s))
    # The speed of a batch that was not full is a lower bound, so only the upper end of the interval means something.
    return hours if speed.full_batch else Figure(value=hours.value, low=0.0, high=hours.high)


def _cost(row: dict[str, int], *, prices: tuple[float, float, float]) -> float:
    prompt, cached, completion = prices
    computed = row["prompt_tokens"] - row["cached_tokens"]
    return (computed * prompt + row["cached_tokens"] * cached + row["completion_tokens"] * completion) / 1e6


# ---- kept beside the ledger


def estimate_path(home: Path, run: str) -> Path:
    """Where the estimate of a debate run is kept."""
    return home / "estimates" / f"{run}.json"


def save(estimate: dict[str, Any], *, home: Path) -> Path:
    """Write the estimate, replacing an older one of the same run."""
    path = estimate_path(home, estimate["run"])
    atomic_write_json(path, estimate)
    return path


def load(home: Path, run: str) -> dict[str, Any]:
    """The stored estimate of a debate run. ConfigError if there is none."""
    try:
        estimate: dict[str, Any] = json.loads(estimate_path(home, run).read_bytes())
    except FileNotFoundError:
        known = sorted(path.stem for path in (home / "estimates").glob("*.json"))
        raise ConfigError(
            f"--compare {run}: no estimate under {home}/estimates (there are: {', '.join(known) or 'none'}); "
            "make one with `agentark estimate --config FILE` before the run"
        ) from None
    return estimate
