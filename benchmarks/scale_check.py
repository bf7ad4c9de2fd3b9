"""Is the simulation right? The shipped teacher on this machine: simulated against real.

    python benchmarks/scale_simulation.py --check

One real engine debates three sets of questions with few, some and all slots; the rates of a step, a sequence and a
prefilled token are fitted to what its requests took, and lengths and agreement are measured. Then it debates other
questions, two shards at a time as in a run, and the simulation predicts how long that takes and how many requests run.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from scale_simulation import OURS, Parameters, simulate, spread

from agentark_core import answers, model_files, problems, prompts, records
from agentark_core.config import DebateConfig, EngineConfig, ModelConfig, ProblemsConfig, SamplingConfig
from agentark_core.discussion import Plan
from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.engines.base import Engine, EngineView, Request
from agentark_core.estimate_paper import measured_sizes
from agentark_core.ledger import Store
from agentark_core.shards import ShardJob, run_shard
from agentark_core.stored import read_debates
from agentark_core.types import Debate, Generation, Problem

SLOTS = (8, 64, 256)
"""Slots of the three fitted runs; the checked run has the last."""

FITTED = (40, 120, 400)
CHECKED, SHARD = 1024, 256
WINDOW_S = 0.25
TEACHER = ModelConfig(path="arkling:teacher", prompts="arkling")
HOW = DebateConfig(
    num_agents=5,
    num_rounds=3,
    summariser="when_split",
    sampling=SamplingConfig(temperature=0.9, max_tokens=128),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: when it was in the engine, and its tokens."""

    start: float
    end: float
    prefilled: int
    decoded: int


class Watched(EngineView):
    """A real engine that notes when each request was in it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.calls: list[Call] = []

    @property
    def tokens_made(self) -> int:
        return self._engine.tokens_made

    async def generate(self, request: Request) -> Generation:
        start = time.perf_counter()
        made = await self._engine.generate(request)
        self.calls.append(
            Call(
                start=start,
                end=time.perf_counter(),
                prefilled=made.prompt_tokens - made.cached_tokens,
                decoded=made.completion_tokens,
            )
        )
        return made

    async def reset_prefix_cache(self) -> None:
        await self._engine.reset_prefix_cache()

    async def close(self) -> None:
        await self._engine.close()


def check(*, seeds: int) -> dict[str, Any]:
    """Measure, simulate, print and return both."""
    with tempfile.TemporaryDirectory() as folder:
        fitted, checked = asyncio.run(_real(Path(folder)))
    calls = [each[1] for each in fitted]
    rates = fit(calls)
    debates = [debate for each in fitted for debate in each[0]]
    p = measured(debates, rates=rates)
    runs = [simulate(p, OURS, engines=1, seed=seed) for seed in range(seeds)]
    real_debates, real_calls = checked
    wall = max(call.end for call in real_calls) - min(call.start for call in real_calls)
    real = {
        "wall_s": wall,
        "running": sum(call.end - call.start for call in real_calls) / wall,
        "generations": float(len(real_calls)),
        "decoded": float(sum(call.decoded for call in real_calls)),
        "prefilled": float(sum(call.prefilled for call in real_calls)),
    }
    simulated = {
        "wall_s": spread([run["wall_hours"] * 3600 for run in runs]),
        **{name: spread([run[name] for run in runs]) for name in ("running", "generations", "decoded", "prefilled")},
    }
    print(
        f"{len(real_debates)} questions of the shipped teacher in shards of {SHARD}, {SLOTS[-1]} slots, {seeds} seeds"
    )
    print(
        f"measured before, on {len(debates)} others: step {p.step_s * 1e3:.2f} ms, {p.sequence_s * 1e6:.0f} us a "
        f"sequence, {p.prefill_s * 1e6:.1f} us a prefilled token; trace {p.trace:.0f} tokens, sigma "
        f"{p.sigma_question:.2f} between and {p.sigma_trace:.2f} within questions; agreement "
        + ", ".join(f"{chance:.0%}" for chance in p.agree)
    )
    print(f"{'':14}{'simulated':>32}{'real':>12}{'real / simulated':>18}")
    for name, figure in simulated.items():
        cell = f"{figure['median']:,.5g} [{figure['low']:,.5g}, {figure['high']:,.5g}]"
        print(f"{name:14}{cell:>32}{real[name]:12,.5g}{real[name] / figure['median']:18.2f}")
    return {"parameters": asdict(p), "simulated": simulated, "real": real}


async def _real(home: Path) -> tuple[list[tuple[list[Debate], list[Call]]], tuple[list[Debate], list[Call]]]:
    from agentark_core.engines.vllm_engine import VllmEngine

    config = EngineConfig(max_num_seqs=SLOTS[-1])
    engine = VllmEngine(model_files.resolve(TEACHER), model=TEACHER, engine=config)
    try:
        asked = list(problems.load(ProblemsConfig(split="distil", limit=sum(FITTED) + CHECKED), seed=0).problems)
        await _debate(home, "warm", asked[: FITTED[0]], engine=engine, slots=SLOTS[-1])
        fitted = []
        for slots, count in zip(SLOTS, FITTED, strict=True):
            mine, asked = asked[:count], asked[count:]
            fitted.append(await _debate(home, f"fit-{slots}", mine, engine=engine, slots=slots))
        return fitted, await _debate(home, "check", asked, engine=engine, slots=SLOTS[-1])
    finally:
        await engine.close()


async def _debate(
    home: Path, name: str, asked: Sequence[Problem], *, engine: Any, slots: int
) -> tuple[list[Debate], list[Call]]:
    """Shards of one run through the real shard code, two at a time."""
    problem_store = Store(home, stage="problems", fingerprint=name, config={})
    Store(home, stage="debates", fingerprint=name, config={"problems": name})
    watched = Watched(engine)
    dispatcher = Dispatcher(watched, slots=slots, stall_timeout_s=120, die=lambda reason: os._exit(1))
    places = asyncio.Semaphore(2)

    async def shard(number: int) -> None:
        part, label = tuple(asked[number * SHARD : (number + 1) * SHARD]), f"{number:05d}"
        with problem_store.lease(label, timeout_s=60) as lease:
            problem_store.commit(label, records.problems_to_table(part), lease=lease, config_hash="")
        job = ShardJob(
            home=home,
            fingerprint=name,
            shard=label,
            problems=part,
            plan=Plan(config=HOW, wording="arkling", base_seed=0),
            dataset_revision="",
            teacher_revision="",
            prompt_hash=prompts.prompt_hash(),
            config_hash="",
            lease_timeout_s=60,
        )
        async with places:
            await run_shard(job, dispatcher=dispatcher, caps=Caps())

    await asyncio.gather(*(shard(number) for number in range(math.ceil(len(asked) / SHARD))))
    return list(read_debates(home, fingerprint=name)), watched.calls


def fit(runs: Sequence[Sequence[Call]]) -> dict[str, float]:
    """Rates by least squares over windows: dt = steps * step_s + decoded * sequence_s + prefilled * prefill_s.

    A request's decoded tokens are spread evenly over its time, its prefill is put at its start. steps = decoded tokens
    over the sequences that run.
    """
    import numpy as np
    from scipy.optimize import nnls

    rows, seconds = [], []
    for calls in runs:
        first, last = min(call.start for call in calls), max(call.end for call in calls)
        edges = np.arange(first, last, WINDOW_S)
        for low in edges[:-1]:
            high = low + WINDOW_S
            decoded = prefilled = area = 0.0
            for call in calls:
                inside = min(high, call.end) - max(low, call.start)
                if inside > 0:
                    decoded += call.decoded * inside / (call.end - call.start)
                    area += inside
                prefilled += call.prefilled if low <= call.start < high else 0
            rows.append([decoded / (area / WINDOW_S) if area else 0.0, decoded, prefilled])
            seconds.append(WINDOW_S)
    (step_s, sequence_s, prefill_s), _ = nnls(np.array(rows), np.array(seconds))
    return {"step_s": float(step_s), "sequence_s": float(sequence_s), "prefill_s": float(prefill_s)}


def measured(debates: Sequence[Debate], *, rates: dict[str, float]) -> Parameters:
    """Lengths, spread and agreement of debates, with the rates, as parameters of the simulation."""
    traces = [[turn.completion_tokens for turn in debate.turns] for debate in debates]
    logs = [[math.log(length) for length in each] for each in traces]
    within = fmean(variance(each) for each in logs)
    between = max(0.0, variance([fmean(each) for each in logs]) - fmean(within / len(each) for each in logs))
    sizes = measured_sizes(debates, debate=HOW, wording=TEACHER.prompts)
    agree = []
    for number in range(1, HOW.num_rounds + 1):
        votes = [[t for t in debate.turns if t.role == "agent" and t.round == number] for debate in debates]
        held = [turns for turns in votes if turns]
        groups = [answers.group([turn.answer for turn in turns], task=turns_task(debates)) for turns in held]
        agree.append(fmean(None not in each and len(set(each)) == 1 for each in groups))
    return replace(
        Parameters(),
        questions=CHECKED,
        num_agents=HOW.num_agents,
        num_rounds=HOW.num_rounds,
        question=sizes.question,
        suffix=sizes.suffix,
        heading=sizes.shown - sizes.trace,
        trace=sizes.trace,
        sigma_question=math.sqrt(between),
        sigma_trace=math.sqrt(within),
        max_tokens=HOW.sampling.max_tokens,
        agree=tuple(agree),
        shard_size=SHARD,
        block=32,
        slots=SLOTS[-1],
        kv_tokens=math.inf,
        context_s=0.0,
        **rates,
    )


def turns_task(debates: Sequence[Debate]) -> str:
    """The verifier's task of all these questions."""
    (task,) = {debate.problem.task for debate in debates}
    return task
