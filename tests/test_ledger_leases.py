"""Leases between real processes: races, stopped and dead holders, other hosts, wrong clocks."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from ledger_helpers import PATIENCE_S, in_child, kill_self, make_store, make_turn, until, wait

from agentark_core.errors import AlreadyRunning
from agentark_core.ledger import table_to_turns, turns_to_table
from agentark_core.ledger.lease import _host


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def test_of_eight_processes_that_start_together_one_gets_the_lease(tmp_path: Path) -> None:
    make_store(tmp_path)
    start_r, start_w = os.pipe()
    end_r, end_w = os.pipe()

    def body() -> None:
        os.close(start_w)
        os.close(end_w)
        store = make_store(tmp_path, run_id=f"run-{os.getpid()}")
        os.read(start_r, 1)
        with store.lease("s0", timeout_s=PATIENCE_S):
            os.read(end_r, 1)

    pids = [in_child(body) for _ in range(8)]
    os.close(start_w)
    losers = [os.waitpid(-1, 0) for _ in range(7)]
    assert [os.waitstatus_to_exitcode(status) for _, status in losers] == [16] * 7
    (holder,) = set(pids) - {pid for pid, _ in losers}
    with (
        pytest.raises(AlreadyRunning, match=rf"s0: run run-{holder} \(process {holder} on .* epoch 1"),
        make_store(tmp_path).lease("s0", timeout_s=PATIENCE_S),
    ):
        pass
    with make_store(tmp_path).lease("s1", timeout_s=PATIENCE_S) as other_shard:
        assert other_shard.epoch == 1
    os.close(end_w)
    assert wait(holder) == 0
    for fd in (start_r, end_r):
        os.close(fd)
    with make_store(tmp_path).lease("s0", timeout_s=PATIENCE_S) as lease:
        assert lease.epoch == 2, "a released lease is free at once"


def test_a_process_holds_a_shard_only_once_and_lets_go_at_once(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with (
        store.lease("s0", timeout_s=PATIENCE_S),
        pytest.raises(AlreadyRunning),
        store.lease("s0", timeout_s=PATIENCE_S),
    ):
        pass
    started = time.monotonic()
    with store.lease("s0", timeout_s=PATIENCE_S) as lease:
        assert lease.epoch == 2 and time.monotonic() - started < PATIENCE_S / 4


@pytest.mark.parametrize("successor_commits_first", [True, False])
def test_a_stopped_holder_that_wakes_up_is_refused(tmp_path: Path, successor_commits_first: bool) -> None:
    store = make_store(tmp_path)
    ready, go = tmp_path / "ready", tmp_path / "go"
    mine, theirs = [make_turn("mine")], [make_turn("theirs")]

    def zombie() -> None:
        store = make_store(tmp_path)
        with store.lease("s0", timeout_s=1.0) as lease, store.journal("s0") as journal:
            journal.append([{"by": "zombie", "synced": True}])
            ready.touch()
            until(go.exists)
            journal.append([{"by": "zombie", "synced": False}])
            store.commit("s0", turns_to_table(theirs), lease=lease, config_hash="c")

    pid = in_child(zombie)
    until(ready.exists)
    with pytest.raises(AlreadyRunning), store.lease("s0", timeout_s=PATIENCE_S):
        pass
    os.kill(pid, signal.SIGSTOP)
    with store.lease("s0", timeout_s=1.0) as lease, store.journal("s0") as journal:
        assert lease.epoch == 2
        if successor_commits_first:
            store.commit("s0", turns_to_table(mine), lease=lease, config_hash="c")
        go.touch()
        os.kill(pid, signal.SIGCONT)
        assert wait(pid) == 17
        assert journal.replay() == [{"by": "zombie", "synced": True}]
        store.commit("s0", turns_to_table(mine), lease=lease, config_hash="c")
    assert table_to_turns(store.read()) == mine


@pytest.mark.parametrize("stopped_at", ["rename", "link"])
@pytest.mark.parametrize("successor_commits_first", [True, False])
def test_a_holder_stopped_inside_its_commit_leaves_one_entry(
    tmp_path: Path, stopped_at: str, successor_commits_first: bool
) -> None:
    store = make_store(tmp_path)
    mine, theirs = [make_turn("mine")], [make_turn("theirs")]

    def zombie() -> None:
        store = make_store(tmp_path)
        with store.lease("s0", timeout_s=1.0) as lease:
            real = getattr(os, stopped_at)

            def stop_first(source: Path, target: Path) -> None:
                os.kill(os.getpid(), signal.SIGSTOP)
                real(source, target)

            setattr(os, stopped_at, stop_first)
            store.commit("s0", turns_to_table(theirs), lease=lease, config_hash="c")

    pid = in_child(zombie)
    os.waitpid(pid, os.WUNTRACED)
    with store.lease("s0", timeout_s=1.0) as lease:
        if successor_commits_first:
            store.commit("s0", turns_to_table(mine), lease=lease, config_hash="c")
        os.kill(pid, signal.SIGCONT)
        # Past its last check, before link(): whoever links first stands, and both processes agree on it.
        zombie_wins = stopped_at == "link" and not successor_commits_first
        assert wait(pid) == (0 if zombie_wins else 17)
        entry = store.commit("s0", turns_to_table(mine), lease=lease, config_hash="c")
    assert entry.epoch == (1 if zombie_wins else 2)
    assert table_to_turns(store.read()) == (theirs if zombie_wins else mine)


def test_a_dead_process_that_nobody_reaped_yet_loses_its_lease_at_once(tmp_path: Path) -> None:
    store = make_store(tmp_path)

    def body() -> None:
        with make_store(tmp_path).lease("s0", timeout_s=PATIENCE_S):
            kill_self()

    pid = in_child(body)
    until(lambda: "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2])
    started = time.monotonic()
    with store.lease("s0", timeout_s=PATIENCE_S) as lease:
        assert lease.epoch == 2 and time.monotonic() - started < PATIENCE_S / 4
    wait(pid)


def test_a_reused_process_id_does_not_keep_a_lease_alive(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    owner = {"host": _host(), "pid": os.getpid(), "process_start": "1", "run_id": "long-gone"}
    (store.root / "leases" / "s0.1").write_text(json.dumps(owner))
    started = time.monotonic()
    with store.lease("s0", timeout_s=PATIENCE_S) as lease:
        assert lease.epoch == 2 and time.monotonic() - started < PATIENCE_S / 4


def test_a_holder_on_another_host_is_judged_by_its_heartbeat_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    owner = {"host": "elsewhere boot ns", "pid": 2**22 + 1, "process_start": "1", "run_id": "far"}
    (store.root / "leases" / "s0.1").write_text(json.dumps(owner))
    beat, stop = store.root / "leases" / "s0.1.beat", threading.Event()

    def keep_beating() -> None:
        count = 0
        while not stop.wait(0.1):
            count += 1
            beat.write_text(f"{count:020d}")

    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    with (
        pytest.raises(AlreadyRunning, match=r"run far \(process \d+ on elsewhere\)"),
        store.lease("s0", timeout_s=PATIENCE_S),
    ):
        pass
    stop.set()
    thread.join()
    started = time.monotonic()
    with store.lease("s0", timeout_s=0.6) as lease:
        assert lease.epoch == 2 and time.monotonic() - started >= 0.6


@pytest.mark.parametrize("skew_s", [3600, -3600])
def test_a_wall_clock_an_hour_off_steals_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: int) -> None:
    store, real = make_store(tmp_path), time.time
    with store.lease("s0", timeout_s=1.0) as lease:
        monkeypatch.setattr(time, "time", lambda: real() + skew_s)
        pid = in_child(lambda: make_store(tmp_path).lease("s0", timeout_s=10).__enter__())
        assert wait(pid) == 16
        lease.check()
