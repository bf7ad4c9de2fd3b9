"""GRPO with an engine beside the trainer: a policy that is stale is noticed at its step (F36)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUIET, REPOSITORY
from grpo_helpers import resolved, write_prompts
from sft_helpers import metrics


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_weight_sync_left_out_stops_the_run_at_its_step(tmp_path: Path) -> None:
    data = write_prompts(tmp_path / "prompts.parquet", number=16)
    settings = {"rollouts": "vllm_colocate", "vllm_memory": 0.05, "watch_prompts": 0, "learning_rate": 3e-3}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(resolved(data, tmp_path / "out", **settings, warmup_ratio=0, save_steps=1)))
    words = [sys.executable, str(REPOSITORY / "tests" / "grpo_engine_run.py"), str(config), "3"]
    own = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment = {**own, **QUIET, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr[-4000:]
    line = [line for line in done.stderr.splitlines() if line.startswith("error: ")][-1]
    assert "step 3: log-probabilities of trainer and engine differ by" in line and "a sync was lost" in line
    found = [row["engine_difference"] for row in metrics(tmp_path / "out")]
    assert len(found) == 2 and max(found) < 0.05, "the syncs before were whole"
