"""Questions a second: the stage with a board, consensus stop and no barrier, against the authors' schedule.

    python -m benchmarks.debate.throughput

Both sides discuss the same questions with the shipped teacher on one engine, lengths as they come, prefix caching on,
and an empty cache at the start. Ours is the whole stage: leases, journal, fsync, Parquet. The baseline keeps nothing;
all its questions hold all rounds, a round starts when all questions are through the one before, and a summariser
always speaks. Its layout is `history`, which the arkling models were never trained on: accuracy with it says
nothing about other models. Every pair has questions of its own; accuracy is paired over all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agentark_core import answers
from agentark_core.config import DebateConfig, SamplingConfig
from agentark_core.paired_tests import paired
from agentark_core.statistics import wilson
from agentark_core.types import Debate

from . import figures, runs
from .engines import BenchEngine, teacher

SAMPLING = SamplingConfig(temperature=0.9, max_tokens=128)
AUTHORS = DebateConfig(num_agents=5, num_rounds=3, layout="history", quorum=0, summariser="always", sampling=SAMPLING)
OURS = AUTHORS.model_copy(update={"layout": "board", "quorum": 1.0, "summariser": "when_split"})
SIDES = {
    "ours": OURS,
    "ours, quorum 0.8": OURS.model_copy(update={"quorum": 0.8}),
    "ours, quorum 0.6": OURS.model_copy(update={"quorum": 0.6}),
    "authors": AUTHORS,
}


def right(debate: Debate) -> bool:
    """Whether the decision is the gold (arkling golds are whole numbers, so the rules decide all)."""
    problem = debate.problem
    return debate.answer is not None and answers.equivalent(debate.answer, problem.gold, task=problem.task)


def summary(sides: Sequence[runs.Side]) -> dict[str, Any]:
    """What one side did over all pairs."""
    debates = [debate for side in sides for debate in side.debates]
    turns = [turn for debate in debates for turn in debate.turns]
    correct, n = sum(right(debate) for debate in debates), len(debates)
    low, high = wilson(correct, n)
    return {
        "questions": n,
        "questions_per_s": [round(side.questions_per_s, 2) for side in sides],
        "accuracy_percent": round(100 * correct / n, 1),
        "accuracy_95": [round(100 * low, 1), round(100 * high, 1)],
        "turns_a_question": round(len(turns) / n, 2),
        "completion_tokens_a_question": round(sum(turn.completion_tokens for turn in turns) / n, 1),
        "prefilled_tokens_a_question": round(sum(t.prompt_tokens - t.cached_tokens for t in turns) / n, 1),
    }


async def measure(engine: BenchEngine, *, pairs: int, questions: int, slots: int) -> list[figures.Figure]:
    """Every pair: the sides one after the other, each starting with an empty cache; the first pair is not counted."""
    sides: dict[str, list[runs.Side]] = {name: [] for name in SIDES}
    for pair in range(-1, pairs):
        asked = runs.questions(questions, offset=(pair + 1) * questions) if pair >= 0 else runs.questions(32)
        # Every second pair the other way round, so that neither side always has the quieter minute.
        for name in list(SIDES)[:: 1 if pair % 2 else -1]:
            await engine.reset_prefix_cache()
            how = SIDES[name]
            if name == "authors":
                side = await runs.whole_set(asked, how=how, engine=engine)
            else:
                side = await runs.stage(asked, how=how, engine=engine, slots=slots)
            if pair >= 0:
                sides[name].append(side)
                print(f"pair {pair} {name}: {side.questions_per_s:.2f} questions/s", flush=True)
    made = []
    authors = sides["authors"]
    for name in list(SIDES)[:-1]:
        test = paired(_outcomes(sides[name]), _outcomes(authors))
        made.append(
            figures.Figure(
                name=f"questions/s, {name} / authors",
                values=tuple(a.questions_per_s / b.questions_per_s for a, b in zip(sides[name], authors, strict=True)),
                side=">=",
                goal=2.5 if name == "ours" else None,
                details={
                    name: summary(sides[name]),
                    "authors": summary(authors),
                    "accuracy_difference_points": [round(x, 1) for x in (test.difference, test.low, test.high)],
                    "p_value": test.p_value,
                },
            )
        )
    return made


def _outcomes(sides: Sequence[runs.Side]) -> dict[str, bool | None]:
    return {debate.problem.problem_id: right(debate) for side in sides for debate in side.debates}


def main() -> None:
    """One engine, all pairs."""
    given = figures.arguments(__doc__, pairs=5, questions=100, slots=64)

    async def run() -> list[figures.Figure]:
        engine = teacher(slots=given.slots)
        try:
            return await measure(engine, pairs=given.pairs, questions=given.questions, slots=given.slots)
        finally:
            await engine.close()

    made = asyncio.run(run())
    figures.report("throughput", made, out=given.out, settings={"slots": given.slots, "questions": given.questions})


if __name__ == "__main__":
    main()
