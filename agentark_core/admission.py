"""Which questions are in an engine at a time: enough to keep its batch full, no more.

An admitted question holds a seat. Another question is admitted only while fewer requests than the engine's slots are in
it, where a question between two rounds counts as one. Seats are given in the order of asking, and the engine serves
requests by seat number. So started questions finish before new ones start (their cache blocks are still there), the
batch stays full, and memory holds at most one question a slot, whatever the size of the data set.

Room is promised for as many requests as a question may begin with. What it has not begun PROMISE_S later (a strategy
with one speaker first, a request that waits for its turn) is given back.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentark_core.errors import Stopped

PROMISE_S = 0.2


class Admission:
    """Seats of one engine that runs `slots` requests at once.

    Attributes: running (requests in the engine), busy_slot_seconds and slot_seconds (both integrated only while a
    question waits for a seat; their ratio is the occupancy of the batch while work remains).
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running = 0
        self.busy_slot_seconds = 0.0
        self.slot_seconds = 0.0
        self._promised = 0
        self._between_rounds = 0
        self._seats = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._changed_at = time.monotonic()
        self._stopped: Stopped | None = None

    @asynccontextmanager
    async def seat(self, width: int) -> AsyncIterator[Seat]:
        """Wait for a seat for a question that starts with `width` requests. Raises Stopped after `stop`."""
        self.check()
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((admitted, width))
        self._count()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self._count(promised=-width)
            raise
        self._seats += 1
        seat = Seat(self, number=self._seats, width=width)
        late = asyncio.get_running_loop().call_later(PROMISE_S, seat.give_back)
        try:
            yield seat
        finally:
            late.cancel()
            self._count(promised=-seat.promised, between_rounds=-seat.between_rounds)

    def stop(self, error: Stopped) -> None:
        """Admit nothing more and begin no request; requests in the engine may finish."""
        self._stopped = error
        while self._waiting:
            admitted, _ = self._waiting.popleft()
            if not admitted.done():
                admitted.set_exception(error)

    def check(self) -> None:
        """Raise Stopped after `stop`."""
        if self._stopped is not None:
            raise self._stopped

    def settle(self) -> None:
        """Bring the two integrals up to now."""
        self._count()

    def _count(self, *, running: int = 0, promised: int = 0, between_rounds: int = 0) -> None:
        now = time.monotonic()
        if self._waiting:
            self.slot_seconds += self.slots * (now - self._changed_at)
            self.busy_slot_seconds += min(self.running, self.slots) * (now - self._changed_at)
        self._changed_at = now
        self.running += running
        self._promised += promised
        self._between_rounds += between_rounds
        while self._waiting and self.running + self._promised + self._between_rounds < self.slots:
            admitted, width = self._waiting.popleft()
            if not admitted.done():
                # Promised here, not when the question runs on: the next one must not take the same room.
                self._promised += width
                admitted.set_result(None)


class Seat:
    """An admitted question. `number` is its place in the order of admission, the priority of its requests.

    promised: requests that it was admitted for and has not begun. between_rounds: 1 while it has no request, else 0.
    """

    def __init__(self, admission: Admission, *, number: int, width: int) -> None:
        self.number = number
        self.promised = width
        self.between_rounds = 0
        self._running = 0
        self._admission = admission

    def begin(self) -> None:
        """A request goes to the engine. Raises Stopped after `stop`."""
        self._admission.check()
        kept, woken = min(self.promised, 1), self.between_rounds
        self.promised -= kept
        self.between_rounds = 0
        self._running += 1
        self._admission._count(running=1, promised=-kept, between_rounds=-woken)

    def end(self) -> None:
        """A request came back. Promised requests that have not begun by now will not: their room is given back."""
        self._running -= 1
        self.give_back(ended=1)

    def give_back(self, *, ended: int = 0) -> None:
        """End the promise. Without a request in the engine, the question counts as one between two rounds."""
        unused, self.promised = self.promised, 0
        resting = int(self._running == 0) - self.between_rounds
        self.between_rounds += resting
        self._admission._count(running=-ended, promised=-unused, between_rounds=resting)
