"""The paper's 342k questions on 8 and 64 engines, simulated: the authors' algorithm against ours.

    python benchmarks/scale_simulation.py                # everything, about 6 min on one core
    python benchmarks/scale_simulation.py --one-in 8     # one question in eight on one engine in eight
    python benchmarks/scale_simulation.py --check        # rates of the shipped teacher, then simulated against real

An engine decodes one token of every running sequence in a step. A step takes longer with more sequences and with more
context to read; a prefill holds all of them up. Sequences start in the order of their questions while there are slots
and key-value memory for their whole length. So between two ends of sequences everything is linear, and only ends are
events: a heap per engine, no clock ticks. (simpy would add a process switch to each of 5.5M events and replace nothing
but the heap.)

Every default below is an assumption, named where it stands; nothing here was measured on a GPU.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import time
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

H200_BYTES_PER_S = 0.7 * 4.8e12  # data sheet; 70 % of it is a guess
H200_FLOPS = 0.5 * 790e12  # bf16; half of the peak in prefills is a guess
PARAMETERS = 32.8e9  # Qwen3-32B in bf16
KV_BYTES = 64 * 8 * 128 * 2 * 2  # a token: layers, key-value heads, head size, keys and values, bf16


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is simulated. Lengths in tokens, times in seconds.

    Sizes are those of design/method.md section 1. No published figure says how often debates agree: agree is a guess
    (the chance of unanimity in rounds 1, 2 and 3, of those that get there). sigma_*: log-normal spread of trace lengths
    between questions and between traces of a question. prefill_s against step_s, that is the price of a prefilled token
    against a decoded one, is a guess to be replaced by a measurement.
    """

    questions: int = 342_000
    num_agents: int = 5
    num_rounds: int = 3
    question: float = 150
    suffix: float = 40
    heading: float = 0  # around each shown trace
    trace: float = 1000
    sigma_question: float = 0.4
    sigma_trace: float = 0.3
    max_tokens: float = 4096
    agree: tuple[float, ...] = (0.5, 0.4, 0.3)
    shard_size: int = 256
    block: int = 16
    slots: int = 256
    kv_tokens: float = 60 * 2**30 / KV_BYTES  # what 0.9 of 141 GB leaves beside the weights
    step_s: float = 2 * PARAMETERS / H200_BYTES_PER_S
    sequence_s: float = 20e-6
    context_s: float = KV_BYTES / H200_BYTES_PER_S
    prefill_s: float = 2 * PARAMETERS / H200_FLOPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """layout `authors`: every agent's chat grows (bill.py). barrier: all questions finish a round before the next
    begins, so no cache block of an earlier round is left. stop: a unanimous round is the last. summariser on split
    questions only, or on all."""

    name: str
    layout: Literal["authors", "board"]
    barrier: bool
    stop: bool
    summariser: Literal["always", "when_split", "never"]


AUTHORS = Algorithm(name="authors", layout="authors", barrier=True, stop=False, summariser="always")
BOARD = replace(AUTHORS, name="+ board", layout="board")
FLOWING = replace(BOARD, name="+ no barrier", barrier=False)
OURS = replace(FLOWING, name="ours: + stop, split summariser", stop=True, summariser="when_split")


class Question:
    """One question: its lengths and votes are drawn once, alike for every algorithm."""

    __slots__ = ("agrees", "draws", "left", "number", "round", "seen", "shared", "shard", "started", "totals")

    def __init__(self, number: int, *, p: Parameters, seed: int, shard: int = 0) -> None:
        rng = random.Random(f"{seed} {number}")
        # The mean of exp(N(mu, s^2)) is exp(mu + s^2 / 2).
        center = math.log(p.trace) - (p.sigma_question**2 + p.sigma_trace**2) / 2 + rng.gauss(0, p.sigma_question)
        count = p.num_agents * p.num_rounds + 1
        self.draws = [min(p.max_tokens, math.exp(center + rng.gauss(0, p.sigma_trace))) for _ in range(count)]
        self.agrees = [rng.random() < chance for chance in p.agree]
        self.number, self.shard = number, shard
        self.round, self.left, self.started = 0, 0, 0
        self.seen = 0.0  # tokens of all earlier rounds' traces
        self.totals = 0.0  # tokens of the last round's traces
        self.shared = 0.0  # key-value tokens that the round's sequences share

    def next_round(self, p: Parameters, a: Algorithm) -> list[float]:
        """Lengths of the next sequences: a round, the summariser's, or none if the debate is over."""
        if self.round > p.num_rounds:
            return []
        agreed = self.round > 0 and self.agrees[self.round - 1]
        over = self.round == p.num_rounds or (a.stop and agreed)
        if over and (a.summariser == "never" or (a.summariser == "when_split" and agreed)):
            return []
        start = self.round * p.num_agents
        lengths = self.draws[-1:] if over else self.draws[start : start + p.num_agents]
        self.round = p.num_rounds + 1 if over else self.round + 1
        self.left, self.started = len(lengths), 0
        self.seen += self.totals
        return lengths


class Engine:
    """One engine and the questions on it. `clock` is its time; areas are integrals over it."""

    def __init__(self, p: Parameters, a: Algorithm) -> None:
        self.p, self.a = p, a
        self.clock = self.served = self.context = self.kv = 0.0
        self.running: list[tuple[float, int, float, float, Question]] = []  # end in served tokens, tie, context, kv
        self.waiting: list[tuple[int, int, float, Question]] = []  # seat, tie, length
        self.ties = self.seats = self.generations = 0
        self.backlog = 0  # questions of this engine that have not begun
        self.decoded = self.prefilled = self.running_area = self.in_flight_area = self.tail_s = 0.0

    def submit(self, question: Question, lengths: list[float], *, seat: int) -> None:
        """Queue the sequences of a round."""
        for length in lengths:
            self.ties += 1
            heapq.heappush(self.waiting, (seat, self.ties, length, question))

    def admit(self) -> None:
        """Start what waits while a slot and memory for its whole length are free; each start is a prefill."""
        p, waiting = self.p, self.waiting
        while waiting and len(self.running) < p.slots:
            _, tie, length, question = waiting[0]
            shared, own, cached = self.prompt(question)
            need = own + length + (0 if question.started else shared)
            if self.kv + need > p.kv_tokens and self.running:
                break
            heapq.heappop(waiting)
            prefill = own + (0 if question.started else shared - cached)
            question.started += 1
            question.shared = shared
            self.kv += need
            self.spend(prefill * p.prefill_s)
            self.prefilled += prefill
            self.decoded += length
            context = shared + own + length / 2
            self.context += context
            heapq.heappush(self.running, (self.served + length, tie, context, own + length, question))

    def prompt(self, question: Question) -> tuple[float, float, float]:
        """(tokens shared by the sequences of the round, tokens of each one's own, cached part of the shared)."""
        p, a, summary = self.p, self.a, question.round > self.p.num_rounds
        cached = 0.0
        if a.layout == "board" and not a.barrier and question.round > 1:
            cached = p.question - p.question % p.block
        if question.round == 1:
            whole, shared = p.question, p.question
        elif a.layout == "board" or summary:
            shared = p.question + question.totals + p.num_agents * p.heading
            whole = shared + p.suffix
        else:
            # Every agent's own chat: the question k times, all traces of all earlier rounds (those of the last are in
            # totals, those before it in seen).
            whole = question.round * p.question + question.seen + (question.round - 1) * p.num_agents * p.heading
            shared = p.question
        shared -= shared % p.block
        return shared, whole - shared, cached

    def end_one(self) -> Question | None:
        """Run until the next sequence ends; its question if that was the last of its round."""
        end, _, context, kv, question = heapq.heappop(self.running)
        p, running = self.p, len(self.running) + 1
        self.spend((end - self.served) * (p.step_s + p.sequence_s * running + p.context_s * self.context), running)
        self.served = end
        self.context -= context
        self.kv -= kv
        self.generations += 1
        question.left -= 1
        if question.left:
            return None
        self.kv -= question.shared
        return question

    def spend(self, seconds: float, running: int | None = None) -> None:
        """Let time pass."""
        running = len(self.running) if running is None else running
        self.clock += seconds
        self.running_area += seconds * running
        self.in_flight_area += seconds * (running + len(self.waiting))
        if not self.waiting and not self.backlog:
            self.tail_s += seconds


def simulate(p: Parameters, a: Algorithm, *, engines: int, seed: int) -> dict[str, float]:
    """One run. Hours are engine and wall hours; tail is the share of paid engine time in which nothing waited."""
    started = time.perf_counter()
    fleet = [Engine(p, a) for _ in range(engines)]
    (_in_whole_set_rounds if a.barrier else _flowing)(p, a, fleet, seed)
    wall = max(engine.clock for engine in fleet)
    paid = wall * engines
    idle = sum(wall - engine.clock for engine in fleet)
    return {
        "engine_hours": paid / 3600,
        "wall_hours": wall / 3600,
        "running": sum(engine.running_area for engine in fleet) / paid,
        "in_flight": sum(engine.in_flight_area for engine in fleet) / paid,
        "tail": (sum(engine.tail_s for engine in fleet) + idle) / paid,
        "generations": sum(engine.generations for engine in fleet),
        "prefilled": sum(engine.prefilled for engine in fleet),
        "decoded": sum(engine.decoded for engine in fleet),
        "simulated_in_s": time.perf_counter() - started,
    }


def _in_whole_set_rounds(p: Parameters, a: Algorithm, fleet: list[Engine], seed: int) -> None:
    """Every engine has its share of the questions; all wait until the round is over everywhere."""
    share = [
        [Question(number, p=p, seed=seed) for number in range(first, p.questions, len(fleet))]
        for first in range(len(fleet))
    ]
    while any(share):
        for engine, questions in zip(fleet, share, strict=True):
            left = []
            for question in questions:
                before = question.draws[(question.round - 1) * p.num_agents : question.round * p.num_agents]
                question.totals = sum(before) if question.round else 0.0
                if lengths := question.next_round(p, a):
                    engine.submit(question, lengths, seat=question.number)
                    left.append(question)
            questions[:] = left
            engine.admit()
            while engine.running:
                engine.end_one()
                engine.admit()
        barrier = max(engine.clock for engine in fleet)
        for engine in fleet:
            engine.spend(barrier - engine.clock)


def _flowing(p: Parameters, a: Algorithm, fleet: list[Engine], seed: int) -> None:
    """Engines take shards as they finish them, two at a time; a question goes on as soon as its own round is over."""
    shards = iter(range(math.ceil(p.questions / p.shard_size)))

    def take() -> list[Question]:
        shard = next(shards, None)
        if shard is None:
            return []
        numbers = range(shard * p.shard_size, min((shard + 1) * p.shard_size, p.questions))
        return [Question(number, p=p, seed=seed, shard=shard) for number in numbers]

    # Engines meet only where they take shards, so each runs alone up to its next finished shard.
    runs = [_debate(engine, p, a) for engine in fleet]
    ready: list[tuple[float, int]] = []
    for number, run in enumerate(runs):
        next(run)
        finished = run.send(take() + take())
        if finished is not None:
            heapq.heappush(ready, (finished, number))
    while ready:
        _, number = heapq.heappop(ready)
        finished = runs[number].send(take())
        if finished is not None:
            heapq.heappush(ready, (finished, number))


def _debate(engine: Engine, p: Parameters, a: Algorithm) -> Generator[float | None, list[Question], None]:
    """Coroutine: takes questions, gives back the time at which a shard is finished, None when it has none left."""
    admitted: deque[Question] = deque((yield None))
    open_in: dict[int, int] = {}

    def count(questions: deque[Question]) -> None:
        for question in questions:
            open_in[question.shard] = open_in.get(question.shard, 0) + 1

    count(admitted)
    while True:
        # A question is admitted while fewer sequences than slots are in the engine (agentark_core/admission.py).
        while admitted and len(engine.running) + len(engine.waiting) < p.slots:
            question = admitted.popleft()
            engine.seats += 1
            question.number = engine.seats
            engine.submit(question, question.next_round(p, a), seat=question.number)
        engine.backlog = len(admitted)
        engine.admit()
        if not engine.running:
            yield None
            return
        done = engine.end_one()
        if done is None:
            continue
        question = done
        if question.round <= p.num_rounds:
            question.totals = sum(question.draws[(question.round - 1) * p.num_agents : question.round * p.num_agents])
        if lengths := question.next_round(p, a):
            engine.submit(question, lengths, seat=question.number)
            continue
        open_in[question.shard] -= 1
        if not open_in[question.shard]:
            new = deque((yield engine.clock))
            count(new)
            admitted += new


# ---- tables


def barrier_occupancy(p: Parameters, *, sigma: float, seed: int) -> float:
    """Share of slots that are busy when one batch of questions fills them and every round has a barrier.

    method.md names 26-31 %. Steps cost the same however many sequences run, so time is the longest trace of a round.
    """
    batch = replace(
        p,
        questions=p.slots // p.num_agents,
        sigma_question=0.0,
        sigma_trace=sigma,
        max_tokens=math.inf,
        kv_tokens=math.inf,
        step_s=1.0,
        sequence_s=0.0,
        context_s=0.0,
        prefill_s=0.0,
    )
    return simulate(batch, replace(BOARD, summariser="never"), engines=1, seed=seed)["running"] / p.slots


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--one-in", type=int, default=1, help="simulate one in so many engines, and their questions")
    parser.add_argument("--steps", action="store_true", help="also the algorithms between the authors' and ours")
    parser.add_argument("--check", action="store_true", help="compare with a real run of the shipped teacher instead")
    parser.add_argument("--json", type=Path)
    for name, default in asdict(Parameters()).items():
        if not isinstance(default, tuple):
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = parser.parse_args()
    if arguments.check:
        import scale_check

        report = scale_check.check(seeds=arguments.seeds)
    else:
        chosen = {name: getattr(arguments, name) for name in asdict(Parameters()) if hasattr(arguments, name)}
        report = compare(Parameters(**chosen), arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def compare(p: Parameters, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both algorithms on every number of engines; medians and ranges over seeds, totals of the whole set."""
    algorithms = [AUTHORS, BOARD, FLOWING, OURS] if arguments.steps else [AUTHORS, OURS]
    n, k = p.num_agents, p.num_rounds
    print(f"{p.questions:,} questions, {n} agents, {k} rounds: at most {p.questions * (n * k + 1):,} generations;")
    print(f"{math.ceil(p.questions / p.shard_size):,} shards of {p.shard_size}. One engine in {arguments.one_in} is")
    print(f"simulated, {arguments.seeds} seeds: median [range]. Rates are assumptions; see Parameters.\n")
    print(f"{'':32}{'engines':>8}{'engine h':>24}{'wall h':>24}{'running':>9}{'tail':>7}{'prefill':>9}{'decode':>8}")
    rows = []
    for engines in arguments.engines:
        share = min(arguments.one_in, engines)
        sample = replace(p, questions=p.questions // share)
        for a in algorithms:
            runs = [simulate(sample, a, engines=engines // share, seed=seed) for seed in range(arguments.seeds)]
            scale = {name: share for name in ("engine_hours", "generations", "prefilled", "decoded")}
            row = {name: spread([run[name] * scale.get(name, 1) for run in runs]) for name in runs[0]}
            rows.append({"algorithm": a.name, "engines": engines, **row})
            print(
                f"{a.name:32}{engines:8}{_range(row['engine_hours']):>24}{_range(row['wall_hours']):>24}"
                f"{row['running']['median']:9.0f}{row['tail']['median']:7.1%}"
                f"{row['prefilled']['median'] / 1e9:8.2f}G{row['decoded']['median'] / 1e9:7.2f}G",
                flush=True,
            )
    print("\nslots busy in one batch with a barrier after each round (method.md: 26-31 %), by log-normal sigma:")
    barrier = {}
    for sigma in (0.3, 0.4, 0.5, 0.6, 0.7):
        barrier[str(sigma)] = spread([barrier_occupancy(p, sigma=sigma, seed=seed) for seed in range(20)])
        print(
            f"  sigma {sigma}: {barrier[str(sigma)]['median']:.0%} [{barrier[str(sigma)]['low']:.0%}, "
            f"{barrier[str(sigma)]['high']:.0%}] of {p.slots} (20 seeds)"
        )
    return {"parameters": asdict(p), "one_in": arguments.one_in, "rows": rows, "barrier": barrier}


def _range(figure: dict[str, float]) -> str:
    return f"{figure['median']:,.4g} [{figure['low']:,.4g}, {figure['high']:,.4g}]"


if __name__ == "__main__":
    main()
