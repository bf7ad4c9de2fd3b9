"""Recorded generations in place of a model."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from test_dispatcher import Engine, die, job, start

from agentark_core import records
from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.engines.replay_engine import ReplayEngine
from agentark_core.errors import EngineError
from agentark_core.ledger import Store
from agentark_core.shards import run_shard
from agentark_core.stored import read_debates


def test_a_replay_gives_the_recorded_turns_again_and_refuses_others(tmp_path: Path) -> None:
    start(Engine(lambda question, round, agent: f"{question} {round} {agent}: \\boxed{{{agent}}}"), job(tmp_path))
    problems = Store(tmp_path, stage="problems", fingerprint="p", config={})
    with problems.lease("00000", timeout_s=5) as lease:
        table = records.problems_to_table(job(tmp_path).problems)
        problems.commit("00000", table, lease=lease, config_hash="p")
    Store(tmp_path, stage="debates", fingerprint="again", config={"problems": "p"})
    engine = ReplayEngine(tmp_path, fingerprint="f")

    def again(**debate: object) -> None:
        async def life() -> None:
            dispatcher = Dispatcher(engine, slots=8, stall_timeout_s=60, die=die)
            await run_shard(replace(job(tmp_path, **debate), fingerprint="again"), dispatcher=dispatcher, caps=Caps())

        asyncio.run(life())

    with pytest.raises(EngineError, match="no recorded turn of 00000-0, round 3, agent 1"):
        again(num_rounds=3)
    again()
    assert list(read_debates(tmp_path, fingerprint="again")) == list(read_debates(tmp_path, fingerprint="f"))
