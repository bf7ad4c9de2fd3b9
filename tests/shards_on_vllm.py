"""`shards_on_vllm.py HOME QUESTIONS WAY...`: one real engine discusses the same questions in each way, which is a
strategy, or LAYOUT-AGENTS for a debate that never stops early."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from agentark_core import model_files, problems, prompts, records
from agentark_core.config import DebateConfig, EngineConfig, ModelConfig, ProblemsConfig, SamplingConfig
from agentark_core.discussion import Plan
from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.ledger import Store
from agentark_core.shards import ShardJob, run_shard


async def main(home: Path, questions: int, names: list[str]) -> None:
    from agentark_core.engines.vllm_engine import VllmEngine

    asked = problems.load(ProblemsConfig(split="distil", limit=questions), seed=0).problems
    problem_store = Store(home, stage="problems", fingerprint="p", config={})
    with problem_store.lease("00000", timeout_s=60) as lease:
        problem_store.commit("00000", records.problems_to_table(asked), lease=lease, config_hash="p")
    teacher = ModelConfig(path="arkling:teacher", prompts="arkling")
    engine = VllmEngine(
        model_files.resolve(teacher), model=teacher, engine=EngineConfig(kv_cache_gib=0.125, max_num_seqs=64)
    )
    dispatcher = Dispatcher(engine, slots=64, stall_timeout_s=60, die=lambda reason: os._exit(1))
    jobs = []
    for name in names:
        Store(home, stage="debates", fingerprint=name, config={"problems": "p", "dataset": "arkling"})
        layout, _, agents = name.partition("-")
        how = (
            {"layout": layout, "num_agents": int(agents), "quorum": 0, "summariser": "always"}
            if agents
            else {"strategy": name}
        )
        sampling = SamplingConfig(temperature=0.9, max_tokens=128)
        config = DebateConfig.model_validate({**how, "num_rounds": 3, "sampling": sampling})
        jobs.append(
            ShardJob(
                home=home,
                fingerprint=name,
                shard="00000",
                problems=asked,
                plan=Plan(config=config, wording="arkling", base_seed=0),
                dataset_revision="r",
                teacher_revision="t",
                prompt_hash=prompts.prompt_hash(),
                config_hash="c",
                lease_timeout_s=60,
            )
        )
    await asyncio.gather(*(run_shard(job, dispatcher=dispatcher, caps=Caps()) for job in jobs))
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
