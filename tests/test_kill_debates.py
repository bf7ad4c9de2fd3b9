"""kill -9 while a real vLLM debates: an actor, the whole flow process, and between the Parquet rename and the entry."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import command_line

from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, read_debates

Cli = Callable[..., subprocess.CompletedProcess[str]]
QUESTIONS, AGENTS, MAX_NUM_SEQS = 48, 3, 16

pytestmark = pytest.mark.slow


def config(home: Path) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": QUESTIONS},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {
            "num_agents": AGENTS,
            "num_rounds": 3,
            "quorum": 0,
            "sampling": {"temperature": 0.9, "max_tokens": 128},
        },
        # Few slots, so that the run lasts long enough to be hit in the middle.
        "engine": {"shard_size": 24, "max_num_seqs": MAX_NUM_SEQS, "lease_timeout_s": 10},
    }


def journaled(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("ledger/debates-*/journals/*") if path.is_file())


def start_and_wait_for_turns(
    environment: dict[str, str], home: Path, *, size_bytes: int
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """Start the flow; once its journals hold size_bytes, return it and its processes (the flow's first)."""
    words = command_line(("run", "build-traces", config(home)), folder=home.parent)
    with (home.parent / "flow.log").open("ab") as log:
        flow = subprocess.Popen(words, env=environment, stdout=log, stderr=log, cwd=home.parent, start_new_session=True)
    deadline = time.monotonic() + 300
    while journaled(home) < size_bytes:
        assert flow.poll() is None and time.monotonic() < deadline, (home.parent / "flow.log").read_text()[-4000:]
        time.sleep(0.05)
    process = psutil.Process(flow.pid)
    return flow, [process, *process.children(recursive=True)]


def keys(home: Path) -> list[tuple[str, int, int]]:
    (run,) = debate_runs(home)
    return [(t.work_id, t.round, t.agent) for d in read_debates(home, fingerprint=run) for t in d.turns]


def assert_complete(home: Path, *, replayed_at_least: int) -> None:
    found = keys(home)
    assert len(found) == len(set(found)) == QUESTIONS * (AGENTS * 3 + 1)
    (run,) = debate_runs(home)
    entries = Store(home, stage="debates", fingerprint=run).entries().values()
    assert sum(entry.meta["replayed_turns"] for entry in entries) >= replayed_at_least


def recorded_turns(home: Path) -> int:
    """Turns in the journals of shards that are not committed, as a killed process left them."""
    from agentark_core.ledger.journal import _decode

    (run,) = debate_runs(home)
    committed = Store(home, stage="debates", fingerprint=run).entries()
    newest: dict[str, Path] = {}
    for path in sorted(home.glob("ledger/debates-*/journals/*")):
        shard = path.name.split(".")[0]
        if shard not in committed:
            newest[shard] = path
    return sum(len(_decode(path.read_bytes())[0]) for path in newest.values())


def test_killed_actor_is_restarted_and_redoes_only_what_was_in_flight(
    flow_environment: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    flow, processes = start_and_wait_for_turns(flow_environment, home, size_bytes=40_000)
    (actor,) = [process for process in processes if "DebateActor" in "".join(process.cmdline())]
    actor.kill()
    before = recorded_turns(home)
    assert flow.wait(timeout=300) == 0, (tmp_path / "flow.log").read_text()[-4000:]
    assert_complete(home, replayed_at_least=before)


def test_killed_flow_leaves_no_process_and_a_rerun_completes_the_same_keys(
    flow_environment: dict[str, str], agentark: Cli, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    flow, processes = start_and_wait_for_turns(flow_environment, home, size_bytes=40_000)
    engines = [process for process in processes if "DebateActor" in process.name() or "EngineCore" in process.name()]
    assert len(engines) == 2
    os.kill(flow.pid, signal.SIGKILL)
    flow.wait()
    _, alive = psutil.wait_procs(engines, timeout=60)
    assert alive == []
    # Ray's small agents first try to reach the dead cluster for a minute.
    _, alive = psutil.wait_procs(processes, timeout=180)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
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
