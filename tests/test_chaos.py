"""A killer in the manner of Ray's chaos tests: SIGKILL, or SIGSTOP and a successor, at 20 random moments of one run.

Twenty starts of vLLM would take ten minutes on two cores, so the engine is scripted here and everything else is real;
the real engine meets its killers in test_engine_faults.py and test_kill_debates.py.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chaos_host import QUESTIONS, SHARDS, SLOTS

from agentark_core.ledger import Store, table_to_turns

POINTS = 20
TURNS = SHARDS * QUESTIONS * 4


def host(home: Path, seed: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("chaos_host.py")
    environment = {**os.environ, "PYTHONPATH": f"{script.parents[1]}{os.pathsep}{script.parent}"}
    return subprocess.Popen(
        [sys.executable, str(script), str(home), str(seed)], env=environment, stderr=subprocess.PIPE, text=True
    )


def generated(home: Path) -> list[str]:
    path = home / "generated.txt"
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_twenty_random_deaths_lose_nothing_double_nothing_and_redo_only_what_was_in_flight(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    zombies = []
    for point in range(POINTS):
        before = len(generated(tmp_path))
        process = host(tmp_path, seed=point)
        # Moments are counted in generations, so that they do not depend on the machine's speed.
        target = before + rng.randint(1, TURNS // POINTS)
        while len(generated(tmp_path)) < target and process.poll() is None:
            time.sleep(0.002)
        if process.poll() is not None:
            break  # all done before the last point
        if rng.random() < 0.2:
            process.send_signal(signal.SIGSTOP)  # a zombie (F17): its successor waits until its lease is silent
            zombies.append(process)
        else:
            process.kill()
            process.wait()
    last = host(tmp_path, seed=99)
    _, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    table = Store(tmp_path, stage="debates", fingerprint="f").read()

    for zombie in zombies:
        zombie.send_signal(signal.SIGCONT)
        _, error = zombie.communicate(timeout=60)
        # AlreadyRunning: it was stopped while it waited for the lease of its second shard.
        assert zombie.returncode != 0 and re.search("StaleEpoch|AlreadyRunning", error), "what it commits is refused"
    assert Store(tmp_path, stage="debates", fingerprint="f").read().equals(table)

    keys = Counter((turn.work_id, turn.round, turn.agent) for turn in table_to_turns(table))
    assert len(keys) == TURNS and set(keys.values()) == {1}
    redone = len(generated(tmp_path)) - TURNS
    # A question in its seat may have all its agents in flight, so a death costs at most two requests a slot.
    assert 0 < redone <= (point + 1 + len(zombies)) * 2 * SLOTS
    assert point >= POINTS - 1 and zombies, "the seed gives all points and at least one zombie"
