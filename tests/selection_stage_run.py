"""`selection_stage_run.py HOME MODEL`: extract the debates of HOME, selected by a real engine in a Ray actor, twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from debate_helpers import RUN
from prefect import flow

from agentark_core import extraction
from agentark_core.cluster import ray_pool
from agentark_core.config import ExamplesConfig
from flows import stage
from flows.extraction_stage import extract_runs


@flow(task_runner=stage.TASK_RUNNER)
def select_and_extract(home: str, model: str) -> dict[str, object]:
    selector = {
        "model": {"path": model, "dtype": "float32"},
        "engine": {"kv_cache_gib": 0.125, "max_num_seqs": 16, "num_cpus": 1},
    }
    config = ExamplesConfig.model_validate({"selector": selector})
    started: list[str] = []
    real = ray_pool.EnginePool.start

    def start(pool: ray_pool.EnginePool) -> None:
        started.append("start")
        real(pool)

    ray_pool.EnginePool.start = start  # type: ignore[method-assign]
    for _ in range(2):  # the second time, everything is committed
        (job,) = extract_runs([RUN], config=config, wording="general", judge=None, workers=1, seed=0, home=Path(home))
    assert job.selections is not None
    return {
        "selections": job.selections.read().to_pylist(),
        "counts": extraction.totals(job, "augmentation")["counts"],
        "rows": job.store("augmentation").read().num_rows,
        "starts": len(started),
    }


if __name__ == "__main__":
    print(json.dumps(select_and_extract(sys.argv[1], sys.argv[2])))
