"""Two selectors of data augmentation on the same debates: the rules of diverse.py and an LLM (selector.py).

    python benchmarks/selector_agreement.py --home agentark-home --run 68d3d988b093cf5f --model MODEL

For every verified debate with at least two different correct traces in its last round both choose 1 to --limit of them;
the engine runs in this process. `random` is the control: at each question as many traces as the LLM chose, drawn with
--seed. Overlap is the Jaccard index of two chosen sets, averaged over questions. Distinct: of the chosen pairs with
operations, the share that differ by at least diverse.MIN_OPERATIONS of them. First: the share of questions where
trace 1 is chosen. All of it over the questions that the LLM decided (where the rules decided in its place is counted
apart), and over those of them with more than --limit traces: with fewer, all may be chosen and selectors agree without
a look. 95 % intervals take questions as the unit. Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any

from agentark_core.config import EngineConfig, SelectorConfig
from agentark_core.diverse import MIN_OPERATIONS, diverse
from agentark_core.engines.opening import open_engine
from agentark_core.errors import AgentArkError
from agentark_core.selections import SelectionJob, choices
from agentark_core.selector import Choice, Picked, SelectorSetup, select, setup
from agentark_core.stored import debate_runs
from agentark_core.structure import operation_distance, operations

Z = 1.959963984540054  # 97.5 % point of the normal distribution


def read_choices(home: Path, *, run: str, limit: int) -> list[Choice]:
    """What there is to choose in the verified shards of a run."""
    job = SelectionJob(home=home, debates=run, judge=None, limit=limit, selector={})
    return [choice for shard in sorted(job.verdicts.committed()) for choice, _ in choices(job, shard)]


async def ask(asked: Sequence[Choice], selector: SelectorSetup, *, home: Path) -> list[Picked]:
    """What the LLM picks, on one engine in this process."""
    engine = open_engine(selector.config.model, selector.engine, home=home)
    try:
        return await select(asked, engine=engine, sampling=selector.config.sampling)
    finally:
        await engine.close()


def ratio(clusters: Sequence[tuple[float, float]]) -> dict[str, float | int | None]:
    """sum(k) / sum(n) over clusters of (k, n), with the interval of a ratio estimator (Cochran 1977, section 6)."""
    n, m = sum(n for _, n in clusters), len(clusters)
    if not n or m < 2:
        return {"value": None, "low": None, "high": None, "n": n, "questions": m}
    value = sum(k for k, _ in clusters) / n
    half = Z * sqrt(m / (m - 1) * sum((k_i - value * n_i) ** 2 for k_i, n_i in clusters)) / n
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n, "questions": m}


def overlap(one: Sequence[set[int]], other: Sequence[set[int]]) -> dict[str, float | int | None]:
    """Mean Jaccard index of the chosen sets, question by question."""
    return ratio([(len(a & b) / len(a | b), 1) for a, b in zip(one, other, strict=True)])


def distinct(asked: Sequence[Choice], chosen: Sequence[set[int]]) -> dict[str, float | int | None]:
    """Share of the pairs of chosen traces, one of which has operations at least, that differ in them."""
    clusters = []
    for choice, places in zip(asked, chosen, strict=True):
        structures = [operations(choice.traces[place]) for place in sorted(places)]
        pairs = [operation_distance(a, b) >= MIN_OPERATIONS for a, b in combinations(structures, 2) if a or b]
        if pairs:
            clusters.append((sum(pairs), len(pairs)))
    return ratio(clusters)


def compare(decided: Sequence[tuple[Choice, Picked]], *, rng: random.Random) -> dict[str, Any]:
    """The figures of the three selectors over some questions that the LLM decided."""
    questions = [choice for choice, _ in decided]
    chosen = {
        "rules": [set(diverse(choice.traces, limit=choice.limit)) for choice in questions],
        "llm": [set(pick.places) for _, pick in decided],
        "random": [set(rng.sample(range(len(choice.traces)), len(pick.places))) for choice, pick in decided],
    }
    return {
        "overlap": {
            f"{one} and {other}": overlap(chosen[one], chosen[other]) for one, other in combinations(chosen, 2)
        },
        "distinct": {name: distinct(questions, sets) for name, sets in chosen.items()},
        "first": {name: ratio([(0 in places, 1) for places in sets]) for name, sets in chosen.items()},
        "k": {name: dict(sorted(Counter(map(len, sets)).items())) for name, sets in chosen.items()},
    }


def main() -> None:
    """Print a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("agentark-home"))
    parser.add_argument("--run", required=True, help="fingerprint of a debate run with verdicts")
    parser.add_argument("--model", required=True, help="hub id or model directory of the LLM selector")
    parser.add_argument("--limit", type=int, choices=(2, 3), default=3, help="traces a question at most")
    parser.add_argument("--seed", type=int, default=0, help="of the random control")
    parser.add_argument("--gpus", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.run not in debate_runs(arguments.home):
        parser.error(f"no debate run {arguments.run} under {arguments.home}; see agentark debates --home HOME")
    try:
        asked = read_choices(arguments.home, run=arguments.run, limit=arguments.limit)
        if not asked:
            parser.error(f"{arguments.run}: no verified debate with two different correct traces; extract it first")
        config = SelectorConfig.model_validate({"model": {"path": arguments.model}})
        made = setup(config, engine=EngineConfig(num_gpus=arguments.gpus))
        assert made is not None
        picked = asyncio.run(ask(asked, made, home=arguments.home))
    except AgentArkError as error:
        parser.error(str(error))
    decided = [(choice, pick) for choice, pick in zip(asked, picked, strict=True) if pick.by != "rules"]
    crowded = [(choice, pick) for choice, pick in decided if len(choice.traces) > arguments.limit]
    rng = random.Random(arguments.seed)
    groups = {"all": compare(decided, rng=rng), f"over {arguments.limit} traces": compare(crowded, rng=rng)}
    by = dict(Counter(pick.by for pick in picked))
    print(f"{len(asked)} questions with a choice; decided by {by}")
    for group, figures in groups.items():
        print(f"\n{group}: k {figures['k']}")
        for figure in ("overlap", "distinct", "first"):
            for name, share in figures[figure].items():
                print(f"{figure:<10}{name:<18}{cell(share)}")
    made_of = {
        "run": arguments.run,
        "model": arguments.model,
        "limit": arguments.limit,
        "questions": len(asked),
        "traces": dict(sorted(Counter(len(choice.traces) for choice in asked).items())),
        "by": by,
        "reasons": dict(Counter(pick.reason for pick in picked if pick.reason)),
    }
    print(json.dumps({**made_of, **groups}))


def cell(share: dict[str, Any]) -> str:
    """A figure as text: 0.512 [0.480, 0.544], n = 980 of 412 questions."""
    if share["value"] is None:
        return f"- (n = {share['n']})"
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}], n = {share['n']} of {share['questions']}"


if __name__ == "__main__":
    main()
