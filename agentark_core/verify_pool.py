"""A pool of killable child processes that decide algebraic equality. One event loop, no threads, no pickle.

    with WorkerPool(workers=2, time_limit_s=2.0, memory_limit_bytes=2**30) as pool:
        pool.compare([("\\\\frac{1}{2}", "0.5"), ("1", "9^{9^{9}}")])  -> ["equal", "timeout"]

A child that passes its deadline is killed with SIGKILL and replaced; its siblings never notice. A child that dies by
another hand (the kernel's OOM killer, an operator) has its request tried once more in a fresh one.
"""

from __future__ import annotations

import json
import math
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from agentark_core.errors import EngineError

Outcome = Literal["equal", "different", "unparsed", "timeout", "memory"]
Reader = Literal["formula", "response"]
"""What the second text of a pair is: one LaTeX formula, or a whole response that Math-Verify itself searches."""

_WORKER = Path(__file__).with_name("verify_worker.py")
_START_LIMIT_S = 60.0
_MAX_FAILED_STARTS = 3
_MARGIN_S = 0.1
"""A request is killed this much before its limit, so that the verdict is out within the limit."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    deadline: float
    ready: bool = False
    job: int | None = None
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def reader(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, gold: str, answer: str, reader: Reader) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"gold": gold, "answer": answer, "reader": reader}).encode() + b"\n")
        self.process.stdin.flush()


class WorkerPool:
    """Children are started by the first `compare` and stay warm until `close`."""

    def __init__(self, *, workers: int, time_limit_s: float, memory_limit_bytes: int) -> None:
        self._size = max(1, workers)
        self._time_limit_s = time_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._spares = 0  # one once a child had to be killed: the next request does not wait for a start

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the living children."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """Kill all children."""
        for worker in list(self._workers):
            self._remove(worker)

    def compare(self, pairs: Sequence[tuple[str, str]], *, reader: Reader = "formula") -> list[Outcome]:
        """Outcome of each (gold formula, answer) pair, in order. Raises EngineError if no child starts."""
        outcomes: dict[int, Outcome] = {}
        waiting = deque(range(len(pairs)))
        deaths: dict[int, int] = {}
        while len(outcomes) < len(pairs):
            self._refill(len(pairs) - len(outcomes))
            busy = sum(worker.job is not None for worker in self._workers)
            for worker in [w for w in self._workers if w.ready and w.job is None][: self._size - busy]:
                if waiting:
                    self._assign(worker, waiting, pairs, reader)
            for worker in self._readable():
                reply, alive = self._receive(worker)
                job = worker.job
                if reply is not None and job is not None:
                    outcomes[job] = _outcome(reply)
                    worker.job = None
                elif reply is not None:
                    worker.ready, self._failed_starts = True, 0
                if not alive:
                    code = self._remove(worker)
                    if worker.job is not None:
                        deaths[worker.job] = deaths.get(worker.job, 0) + 1
                        if code == -signal.SIGXCPU:
                            outcomes[worker.job] = "timeout"
                        elif deaths[worker.job] > 1:
                            outcomes[worker.job] = "memory"
                        else:
                            waiting.appendleft(worker.job)
                    elif not worker.ready:
                        self._count_failed_start()
            for worker in [w for w in self._workers if time.monotonic() >= w.deadline]:
                self._remove(worker)
                if worker.job is not None:
                    outcomes[worker.job] = "timeout"
                    self._spares = 1
                    self._refill(1)
                else:
                    self._count_failed_start()
        return [outcomes[index] for index in range(len(pairs))]

    def _refill(self, wanted: int) -> None:
        while len(self._workers) < min(self._size, wanted) + self._spares:
            cpu_limit_s = math.ceil(self._time_limit_s)
            process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), str(self._memory_limit_bytes), str(cpu_limit_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            worker = _Worker(process=process, deadline=time.monotonic() + _START_LIMIT_S)
            self._workers.append(worker)
            self._selector.register(worker.reader, selectors.EVENT_READ, worker)

    def _assign(self, worker: _Worker, waiting: deque[int], pairs: Sequence[tuple[str, str]], reader: Reader) -> None:
        job = waiting.popleft()
        worker.job = job
        worker.deadline = time.monotonic() + max(self._time_limit_s - _MARGIN_S, self._time_limit_s / 2)
        try:
            worker.send(*pairs[job], reader)
        except BrokenPipeError:  # killed while idle: the read that follows sees its end and retries the job
            return

    def _readable(self) -> list[_Worker]:
        now = time.monotonic()
        pause = min((worker.deadline - now for worker in self._workers), default=0.0)
        return [key.data for key, _ in self._selector.select(timeout=max(0.0, min(pause, 1.0)))]

    def _receive(self, worker: _Worker) -> tuple[dict[str, object] | None, bool]:
        """(one whole reply or None, whether the child still lives)."""
        data = worker.reader.read1(65536)  # type: ignore[attr-defined]
        worker.buffer += data
        line, newline, rest = worker.buffer.partition(b"\n")
        if not newline:
            return None, bool(data)
        worker.buffer = rest
        worker.deadline = math.inf
        return json.loads(line), bool(data)

    def _remove(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self._selector.unregister(worker.reader)
        worker.process.kill()
        code = worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        return code

    def _count_failed_start(self) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise EngineError(
                f"verifier workers do not start ({_MAX_FAILED_STARTS} tries): check `python {_WORKER.name} "
                f"{self._memory_limit_bytes} 2`, that math-verify is installed, and the memory limit"
            )


def _outcome(reply: dict[str, object]) -> Outcome:
    if "fault" in reply:
        return "memory"
    if not reply["parsed"]:
        return "unparsed"
    return "equal" if reply["equal"] else "different"
