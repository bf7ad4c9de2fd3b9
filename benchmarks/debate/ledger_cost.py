"""What the stage costs around the engine: its wall clock against the same prompts replayed with nothing around them.

    python -m benchmarks.debate.ledger_cost

The stage side is all that an engine actor does: chat templates, tokenising, seats, caps, the watchdog, answers, leases,
journal, fsync, Parquet commits; two shards at a time, as in production. The bare side sends the recorded token ids of
that very run in the same order to the same AsyncLLM, `slots` at a time, and looks at nothing that comes back. Both
start with an empty cache. --profile N writes the N costliest functions of one stage run (cProfile of its process; the
engine core is another one).
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import time

from agentark_core.config import DebateConfig, SamplingConfig

from . import figures, runs
from .engines import BenchEngine, Watched, teacher

HOW = DebateConfig(
    num_agents=5,
    num_rounds=3,
    quorum=1.0,
    summariser="when_split",
    sampling=SamplingConfig(temperature=0.9, max_tokens=128),
)
SHARDS = 2


async def measure(engine: BenchEngine, *, pairs: int, questions: int, slots: int) -> figures.Figure:
    """Every pair has questions of its own; the first pair is not counted."""
    stage_s, bare_s, turns = [], [], []
    for pair in range(-1, pairs):
        asked = runs.questions(questions if pair >= 0 else 32, offset=(pair + 1) * questions)
        await engine.reset_prefix_cache()
        watched = Watched(engine)
        side = await runs.stage(asked, how=HOW, engine=watched, slots=slots, shards=SHARDS)
        await engine.reset_prefix_cache()
        start = time.monotonic()
        await engine.replay(watched.requests, slots=slots)
        bare = time.monotonic() - start
        if pair >= 0:
            stage_s.append(side.seconds)
            bare_s.append(bare)
            turns.append(len(watched.requests))
            print(f"pair {pair}: stage {side.seconds:.2f} s, bare {bare:.2f} s, {turns[-1]} turns", flush=True)
    return figures.Figure(
        name="wall of the stage / bare AsyncLLM loop",
        values=tuple(a / b for a, b in zip(stage_s, bare_s, strict=True)),
        goal=1.05,
        details={
            "stage_s": [round(s, 2) for s in stage_s],
            "bare_s": [round(s, 2) for s in bare_s],
            "turns": turns,
            "extra_ms_a_turn": [round(1000 * (a - b) / n, 3) for a, b, n in zip(stage_s, bare_s, turns, strict=True)],
        },
    )


async def profiled(engine: BenchEngine, *, questions: int, slots: int, rows: int) -> None:
    """Print where the stage's own process spends its time."""
    await runs.stage(runs.questions(32), how=HOW, engine=engine, slots=slots)
    await engine.reset_prefix_cache()
    profile = cProfile.Profile()
    profile.enable()
    await runs.stage(runs.questions(questions, offset=100), how=HOW, engine=engine, slots=slots, shards=SHARDS)
    profile.disable()
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile).sort_stats(order).print_stats(rows)


def main() -> None:
    """One engine, all pairs."""
    given = figures.arguments(__doc__, pairs=5, questions=200, slots=64, profile=0)

    async def run() -> figures.Figure | None:
        engine = teacher(slots=given.slots)
        try:
            if given.profile:
                await profiled(engine, questions=given.questions, slots=given.slots, rows=given.profile)
                return None
            return await measure(engine, pairs=given.pairs, questions=given.questions, slots=given.slots)
        finally:
            await engine.close()

    figure = asyncio.run(run())
    if figure is not None:
        figures.report(
            "ledger_cost", [figure], out=given.out, settings={"slots": given.slots, "questions": given.questions}
        )


if __name__ == "__main__":
    main()
