"""A pool of killable child processes that decide algebraic equality. One event loop, no threads, no pickle.

    with WorkerPool(workers=2, time_limit_s=2.0, memory_limit_bytes=2**30) as pool:
        pool.compare([("\\\\frac{1}{2}", "0.5"), ("1", "9^{9^{9}}")])  -> ["equal", "timeout"]

A child is a template that forks itself for the work (verify_worker.py): what takes too long or too much memory costs a
fork, not a start. A request whose fork died by another hand (the kernel's OOM killer, an operator) is tried once more.
Should a child hang as a whole, it is killed and replaced; its siblings never notice.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from agentark_core.errors import EngineError

Outcome = Literal["equal", "different", "unparsed", "timeout", "memory"]
Reader = Literal["formula", "response"]
"""What the second text of a pair is: one LaTeX formula, or a whole response that Math-Verify itself searches."""

_WORKER = Path(__file__).with_name("verify_worker.py")
_START_LIMIT_S = 60.0
_END_LIMIT_S = 0.5
_MAX_FAILED_STARTS = 3
_MARGIN_S = 0.1
_FORK_MARGIN_S = 0.4
"""A fork ends this much before the limit, a child as a whole `_MARGIN_S`: the verdict is out within the limit, and the
template of a fork has time to say so before it is killed as well, even on a loaded machine."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    deadline: float
    ready: bool = False
    request: int = 0
    job: int | None = None
    buffer: bytes = b""

    @property
    def reader(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, gold: str, answer: str, reader: Reader) -> None:
        assert self.process.stdin is not None
        request = {"id": self.request, "gold": gold, "answer": answer, "reader": reader}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
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
        self._requests = itertools.count(1)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the living children."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End all children and their forks."""
        for worker in list(self._workers):
            self._remove(worker)

    def compare(self, pairs: Sequence[tuple[str, str]], *, reader: Reader = "formula") -> list[Outcome]:
        """Outcome of each (gold formula, answer) pair, in order. Raises EngineError if no child starts."""
        outcomes: dict[int, Outcome] = {}
        waiting = deque(range(len(pairs)))
        deaths: dict[int, int] = {}
        while len(outcomes) < len(pairs):
            self._refill(len(pairs) - len(outcomes))
            for worker in [w for w in self._workers if w.ready and w.job is None]:
                if waiting:
                    self._assign(worker, waiting, pairs, reader)
            for worker in self._readable():
                replies, alive = self._receive(worker)
                for reply in replies:
                    if "ready" in reply:
                        worker.ready, worker.deadline, self._failed_starts = True, math.inf, 0
                    elif worker.job is not None and reply["id"] == worker.request:
                        self._settle(worker, reply["outcome"], outcomes, waiting, deaths)
                if not alive:
                    self._remove(worker)
                    if worker.job is not None:
                        self._settle(worker, "killed", outcomes, waiting, deaths)
                    elif not worker.ready:
                        self._count_failed_start()
            for worker in [w for w in self._workers if time.monotonic() >= w.deadline]:
                self._remove(worker)
                if worker.job is not None:
                    outcomes[worker.job] = "timeout"
                else:
                    self._count_failed_start()
        return [outcomes[index] for index in range(len(pairs))]

    def _settle(
        self,
        worker: _Worker,
        outcome: Outcome | Literal["killed"],
        outcomes: dict[int, Outcome],
        waiting: deque[int],
        deaths: dict[int, int],
    ) -> None:
        """Note the outcome of the worker's job; a job whose fork was killed waits once more, then counts as memory."""
        assert worker.job is not None
        job, worker.job, worker.deadline = worker.job, None, math.inf
        if outcome != "killed":
            outcomes[job] = outcome
            return
        deaths[job] = deaths.get(job, 0) + 1
        if deaths[job] > 1:
            outcomes[job] = "memory"
        else:
            waiting.appendleft(job)

    def _refill(self, wanted: int) -> None:
        while len(self._workers) < min(self._size, wanted):
            limits = (
                str(self._memory_limit_bytes),
                str(max(self._time_limit_s - _FORK_MARGIN_S, self._time_limit_s / 4)),
            )
            process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), *limits],
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
        worker.job, worker.request = job, next(self._requests)
        worker.deadline = time.monotonic() + max(self._time_limit_s - _MARGIN_S, self._time_limit_s / 2)
        try:
            worker.send(*pairs[job], reader)
        except BrokenPipeError:  # killed while idle: the read that follows sees its end and retries the job
            return

    def _readable(self) -> list[_Worker]:
        now = time.monotonic()
        pause = min((worker.deadline - now for worker in self._workers), default=0.0)
        return [key.data for key, _ in self._selector.select(timeout=max(0.0, min(pause, 1.0)))]

    def _receive(self, worker: _Worker) -> tuple[list[dict[str, Any]], bool]:
        """(whole replies, whether the child still lives)."""
        data = worker.reader.read1(65536)  # type: ignore[attr-defined]
        *lines, rest = (worker.buffer + data).split(b"\n")
        worker.buffer = rest
        return [json.loads(line) for line in lines], bool(data)

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.reader)
        self._signal(worker, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=_END_LIMIT_S)
        self._signal(worker, signal.SIGKILL)
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _signal(self, worker: _Worker, number: signal.Signals) -> None:
        """To the template and its fork: it leads a session."""
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, number)

    def _count_failed_start(self) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise EngineError(
                f"verifier workers do not start ({_MAX_FAILED_STARTS} tries): check `python {_WORKER.name} "
                f"{self._memory_limit_bytes} 2`, that math-verify is installed, and the memory limit"
            )
