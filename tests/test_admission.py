"""Seats: full batch, in order, bounded, and all waiting questions hear of a stop."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentark_core.admission import Admission
from agentark_core.errors import Stopped


async def discuss(admission: Admission, *, width: int, rounds: int, rng: random.Random, order: list[int]) -> None:
    async with admission.seat(width) as seat:
        order.append(seat.number)
        for _ in range(rounds):
            requests = [request(seat, seconds=rng.random() * 0.004) for _ in range(width)]
            await asyncio.gather(*requests)


async def request(seat, *, seconds: float) -> None:  # type: ignore[no-untyped-def]
    seat.begin()
    await asyncio.sleep(seconds)
    seat.end()


@settings(max_examples=25)
@given(
    slots=st.integers(1, 12),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=25),
    rounds=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_everybody_is_served_in_order_and_the_engine_never_holds_more_than_its_seats(
    slots: int, widths: list[int], rounds: int, seed: int
) -> None:
    async def main() -> None:
        admission, order = Admission(slots), []
        peak = 0

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, admission.running)
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        rng = random.Random(seed)
        questions = [discuss(admission, width=width, rounds=rounds, rng=rng, order=order) for width in widths]
        await asyncio.wait_for(asyncio.gather(*questions), timeout=20)
        watcher.cancel()
        assert order == list(range(1, len(widths) + 1))
        # A seated question may widen again in its next round, but there is at most one for each slot.
        assert peak <= slots * max(widths)
        assert admission._between_rounds == 0
        assert admission.running == 0 and admission._promised == 0
        assert 0 <= admission.busy_slot_seconds <= admission.slot_seconds * (1 + 1e-9)

    asyncio.run(main())


def test_the_batch_is_full_while_questions_wait() -> None:
    async def main() -> Admission:
        admission, rng = Admission(20), random.Random(0)
        await asyncio.gather(*(discuss(admission, width=5, rounds=3, rng=rng, order=[]) for _ in range(150)))
        return admission

    admission = asyncio.run(main())
    assert admission.busy_slot_seconds / admission.slot_seconds >= 0.85, "a barrier leaves about 0.3"


def test_a_question_is_admitted_only_for_free_slots() -> None:
    async def main() -> None:
        admission = Admission(4)
        async with admission.seat(3):
            async with admission.seat(3) as other:
                waiting = asyncio.create_task(admission.seat(1).__aenter__())
                await asyncio.sleep(0.01)
                assert not waiting.done(), "six requests are promised to four slots"
                for _ in range(3):
                    other.begin()
                for _ in range(3):
                    other.end()
                await asyncio.sleep(0.01)
                assert not waiting.done(), "between two rounds a question counts as one request"
            await asyncio.wait_for(waiting, timeout=1)

    asyncio.run(main())


def test_a_promise_that_is_not_kept_is_given_back() -> None:
    async def main() -> None:
        admission = Admission(5)
        async with admission.seat(5) as resumed:
            waiting = asyncio.create_task(admission.seat(1).__aenter__())
            resumed.begin()  # the other four turns were journaled before
            await asyncio.sleep(0.01)
            assert not waiting.done()
            resumed.end()
            await asyncio.wait_for(waiting, timeout=1)

    asyncio.run(main())


def test_room_promised_to_a_question_that_begins_with_one_speaker_goes_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentark_core.admission.PROMISE_S", 0.01)

    async def main() -> None:
        admission, full = Admission(10), asyncio.Event()

        async def one() -> None:
            async with admission.seat(5) as seat:
                seat.begin()
                if admission.running == 10:
                    full.set()
                await full.wait()
                seat.end()

        await asyncio.wait_for(asyncio.gather(*(one() for _ in range(20))), timeout=60)
        assert admission._promised == admission._between_rounds == admission.running == 0

    asyncio.run(main())


def test_a_cancelled_question_leaves_the_queue_and_gives_its_room_back() -> None:
    async def main() -> None:
        admission = Admission(1)
        async with admission.seat(1):
            first, second = (asyncio.create_task(admission.seat(1).__aenter__()) for _ in range(2))
            await asyncio.sleep(0.01)
            first.cancel()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(second, timeout=1)

    asyncio.run(main())


def test_a_stop_wakes_all_who_wait_and_refuses_new_requests() -> None:
    async def main() -> None:
        admission = Admission(1)
        async with admission.seat(1) as seat:
            waiting = [asyncio.create_task(admission.seat(1).__aenter__()) for _ in range(3)]
            await asyncio.sleep(0.01)
            seat.begin()
            admission.stop(Stopped("asked"))
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, Stopped)
            seat.end()  # what is in the engine may finish
            with pytest.raises(Stopped):
                seat.begin()
            with pytest.raises(Stopped):
                await admission.seat(1).__aenter__()

    asyncio.run(main())
