"""kill -9 while a real vLLM debates: an actor, the whole flow process, and between the Parquet rename and the entry."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from real_runs import Cli, assert_complete, config, find, find_engines, keys, recorded_turns, start, wait_for_turns

from agentark_core.ledger import Store
from agentark_core.stored import debate_runs

pytestmark = pytest.mark.slow


def test_killed_actor_is_restarted_and_redoes_only_what_was_in_flight(
    flow_environment: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    log = tmp_path / "flow.log"
    flow = start(flow_environment, config(home), log=log, folder=tmp_path)
    wait_for_turns(flow, home, size_bytes=40_000, log=log)
    find(flow, "DebateActor").kill()
    before = recorded_turns(home)
    assert flow.wait(timeout=300) == 0, log.read_text()[-4000:]
    assert_complete(home, replayed_at_least=before)


def test_killed_flow_leaves_no_process_and_a_rerun_completes_the_same_keys(
    flow_environment: dict[str, str], agentark: Cli, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    log = tmp_path / "flow.log"
    flow = start(flow_environment, config(home), log=log, folder=tmp_path)
    wait_for_turns(flow, home, size_bytes=40_000, log=log)
    engines = find_engines(flow)
    processes = psutil.Process(flow.pid).children(recursive=True)
    os.kill(flow.pid, signal.SIGKILL)
    flow.wait()
    _, alive = psutil.wait_procs(engines, timeout=60)
    assert alive == []
    before = recorded_turns(home)
    agentark("run", "build-traces", config(home))
    assert_complete(home, replayed_at_least=before)

    # A crash between the rename of the part and its manifest entry leaves exactly this: a part that no entry names.
    (run,) = debate_runs(home)
    store = Store(home, stage="debates", fingerprint=run)
    whole = sorted(keys(home))
    (store.root / "manifest" / "00000.json").unlink()
    (verdicts,) = home.glob("ledger/verdicts-*")
    (verdicts / "manifest" / "00000.json").unlink()
    # And a disk that flips a bit leaves this.
    part = store.root / store.entries()["00001"].file
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)

    agentark("run", "build-traces", config(home))
    assert sorted(keys(home)) == whole
    for entry in Store(home, stage="debates", fingerprint=run).entries().values():
        assert entry.meta["replayed_turns"] == entry.meta["turns"], "nothing was generated again"
    # Ray's small agents first try to reach the dead cluster for a minute, so they are looked for last.
    _, alive = psutil.wait_procs(processes, timeout=180)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
