"""GRPO with an engine beside the trainer: a policy that is stale is noticed at its step (F36), and completions end
where the chat template ends a turn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUIET, REPOSITORY
from grpo_helpers import resolved, write_prompts
from sft_helpers import metrics

from agentark_core.arkling import model_path
from agentark_core.chat import ChatFormat


def without_end_of_turn(base: Path) -> Path:
    """A copy of the student in base whose configs name the padding as the only token that ends a text."""
    shutil.copytree(model_path("student"), base)
    changes = {"config": {"eos_token_id": 0}, "generation_config": {"eos_token_id": 0}}
    for name, change in {**changes, "tokenizer_config": {"eos_token": "<|pad|>"}}.items():
        file = base / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert ChatFormat.load(base).tokenizer.eos_token_id == 0
    return base


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_completions_end_with_their_turn_and_one_weight_sync_left_out_stops_the_run_at_its_step(tmp_path: Path) -> None:
    data = write_prompts(tmp_path / "prompts.parquet", number=16)
    settings = {"rollouts": "vllm_colocate", "vllm_memory": 0.05, "watch_prompts": 0, "learning_rate": 3e-3}
    settings |= {"gpus_per_worker": 1, "warmup_ratio": 0, "save_steps": 1}  # run by hand, nobody gives it that GPU
    base = without_end_of_turn(tmp_path / "base")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(resolved(data, tmp_path / "out", base=base, **settings)))
    words = [sys.executable, str(REPOSITORY / "tests" / "grpo_engine_run.py"), str(config), "3"]
    own = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment = {**own, **QUIET, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr[-4000:]
    line = [line for line in done.stderr.splitlines() if line.startswith("error: ")][-1]
    assert "step 3: log-probabilities of trainer and engine differ by" in line and "a sync was lost" in line
    rows = metrics(tmp_path / "out")
    assert len(rows) == 2 and max(row["engine_difference"] for row in rows) < 0.05, "the syncs before were whole"
    assert max(row["truncated"] for row in rows) < 0.5, "most completions end before max_tokens"
