"""`chaos_host.py HOME SEED`: an engine host as light as can be, to be killed at any moment. Only the engine is scripted
(random delays, every generation noted in HOME/generated.txt); shards, journal, lease and commit are the real ones."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from test_dispatcher import Engine, die, job

from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.engines.base import Request
from agentark_core.shards import run_shard
from agentark_core.types import Generation

SHARDS, QUESTIONS, SLOTS = 6, 30, 12


class Noted(Engine):
    def __init__(self, home: Path, seed: int) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.file = os.open(home / "generated.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def generate(self, request: Request) -> Generation:
        os.write(self.file, f"{request.request_id}\n".encode())
        await asyncio.sleep(self.rng.expovariate(1 / 0.02))
        return await super().generate(request)


async def main(home: Path, seed: int) -> None:
    dispatcher = Dispatcher(Noted(home, seed), slots=SLOTS, stall_timeout_s=60, die=die)
    watch = asyncio.create_task(dispatcher.watch())
    two = asyncio.Semaphore(2)

    async def one(number: int) -> None:
        async with two:
            await run_shard(job(home, questions=QUESTIONS, shard=f"{number:05d}"), dispatcher=dispatcher, caps=Caps())

    await asyncio.gather(*(one(number) for number in range(SHARDS)))
    watch.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
