"""A real build-traces run on a pseudo-terminal: what it shows, and what other terminals see of it meanwhile."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pytest
from conftest import command_line
from ledger_helpers import until
from terminal_helpers import Terminal

from agentark_core.progress import ProgressReader
from agentark_core.stored import debate_runs

QUESTIONS, SHARDS = 120, 5
DONE = re.compile(rf"([\d,]+) of {QUESTIONS} questions")

pytestmark = pytest.mark.slow


def config(home: Path) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": QUESTIONS},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {
            "num_agents": 3,
            "num_rounds": 3,
            "quorum": 0,
            "sampling": {"temperature": 0.9, "max_tokens": 128},
        },
        # Few slots, so that the run lasts long enough to be looked at.
        "engine": {"shard_size": QUESTIONS // SHARDS, "kv_cache_gib": 0.125, "max_num_seqs": 8, "lease_timeout_s": 10},
    }


def artifacts(api: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{api}/artifacts/filter",
        data=json.dumps({"artifacts": {"type": {"any_": ["progress"]}}, "sort": "CREATED_DESC"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: list[dict[str, Any]] = json.load(response)
    return found


def counts(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in DONE.findall(text)]


def test_a_run_is_seen_while_it_runs(flow_environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"

    def agentark(*arguments: object) -> Terminal:
        return Terminal(command_line(arguments, folder=tmp_path), environment=flow_environment, folder=tmp_path)

    def output(*arguments: object) -> str:
        terminal = agentark(*arguments, "--home", home)
        assert terminal.wait(timeout_s=60) == 0, terminal.output
        return terminal.screen.text

    flow = agentark("run", "build-traces", config(home))
    try:
        until(lambda: bool(list(home.glob("ledger/debates-*/config.json"))), timeout_s=120)
        (run,) = debate_runs(home)
        watching = agentark("watch", run, "--home", home)
        reader = ProgressReader(home, [run])
        until(lambda: reader.read().questions >= 3, timeout_s=240)

        listed = output("debates")
        assert re.search(rf"{run}.*running +\d+ of", listed), listed
        listed = output("debates", "--run", run)
        going_on = re.search(r"^ *(arkling-\w+) .*\brunning\b", listed, re.MULTILINE)
        assert going_on, listed
        shown = output("debates", "--run", run, "--show", going_on.group(1))
        assert "round 1, agent" in shown and "not verified" in shown
        assert flow.process.poll() is None, "all of this was while it ran"

        until(lambda: any(a["data"] > 0 for a in artifacts(flow_environment["PREFECT_API_URL"])), timeout_s=60)
        assert flow.wait(timeout_s=400) == 0, flow.output[-4000:]
        assert watching.wait(timeout_s=60) == 0
    finally:
        if flow.process.poll() is None:
            flow.process.kill()

    # From the other terminal: counts rose, accuracy had its interval, and the end was seen.
    seen = counts(watching.output)
    assert seen == sorted(seen) and len(set(seen)) >= 5 and seen[-1] == QUESTIONS
    assert re.search(r"of 8 slots.* tokens/s", watching.output)
    assert re.search(r"cache hits .*round 1: \d+ %   round 2: \d+ %", watching.output)
    assert re.search(r"accuracy .*\[\d+\.\d, \d+\.\d\] % of the \d+ questions", watching.output)
    assert re.search(r"time left: \d+ ", watching.output)
    assert watching.screen.text.splitlines()[-1] == f"{run}: finished: all {SHARDS} shards are committed"

    # In its own: Prefect's lines are whole above one view.
    lines = flow.screen.text.splitlines()
    prefect_line = (
        r"\d\d:\d\d:\d\d\.\d{3} \| INFO    \| Task run 'debate traces \d{5}' - Finished in state Completed\(\)"
    )
    assert sum(bool(re.fullmatch(prefect_line, line)) for line in lines) == SHARDS
    (last,) = [line for line in lines if line.startswith("questions  ")]
    assert counts(last) == [QUESTIONS]
    assert any(f"agentark watch {run} --home {home}" in line for line in lines)
    assert len(set(counts(flow.output))) >= 5 and flow.screen.cursor_shown

    newest = artifacts(flow_environment["PREFECT_API_URL"])[0]
    assert (newest["data"], newest["description"]) == (100.0, "all shards are committed")

    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    (stage,) = [r for r in runs if r.info.run_name == "build-traces"]
    assert stage.data.metrics["debate/questions"] == QUESTIONS
    assert 0 < stage.data.metrics["debate/cache_hit_round_2"] < 1
    assert 0 < stage.data.metrics["debate/accuracy_so_far"] < 1
    assert len(client.get_metric_history(stage.info.run_id, "debate/accuracy_so_far")) >= 2, "while it ran, too"
    assert stage.data.metrics["debate/tokens_per_s"] > 0

    listed = output("debates", "--run", run, "--limit", 2)
    assert "vote correct, % [95 %]" in listed and f"ended by: {QUESTIONS} rounds" in listed
    compared = output("consensus", run)
    assert f"{QUESTIONS} debates of 3 agents in 3 rounds" in compared and "McNemar" in compared
