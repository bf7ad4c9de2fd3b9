"""`judge_stage_run.py HOME MODEL`: verify and judge the debates of HOME with a real engine in a Ray actor, twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from debate_helpers import RUN
from prefect import flow

from agentark_core.cluster import ray_pool
from agentark_core.config import JudgeConfig
from agentark_core.judge import setup
from agentark_core.stored import verdict_store
from flows import stage
from flows.debate_stage import verify_all


@flow(task_runner=stage.TASK_RUNNER)
def verify_and_judge(home: str, model: str) -> dict[str, object]:
    judge = setup(
        JudgeConfig.model_validate(
            {
                "model": {"path": model, "dtype": "float32"},
                "engine": {"kv_cache_gib": 0.125, "max_num_seqs": 16, "num_cpus": 1},
            }
        )
    )
    assert judge is not None
    started: list[str] = []
    real = ray_pool.EnginePool.start

    def start(pool: ray_pool.EnginePool) -> None:
        started.append("start")
        real(pool)

    ray_pool.EnginePool.start = start  # type: ignore[method-assign]
    runs = {RUN: ("00000", "00001")}
    for _ in range(2):  # the second time, everything is committed
        verify_all(runs, home=Path(home), judge=judge)
    stores = [verdict_store(Path(home), debates=RUN), verdict_store(Path(home), debates=RUN, judge=judge.key)]
    usage = [json.loads(path.read_bytes()) for path in (stores[1].root / "usage").glob("*.json")]
    return {
        "rules": stores[0].read().to_pylist(),
        "judged": stores[1].read().to_pylist(),
        "starts": len(started),
        "votes": sum(rounds["turns"] for one in usage for rounds in one["rounds"].values()),
    }


if __name__ == "__main__":
    print(json.dumps(verify_and_judge(sys.argv[1], sys.argv[2])))
