"""One debate run through a chain of faults, each with real processes. The chain shares its starts: an engine takes half
a minute to come up on two cores, and every link goes on from the ledger that the last one left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from real_runs import AGENTS, config, find, keys, recorded_turns, start

from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, read_debates

QUESTIONS = 200

pytestmark = pytest.mark.slow


def test_a_run_survives_a_dead_cluster_a_stop_a_rival_and_two_dead_engines(
    flow_environment: dict[str, str], tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "flow.log"
    # Engines that stand still are found after 8 s here; the default is 30 s.
    settings = config(home, questions=QUESTIONS, shard_size=100, stall_timeout_s=8)

    engines = 0

    def wait_for_engine(flow: subprocess.Popen[bytes], *, log: Path = log) -> None:
        """Wait until another engine has been generating for about a second."""
        nonlocal engines
        engines += 1
        deadline = time.monotonic() + 200
        while len(list(home.glob("ledger/debates-*/usage/*.json"))) < engines:
            assert flow.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.05)

    def begin() -> subprocess.Popen[bytes]:
        flow = start(flow_environment, settings, log=log, folder=tmp_path)
        wait_for_engine(flow)
        return flow

    # F13: the cluster's head dies; one clear error, nothing lost.
    flow = begin()
    find(flow, "gcs_server").kill()
    assert flow.wait(timeout=60) == 5
    after_head = recorded_turns(home)
    assert after_head > 0
    assert "start the run again to go on" in log.read_text()

    # F06: SIGTERM ends it in order within the grace period; everything that was made is in the journal.
    flow = begin()
    flow.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert flow.wait(timeout=60) == 143
    assert time.monotonic() - asked < 45, "30 s of grace, and the end of the cluster"
    assert "SIGTERM: stopped in order" in log.read_text()
    after_stop = recorded_turns(home)
    assert after_stop > after_head

    # F16: two schedulers start the same run; one does the work, the other leaves with exit code 0.
    rival_log = tmp_path / "rival.log"
    flow = start(flow_environment, settings, log=log, folder=tmp_path)
    rival = start(flow_environment, settings, log=rival_log, folder=tmp_path)
    first = _wait_for_one(flow, rival)
    winner, winner_log = (rival, rival_log) if first is flow else (flow, log)
    assert first.returncode == 0
    assert "build-traces" in (said := (log if first is flow else rival_log).read_text()) and "holds it" in said
    wait_for_engine(winner, log=winner_log)

    # F04: the EngineCore alone dies, then its successor stands still; both times the actor starts anew.
    find(winner, "EngineCor").kill()
    wait_for_engine(winner, log=winner_log)
    find(winner, "EngineCor").suspend()
    assert winner.wait(timeout=300) == 0, winner_log.read_text()[-4000:]

    found = keys(home)
    assert len(found) == len(set(found)) == QUESTIONS * (AGENTS * 3 + 1)
    (run,) = debate_runs(home)
    store = Store(home, stage="debates", fingerprint=run)
    entries = store.entries().values()
    assert sum(entry.meta["replayed_turns"] for entry in entries) >= after_stop

    # F05: exactly the turns that were in flight at both deaths are poison.
    records = [json.loads(line) for line in (store.root / "engine_deaths.jsonl").read_text().splitlines()]
    assert len(records) == 2 and "no token for" in records[1]["reason"]
    deaths = Counter(tuple(key) for record in records for key in record["in_flight"])
    poison = {
        (t.work_id, t.round, t.agent)
        for d in read_debates(home, fingerprint=run)
        for t in d.turns
        if t.status == "engine_poison"
    }
    assert poison <= {key for key, number in deaths.items() if number == 2} and len(poison) <= 1
    assert (tmp_path / "home").exists() and not _stray(home)


def _wait_for_one(*flows: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for flow in flows:
            if flow.poll() is not None:
                return flow
        time.sleep(0.1)
    raise AssertionError("neither flow ended")


def _stray(home: Path) -> list[int]:
    """Processes that still hold files of this home open."""
    strays = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(home) in file.path for file in process.open_files()):
                strays.append(process.pid)
        except psutil.Error:
            continue
    return strays
