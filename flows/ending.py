"""SIGTERM and Ctrl-C while engines run: the first ends the run in order, the second at once (F06).

Prefect's own handler raises in the middle of whatever runs; this one is in force only while debates are made.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from agentark_core.errors import Stopped


@contextmanager
def ended_in_order(stop: Callable[[str], None]) -> Iterator[None]:
    """Call stop(reason) at the first signal; it must return at once and take no lock, because it may have interrupted
    whoever holds it. Does nothing outside of the main thread, where signals do not arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            os._exit(Stopped.exit_code)  # the kernel ends the embedded cluster with this process
        asked.set()
        name = signal.Signals(number).name
        reason = f"{name}: stopped in order, everything finished is kept; start the same run again to go on"
        stop(reason)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
