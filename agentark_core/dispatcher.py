"""Everything between one engine and the runs that share it: seats, caps, counters, the watchdog, and poison.

A prompt that was in flight when its engine died is a suspect. Suspects go one at a time (beside the others), so that at
a second death exactly one prompt has been in flight twice; that one is never sent again (F05). Deaths are recorded in
`<run>/engine_deaths.jsonl` by the dying process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from agentark_core import usage
from agentark_core.admission import Admission, Seat
from agentark_core.engines.base import Engine, EngineView, Request
from agentark_core.errors import AgentArkError, EngineDied, Stopped
from agentark_core.types import Generation

log = logging.getLogger(__name__)

Key = tuple[str, int, int]

DEATHS_TO_POISON = 2
TICK_S = 1.0
LATE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Hard limits of one debate run over all its starts (0: none), shared out over the engines of a pool.

    pool names the engines that were started together, engine one of them: a restarted engine goes on with its share.
    """

    max_tokens: int = 0
    max_engine_seconds: float = 0.0
    num_engines: int = 1
    pool: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    engine: int = 0

    def shares(self, root: Path) -> tuple[int | None, float | None]:
        """(tokens, engine seconds) that this engine may still spend on the run whose folder is root; None: no cap."""
        total, of_pool = usage.spent(root), usage.spent(root, of=f"{self.pool}-")
        own = usage.spent(root, of=f"{self.pool}-{self.engine}-")
        tokens = max(0, self.max_tokens - total[0] + of_pool[0]) // self.num_engines - own[0]
        seconds = max(0.0, self.max_engine_seconds - total[1] + of_pool[1]) / self.num_engines - own[1]
        return tokens if self.max_tokens else None, seconds if self.max_engine_seconds else None


class Run:
    """One debate run on this engine: its counters, its caps, and what earlier engine deaths left."""

    def __init__(self, root: Path, caps: Caps) -> None:
        self.root = root
        self.tokens_left, self.seconds_left = caps.shares(root)
        self.usage = usage.Usage(root, owner=f"{caps.pool}-{caps.engine}-")
        self._reservations = 0
        self._given_back = asyncio.Event()
        self.in_flight: set[Key] = set()
        self.deaths = _deaths(root)

    async def reserve(self, tokens: int) -> None:
        """Take all tokens that a request may use off the cap, so that the cap is never exceeded.

        Near the cap a request waits for what those in flight give back. Raises Stopped once nothing is in flight.
        """
        while True:
            if self.seconds_left is not None and self.usage.engine_seconds >= self.seconds_left:
                raise self._spent("engine.max_engine_hours")
            if self.tokens_left is None or tokens <= self.tokens_left:
                break
            if not self._reservations:
                raise self._spent("engine.max_tokens_total")
            self._given_back.clear()
            await self._given_back.wait()
        self._reservations += 1
        if self.tokens_left is not None:
            self.tokens_left -= tokens

    def give_back(self, tokens: int) -> None:
        """End a reservation and return what the request did not use."""
        self._reservations -= 1
        if self.tokens_left is not None:
            self.tokens_left += tokens
        self._given_back.set()

    def _spent(self, cap: str) -> Stopped:
        tokens, seconds = usage.spent(self.root)
        return Stopped(
            f"{self.root.name}: the cap {cap} is reached after {tokens:,} tokens and {seconds / 3600:.2f} engine "
            "hours; what is finished is kept. Raise the cap and start the same run again to go on"
        )


class Dispatcher:
    """One engine and everybody who uses it. `die` ends the process; it is called once the engine is gone."""

    def __init__(self, engine: Engine, *, slots: int, stall_timeout_s: float, die: Callable[[str], None]) -> None:
        self.engine = engine
        self.admission = Admission(slots)
        self._stall_timeout_s = stall_timeout_s
        self._die = die
        self._runs: dict[Path, Run] = {}
        self.alone = asyncio.Lock()  # held by the one suspect in flight
        self.finished = 0
        self._stop = asyncio.Event()

    def run(self, root: Path, caps: Caps) -> Run:
        """The run whose ledger folder is root, made when it is first asked for."""
        if root not in self._runs:
            self._runs[root] = Run(root, caps)
        return self._runs[root]

    @asynccontextmanager
    async def seat(self, run: Run, *, width: int) -> AsyncIterator[SeatedEngine]:
        """The engine as one admitted question sees it."""
        async with self.admission.seat(width) as seat:
            yield SeatedEngine(self, run, seat)

    def stop(self, reason: str) -> None:
        """End in order: nothing new begins, requests in the engine may finish."""
        self.admission.stop(Stopped(reason))
        self._stop.set()

    async def stopped(self) -> None:
        """Wait for `stop`, then raise its Stopped."""
        await self._stop.wait()
        self.admission.check()

    async def watch(self) -> None:
        """Once a second: write the usage files, and see whether the engine still makes tokens. Runs for ever."""
        progress, progress_at, before = (-1, -1), time.monotonic(), time.monotonic()
        busy, total, tokens = 0.0, 0.0, self.engine.tokens_made
        while True:
            await asyncio.sleep(TICK_S)
            now, made = time.monotonic(), self.engine.tokens_made
            running = sum(run.usage.running for run in self._runs.values())
            admission = self.admission
            admission.settle()
            # Tokens of the part of this second in which questions waited for a seat.
            full = (made - tokens) * (admission.slot_seconds - total) / (admission.slots * (now - before))
            for run in list(self._runs.values()):  # a shard of another run may come while a file is written
                share = run.usage.running / running if running else 0.0
                run.usage.engine_seconds += share * (now - before)
                run.usage.busy_slot_seconds += share * (admission.busy_slot_seconds - busy)
                run.usage.slot_seconds += share * (admission.slot_seconds - total)
                run.usage.full_tokens += share * full
                run.usage.slots = admission.slots
                if share:
                    await self._save(run)
            if now - before > LATE_S:
                progress_at = now  # this process did not look, so it cannot say that the engine stood still
            before, busy, total, tokens = now, admission.busy_slot_seconds, admission.slot_seconds, made
            latest = (made, self.finished)
            if latest != progress or not running or latest[0] < 0:
                progress, progress_at = latest, now
            elif now - progress_at > self._stall_timeout_s:
                self.engine_died(
                    f"no token for {now - progress_at:.0f} s with {running} requests running; "
                    "engine.stall_timeout_s is the limit"
                )

    async def _save(self, run: Run) -> None:
        try:
            await asyncio.to_thread(run.usage.save, run.usage.snapshot())
        except (OSError, AgentArkError) as error:  # counters can wait for the next second; the watch must go on
            log.warning("%s: usage not written: %s", run.root.name, error)

    def engine_died(self, reason: str) -> None:
        """Record what was in flight, then end this process: only a new one gets a new engine (F04)."""
        for run in self._runs.values():
            if run.in_flight:
                record = {"reason": reason, "in_flight": sorted(run.in_flight)}
                with (run.root / "engine_deaths.jsonl").open("ab") as file:
                    file.write(json.dumps(record).encode() + b"\n")
            run.usage.save(run.usage.snapshot())
        self._die(reason)


class SeatedEngine(EngineView):
    """What a Discussion uses (discussion.Generates): the engine behind a seat, counted against its run's caps."""

    def __init__(self, dispatcher: Dispatcher, run: Run, seat: Seat) -> None:
        super().__init__(dispatcher.engine)
        self._dispatcher = dispatcher
        self._run = run
        self._seat = seat

    async def generate(self, request: Request) -> Generation:
        """Complete one prompt. Raises Stopped at a cap or after Dispatcher.stop."""
        dispatcher, run = self._dispatcher, self._run
        key = (request.work_id, request.round, request.agent)
        if run.deaths[key] >= DEATHS_TO_POISON:
            return Generation(
                text="", prompt_tokens=0, cached_tokens=0, completion_tokens=0, finish_reason="engine_poison"
            )
        async with dispatcher.alone if run.deaths[key] else nullcontext():
            reserved, used = request.prompt.length + request.sampling.max_tokens, 0
            await run.reserve(reserved)
            try:
                generation = await self._send(request, key)
                used = generation.prompt_tokens + generation.completion_tokens
            finally:
                run.give_back(reserved - used)
        run.usage.add_generation(generation, round=request.round)
        return generation

    async def _send(self, request: Request, key: Key) -> Generation:
        run = self._run
        self._seat.begin()
        run.usage.running += 1
        run.in_flight.add(key)
        try:
            return await self._engine.generate(replace(request, priority=self._seat.number))
        except EngineDied as error:
            self._dispatcher.engine_died(str(error))
            raise
        finally:
            run.in_flight.discard(key)
            run.usage.running -= 1
            self._dispatcher.finished += 1
            self._seat.end()


def _deaths(root: Path) -> Counter[Key]:
    """How often each key was in flight when an engine of this run died."""
    try:
        lines = (root / "engine_deaths.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return Counter()
    deaths: Counter[Key] = Counter()
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # the process was killed while it wrote
            continue
        deaths.update((work_id, round, agent) for work_id, round, agent in record["in_flight"])
    return deaths
