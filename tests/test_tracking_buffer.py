"""The buffer file of tracking: nothing is lost or applied out of order, and a hanging server is left alone."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from agentark_core.tracking import Run, Tracker
from agentark_core.tracking_buffer import Buffer


def test_buffer_keeps_order_what_was_not_applied_and_lines_added_meanwhile(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path / "b.jsonl")
    for number in range(3):
        buffer.append({"n": number})
    with buffer.path.open("ab") as file:
        file.write(b'{"n": "cut')  # a crash in the middle of a line
    buffer.append({"n": 3})
    seen: list[int] = []

    def apply(op: dict[str, Any]) -> bool:
        if op["n"] == 3:
            return False
        if op["n"] == 2:
            buffer.append({"n": 4})
        seen.append(op["n"])
        return True

    assert buffer.drain(apply) == 3
    assert seen == [0, 1, 2]
    assert [json.loads(line)["n"] for line in buffer.path.read_text().splitlines()] == [3, 4]


def test_an_operation_survives_an_error_while_draining(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path / "b.jsonl")
    buffer.append({"n": 0})
    buffer.append({"n": 1})

    def apply(op: dict[str, Any]) -> bool:
        if op["n"]:
            raise RuntimeError
        return True

    with pytest.raises(RuntimeError):
        buffer.drain(apply)
    assert json.loads(buffer.path.read_text()) == {"n": 1}


def test_a_server_that_accepts_and_never_answers_delays_no_call_over_5_s(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = Tracker(uri=f"http://127.0.0.1:{silent.getsockname()[1]}", home=tmp_path, experiment="x")
        tracker._quiet_until = 0.0  # as if 30 s had passed
        start = time.monotonic()
        Run(tracker=tracker, run_id="r").log_metrics({"loss": 1.0}, step=1)
        assert 1 < time.monotonic() - start < 5
        start = time.monotonic()
        Run(tracker=tracker, run_id="r").log_metrics({"loss": 1.0}, step=2)
        assert time.monotonic() - start < 0.2
    assert len((tmp_path / "mlflow-buffer.jsonl").read_text().splitlines()) == 2
