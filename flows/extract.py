"""extract: verified debates in; everything that can be learned from them out, shard by shard."""

from __future__ import annotations

from typing import Any

from prefect import flow

from agentark_core import extraction
from agentark_core.config import ExtractConfig
from agentark_core.extraction import KINDS
from agentark_core.judge import setup
from flows import stage
from flows.extraction_stage import extract_runs, write_cards


@flow(name="extract", flow_run_name=stage.run_name, task_runner=stage.TASK_RUNNER, description=__doc__)
def extract(config: ExtractConfig) -> dict[str, Any]:
    """Extract the shards that are new; returns the totals by debate run and kind, and the paths of the data cards."""
    home = stage.prepare_home(config.run)
    with stage.tracked("extract", config=config, home=home, parent_run_id="") as run:
        jobs = extract_runs(
            config.traces,
            config=config.examples,
            wording=config.prompts,
            judge=setup(config.verification.judge),
            workers=config.workers,
            seed=config.run.seed,
            home=home,
        )
        made = {job.debates: {kind: extraction.totals(job, kind) for kind in KINDS} for job in jobs}
        for job in jobs:
            for kind in KINDS:
                store = job.store(kind)
                run.log_dataset(
                    name=f"{kind}-{job.debates}",
                    digest=store.digest(),
                    source=store.root,
                    context="training",
                    rows=made[job.debates][kind]["rows"],
                )
        cards = write_cards(jobs, run=run)
    return {f"{run} {kind}": totals for run, kinds in made.items() for kind, totals in kinds.items()} | {"cards": cards}
