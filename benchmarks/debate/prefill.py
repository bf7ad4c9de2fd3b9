"""Prefilled tokens a question: the board against the `history` layout, at fixed trace length and K = 3.

    python -m benchmarks.debate.prefill

A random model of long context answers real prompts with --trace digits a turn, so no length varies and the figure is a
count, not a time. Computed tokens are prompt tokens minus vLLM's own num_cached_tokens. Expected tokens are those of
agentark_core/bill.py; a perfect cache has blocks of one token, the engine's have 32 on CPU, so of every prompt that
finds its prefix 15.5 tokens are expected on top.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Literal

from agentark_core.bill import Sizes, question_bill
from agentark_core.config import DebateConfig, EngineConfig, ModelConfig, SamplingConfig
from agentark_core.types import Debate

from . import figures, runs
from .engines import ForcedEngine, random_model

GOALS = {5: 0.35, 10: 0.18, 20: 0.09}
ROUNDS = 3
BLOCK = 32
HEADING = 6
"""Tokens around a shown solution: "Solution", its number, ":", two line ends, and its answer in the list of answers."""

Layout = Literal["board", "history"]


def computed(debate: Debate) -> int:
    """Prompt tokens that the engine had to compute for one question."""
    return sum(turn.prompt_tokens - turn.cached_tokens for turn in debate.turns)


def expected(debate: Debate, *, layout: Layout, agents: int, trace: int) -> tuple[float, float]:
    """Tokens of the formula for this question's own lengths: with a perfect cache, and with the engine's blocks."""
    question = debate.turns[0].prompt_tokens
    second = [turn.prompt_tokens for turn in debate.turns if turn.round == 2]
    shown = trace + HEADING
    suffix = sum(second) / agents - question - agents * shown
    sizes = Sizes(question=question, trace=trace, shown=shown, suffix=suffix)
    bill = question_bill(layout, num_agents=agents, ended=(0,) * (ROUNDS - 1) + (1,), sizes=sizes)
    return bill.prefill, bill.prefill + (bill.turns - 1) * (BLOCK - 1) / 2


async def measure(*, agents: int, questions: int, trace: int, kv_cache_gib: int) -> list[figures.Figure]:
    """Ratio and agreement with the formula for one number of agents; one pair a question."""
    context = 2**16
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), context=context)
        engine = ForcedEngine(
            model,
            model=ModelConfig(path=str(model), prompts="arkling"),
            engine=EngineConfig(max_num_seqs=64, kv_cache_gib=kv_cache_gib),
            length=lambda request: trace,
        )
    asked = runs.questions(questions)
    sides: dict[Layout, runs.Side] = {}
    for layout in ("board", "history"):
        how = DebateConfig(
            num_agents=agents,
            num_rounds=ROUNDS,
            layout=layout,
            quorum=0,
            summariser="always",
            sampling=SamplingConfig(temperature=1.0, max_tokens=trace),
        )
        await engine.reset_prefix_cache()
        start = time.monotonic()
        # One question at a time: no block is evicted, so both layouts get the best that a cache can do for them.
        debates = [await runs.discuss(problem, how=how, engine=engine) for problem in asked]
        sides[layout] = runs.Side(debates=tuple(debates), seconds=time.monotonic() - start)
        for debate in debates:
            assert len(debate.turns) == agents * ROUNDS + 1
            assert all(turn.status == "ok" and turn.completion_tokens == trace for turn in debate.turns)
    await engine.close()
    pairs = list(zip(sides["board"].debates, sides["history"].debates, strict=True))
    made = [
        figures.Figure(
            name=f"prefilled tokens, board / history, n={agents}",
            values=tuple(computed(board) / computed(history) for board, history in pairs),
            goal=GOALS.get(agents),
            details={
                "trace": trace,
                "board": [computed(board) for board, _ in pairs],
                "history": [computed(history) for _, history in pairs],
                "longest_prompt": max(turn.prompt_tokens for _, history in pairs for turn in history.turns),
                "seconds": {layout: round(side.seconds, 1) for layout, side in sides.items()},
            },
        )
    ]
    for layout, side in sides.items():
        wanted = [expected(debate, layout=layout, agents=agents, trace=trace) for debate in side.debates]
        off = [abs(computed(d) / perfect - 1) for d, (perfect, _) in zip(side.debates, wanted, strict=True)]
        off_blocks = [abs(computed(d) / blocks - 1) for d, (_, blocks) in zip(side.debates, wanted, strict=True)]
        made.append(
            figures.Figure(
                name=f"{layout}, n={agents}: off the formula, share",
                values=tuple(off),
                goal=0.03,
                details={"off_with_blocks": off_blocks, "expected": [perfect for perfect, _ in wanted]},
            )
        )
    return made


def main() -> None:
    """Three numbers of agents, each with an engine of its own."""
    given = figures.arguments(__doc__, questions=5, questions_20=2, trace=1000, trace_20=1000, kv_cache_gib=4)
    made = []
    for agents in GOALS:
        made += asyncio.run(
            measure(
                agents=agents,
                questions=given.questions_20 if agents == 20 else given.questions,
                trace=given.trace_20 if agents == 20 else given.trace,
                kv_cache_gib=given.kv_cache_gib,
            )
        )
    figures.report("prefill", made, out=given.out, settings={"rounds": ROUNDS, "block": BLOCK, "trace": given.trace})


if __name__ == "__main__":
    main()
