"""Questions a second without a barrier, against whole-set rounds and against ten questions at a time.

    python -m benchmarks.debate.barrier

Everything but the schedule is equal: board, n = 5, K = 3, no stop, summariser always, and the same lengths, drawn for
every (question, round, agent) from a seeded log-normal with sigma 0.7 (0.5 between questions, 0.5 within one) and a
mean of --mean tokens. Nothing is stored on any side.

A slot costs next to nothing on a GPU until its memory bandwidth is used up: a step takes as long with 8 sequences as
with 64. On a CPU a step takes a + b * sequences, so an empty slot saves time and a barrier costs less. The script
measures a and b, and gives beside the seconds the number of engine steps that each schedule needed (its time integral
divided by a + b * running): that ratio, and the share of busy slots in those steps, carry over to a GPU.
"""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from agentark_core.config import DebateConfig, EngineConfig, ModelConfig, SamplingConfig
from agentark_core.engines.base import Request

from . import figures, runs
from .engines import ForcedEngine, Watched, random_model

SIGMA_QUESTION, SIGMA_TRACE = 0.5, 0.5
LONGEST = 8
"""Times the mean: no generation is longer."""

CONTEXT = 2**14


def lognormal(request: Request, *, average: int) -> int:
    """Length of a generation, the same for every schedule. The mean of exp(N(mu, s^2)) is exp(mu + s^2 / 2)."""
    of_question = random.Random(request.problem_id).gauss(0, SIGMA_QUESTION)
    of_trace = random.Random(f"{request.problem_id} {request.round} {request.agent}").gauss(0, SIGMA_TRACE)
    mu = math.log(average) - (SIGMA_QUESTION**2 + SIGMA_TRACE**2) / 2
    return max(1, min(LONGEST * average, round(math.exp(mu + of_question + of_trace))))


async def step_seconds(engine: ForcedEngine, *, slots: int) -> tuple[float, float]:
    """(a, b) of a step's a + b * sequences: median of three decodes of 1 and of `slots` sequences."""
    asked = runs.questions(slots)
    times = {}
    for sequences in (1, slots):
        how = DebateConfig(num_agents=1, num_rounds=1, quorum=0, summariser="never", sampling=_sampling(256))
        tries = []
        for _ in range(3):
            start, before = time.monotonic(), engine.tokens_made
            await asyncio.gather(*(runs.discuss(problem, how=how, engine=engine) for problem in asked[:sequences]))
            tries.append((time.monotonic() - start) / ((engine.tokens_made - before) / sequences))
        times[sequences] = median(tries)
    b = max(0.0, (times[slots] - times[1]) / (slots - 1))
    return times[1] - b, b


def steps(trace: Sequence[tuple[float, int]], *, slots: int, a: float, b: float) -> tuple[float, float]:
    """(engine steps, share of busy slots in them) from the number of requests in the engine over time."""
    total = busy = 0.0
    for (start, running), (end, _) in pairwise(trace):
        used = min(running, slots)
        made = (end - start) / (a + b * used)
        total, busy = total + made, busy + made * used
    return total, busy / (total * slots)


def _sampling(longest: int) -> SamplingConfig:
    return SamplingConfig(temperature=1.0, max_tokens=longest)


async def measure(*, pairs: int, questions: int, slots: int, average: int) -> list[figures.Figure]:
    """Every pair: the three schedules on the same questions, each starting with an empty cache."""
    calibrating = True

    def length(request: Request) -> int:
        return request.sampling.max_tokens if calibrating else lognormal(request, average=average)

    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), context=CONTEXT)
        engine = ForcedEngine(
            model,
            model=ModelConfig(path=str(model), prompts="arkling"),
            engine=EngineConfig(max_num_seqs=slots, kv_cache_gib=4),
            length=length,
        )
    await step_seconds(engine, slots=slots)  # the first one warms up
    a, b = await step_seconds(engine, slots=slots)
    calibrating = False
    how = DebateConfig(num_agents=5, num_rounds=3, quorum=0, sampling=_sampling(LONGEST * average))
    names = ("no barrier", "ten at a time", "whole-set rounds")
    rate: dict[str, list[float]] = {name: [] for name in names}
    made_steps: dict[str, list[float]] = {name: [] for name in names}
    occupancy: dict[str, list[float]] = {name: [] for name in names}
    for pair in range(pairs):
        asked = runs.questions(questions, offset=pair * questions)
        for name in names[:: 1 if pair % 2 else -1]:
            await engine.reset_prefix_cache()
            watched = Watched(engine)
            if name == "no barrier":
                side = await runs.seated(asked, how=how, engine=watched, slots=slots)
            elif name == "ten at a time":
                side = await runs.in_chunks(asked, how=how, engine=watched, size=10)
            else:
                side = await runs.whole_set(asked, how=how, engine=watched)
            count, busy = steps(watched.trace, slots=slots, a=a, b=b)
            rate[name].append(side.questions_per_s)
            made_steps[name].append(count)
            occupancy[name].append(busy)
            print(f"pair {pair} {name}: {side.questions_per_s:.2f} questions/s, {100 * busy:.0f} % busy", flush=True)
    await engine.close()
    ours = names[0]
    made = []
    for other, goal in (("ten at a time", 1.5), ("whole-set rounds", 1.05)):
        made += [
            figures.Figure(
                name=f"questions/s, no barrier / {other}",
                values=tuple(x / y for x, y in zip(rate[ours], rate[other], strict=True)),
                side=">=",
                goal=goal,
                details={name: [round(x, 2) for x in rate[name]] for name in (ours, other)},
            ),
            figures.Figure(
                name=f"engine steps, {other} / no barrier",
                values=tuple(x / y for x, y in zip(made_steps[other], made_steps[ours], strict=True)),
                details={name: round(mean(occupancy[name]), 3) for name in (ours, other)}
                | {"step_ms": {"a": round(1000 * a, 3), "b": round(1000 * b, 4)}},
            ),
        ]
    made += [
        figures.Figure(name=f"share of busy slots, {name}", values=tuple(occupancy[name]), side=">=") for name in names
    ]
    return made


def main() -> None:
    """One engine, all pairs."""
    given = figures.arguments(__doc__, pairs=5, questions=60, slots=64, mean=100)
    made = asyncio.run(measure(pairs=given.pairs, questions=given.questions, slots=given.slots, average=given.mean))
    settings = {"slots": given.slots, "questions": given.questions, "mean_tokens": given.mean}
    figures.report("barrier", made, out=given.out, settings=settings)


if __name__ == "__main__":
    main()
