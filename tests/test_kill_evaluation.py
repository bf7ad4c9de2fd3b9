"""kill -9 of a whole evaluate-model while a real vLLM answers: the same command goes on where it was."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from real_runs import Cli, find_engines, recorded_turns, start, wait_for_turns

from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, read_debates

QUESTIONS, SAMPLES = 64, 4


def config(home: Path) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "student": {"path": "arkling:student", "prompts": "arkling"},
        "debate": {"sampling": {"temperature": 0.9, "max_tokens": 96}},
        # Few slots, so that the evaluation lasts long enough to be hit in the middle.
        "engine": {"shard_size": 16, "kv_cache_gib": 0.125, "max_num_seqs": 8, "lease_timeout_s": 10},
        "evaluation": {
            "problems": {"source": "arkling", "split": "test", "limit": QUESTIONS},
            "student_samples": SAMPLES,
        },
    }


def committed_parts(home: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in home.glob("ledger/debates-*/**/*.parquet")}


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_without_repeating_a_generation(
    flow_environment: dict[str, str], agentark: Cli, tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "flow.log"
    flow = start(flow_environment, config(home), log=log, folder=tmp_path, flow="evaluate-model")
    wait_for_turns(flow, home, size_bytes=60_000, log=log)
    engines = find_engines(flow)
    os.kill(flow.pid, signal.SIGKILL)
    flow.wait()
    _, alive = psutil.wait_procs(engines, timeout=60)
    assert alive == []
    assert not (home / "reports" / "test" / "evaluation.json").exists(), "it was hit in the middle"
    before, recorded = committed_parts(home), recorded_turns(home)
    assert recorded + len(before) > 0

    agentark("run", "evaluate-model", config(home))
    after = committed_parts(home)
    assert {path: after[path] for path in before} == before, "what was committed is not made again"
    entries = [
        entry for run in debate_runs(home) for entry in Store(home, stage="debates", fingerprint=run).entries().values()
    ]
    assert sum(entry.meta["replayed_turns"] for entry in entries) >= recorded, "what was recorded is not asked again"
    turns = [
        turn.key for run in debate_runs(home) for debate in read_debates(home, fingerprint=run) for turn in debate.turns
    ]
    assert len(turns) == len(set(turns)) == QUESTIONS * (2 + SAMPLES)
    rows = json.loads((home / "reports" / "test" / "evaluation.json").read_text())["rows"]
    assert [row["n"] for row in rows] == [QUESTIONS] * 3
