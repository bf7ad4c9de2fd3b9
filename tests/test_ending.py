"""Signals while debates are made: the first asks for an end in order, the second ends the process (F06)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import time
from flows.ending import ended_in_order
with ended_in_order(lambda reason: print(reason, flush=True)):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_ends_it_at_once(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert "stopped in order" in process.stdout.readline()
        assert process.poll() is None
        before = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=10) == 143
        assert time.monotonic() - before < 2
    finally:
        process.kill()
        process.stdout.close()
