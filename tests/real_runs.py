"""Real debate flows in processes of their own, to be killed, stopped and started again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from conftest import command_line

from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, read_debates

Cli = Callable[..., subprocess.CompletedProcess[str]]
AGENTS, MAX_NUM_SEQS = 3, 16


def on_random_weights(script: str, folder: Path) -> Any:
    """What a script prints last, as JSON; its argument is a Qwen3 with random weights. In a process of its own, which a
    vLLM engine needs."""
    from tiny_models import make

    make("qwen3", folder / "model")
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "model")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def config(home: Path, *, questions: int = 48, **engine: Any) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": questions},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {
            "num_agents": AGENTS,
            "num_rounds": 3,
            "quorum": 0,
            "sampling": {"temperature": 0.9, "max_tokens": 128},
        },
        # Few slots, so that the run lasts long enough to be hit in the middle.
        "engine": {
            "shard_size": 24,
            "kv_cache_gib": 0.125,
            "max_num_seqs": MAX_NUM_SEQS,
            "lease_timeout_s": 10,
            **engine,
        },
    }


def journaled(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("ledger/debates-*/journals/*") if path.is_file())


def start(
    environment: dict[str, str], settings: dict[str, Any], *, log: Path, folder: Path, flow: str = "build-traces"
) -> subprocess.Popen[bytes]:
    """Start the flow in a session of its own."""
    words = command_line(("run", flow, settings), folder=folder)
    with log.open("ab") as out:
        return subprocess.Popen(words, env=environment, stdout=out, stderr=out, cwd=folder, start_new_session=True)


def wait_for_turns(flow: subprocess.Popen[bytes], home: Path, *, size_bytes: int, log: Path) -> None:
    """Wait until the journals hold size_bytes."""
    deadline = time.monotonic() + 300
    while journaled(home) < size_bytes:
        assert flow.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.05)


def find(flow: subprocess.Popen[bytes], name: str) -> psutil.Process:
    """The flow's first process of that name (at most 15 characters, as the kernel keeps it) or command line; waited
    for."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for process in psutil.Process(flow.pid).children(recursive=True):
            try:
                if name in process.name() or name in " ".join(process.cmdline()):
                    return process
            except psutil.Error:
                continue
        time.sleep(0.1)
    raise AssertionError(f"no process {name}")


def find_engines(flow: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The flow's only actor and its engine."""
    return [find(flow, "DebateActor"), find(flow, "EngineCor")]


def keys(home: Path) -> list[tuple[str, int, int]]:
    (run,) = debate_runs(home)
    return [(t.work_id, t.round, t.agent) for d in read_debates(home, fingerprint=run) for t in d.turns]


def assert_complete(home: Path, *, replayed_at_least: int, questions: int = 48) -> None:
    found = keys(home)
    assert len(found) == len(set(found)) == questions * (AGENTS * 3 + 1)
    (run,) = debate_runs(home)
    entries = Store(home, stage="debates", fingerprint=run).entries().values()
    assert sum(entry.meta["replayed_turns"] for entry in entries) >= replayed_at_least


def recorded_turns(home: Path) -> int:
    """Turns in the journals of shards that are not committed, as a killed process left them."""
    from agentark_core.ledger.journal import _decode

    found = 0
    for run in debate_runs(home):
        store = Store(home, stage="debates", fingerprint=run)
        committed, newest = store.entries(), dict[str, Path]()
        for path in sorted(store.root.glob("journals/*")):
            shard = path.name.split(".")[0]
            if shard not in committed:
                newest[shard] = path
        found += sum(len(_decode(path.read_bytes())[0]) for path in newest.values())
    return found
