"""Shared by the ledger's tests: small stores and turns, child processes that die at an exact system call."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from agentark_core.errors import AlreadyRunning, StaleEpoch, StorageFull
from agentark_core.ledger import Store, turns_to_table
from agentark_core.types import Turn

PATIENCE_S = 60.0
"""Lease timeout of tests in which nobody may have to wait for one."""


def make_store(home: Path, *, run_id: str = "", **config: object) -> Store:
    return Store(home, stage="traces", fingerprint="0123456789abcdef", config=config, run_id=run_id)


def make_turn(text: str = "2 + 2 = 4", *, work: str = "w0", round: int = 1, agent: int = 1) -> Turn:
    return Turn(
        work_id=work,
        problem_id="p-0",
        round=round,
        agent=agent,
        seed=2**31 - 1,
        text=text,
        answer="4",
        prompt_tokens=9,
        cached_tokens=0,
        completion_tokens=7,
        finish_reason="stop",
        status="ok",
    )


def turn_table(rows: int = 3, *, work: str = "w0") -> pa.Table:
    return turns_to_table([make_turn(f"{work} {n} " + "x" * 50, work=work, agent=n + 1) for n in range(rows)])


def commit(store: Store, shard: str, table: pa.Table | None = None, **meta: object) -> None:
    with store.lease(shard, timeout_s=5) as lease:
        store.commit(shard, table or turn_table(work=shard), lease=lease, config_hash="c", meta=meta)


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def flip_bit(path: Path, *, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def in_child(body: Callable[[], object]) -> int:
    """Fork a process that runs body; returns its id. Exits 16 AlreadyRunning, 17 StaleEpoch, 3 StorageFull, 1 other."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
        os._exit(0)
    except AlreadyRunning:
        os._exit(16)
    except StaleEpoch:
        os._exit(17)
    except StorageFull:
        os._exit(3)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def wait(pid: int) -> int:
    """Exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_call(number: int, strike: Callable[[], object], *, setter: Callable[[str, object], object]) -> list[str]:
    """Wrap the file-changing calls of os; strike before the number-th (from 0). Returns the growing list of calls."""
    calls: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == number + 1:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                strike()
            return real(*args, **kwargs)

        setter(name, call)

    for name in ("open", "write", "fsync", "rename", "link", "unlink", "mkdir", "ftruncate"):
        wrap(name)
    return calls


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def until(ready: Callable[[], bool], *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
