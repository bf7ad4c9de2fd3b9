"""Accuracy of layouts, agents, rounds and of majority vote at equal calls and at equal tokens, shipped teacher.

    python -m benchmarks.debate.accuracy

Debates are made by the real stage (flows/debate_stage.py) in a home of its own and never twice: stop the command and
start it again. No debate stops early and no summariser speaks, so one run of four rounds shows 1, 2, 3 and 4 rounds.
An answer is the majority vote of a round. Majority vote without debate uses independent samples, made apart from the
debates. Writes <docs>/debate_accuracy.md and .png, and <out>/accuracy.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prefect import flow

from agentark_core import model_files
from agentark_core.config import (
    DebateConfig,
    EngineConfig,
    EvaluateConfig,
    EvaluationConfig,
    ProblemsConfig,
    RunConfig,
    SamplingConfig,
)
from flows import stage
from flows.debate_stage import complete_debates
from tasks.trace_tasks import DebateSpec

from . import accuracy_report, figures
from .engines import TEACHER

AGENTS = (1, 3, 5, 10, 20)
ROUNDS = 4
SAMPLES = 64
"""Independent samples a question (the most agents that a debate may have); round 1 of 20 agents adds 20."""


def cells() -> dict[str, DebateConfig]:
    """What is debated, by name."""

    def debate(layout: str, agents: int, rounds: int = ROUNDS) -> DebateConfig:
        return DebateConfig.model_validate(
            {
                "num_agents": agents,
                "num_rounds": rounds,
                "layout": layout,
                "quorum": 0,
                "summariser": "never",
                "sampling": SamplingConfig(temperature=0.9, max_tokens=128),
            }
        )

    made = {f"board n={agents}": debate("board", agents) for agents in AGENTS}
    made |= {f"{layout} n=5": debate(layout, 5) for layout in ("peers", "history")}
    return made | {"samples": debate("board", SAMPLES, rounds=1)}


@flow(name="debate-accuracy", flow_run_name=stage.run_name, task_runner=stage.TASK_RUNNER, description=__doc__)
def debate_accuracy(config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    """Debate and verify every cell; returns the totals by cell, fingerprints included."""
    home = stage.prepare_home(config.run)
    problems = stage.load_held_out(config.evaluation.problems, config=config, home=home)
    specs = [
        DebateSpec(
            name=name,
            problems=problems,
            model=TEACHER,
            model_revision=model_files.revision(model_files.resolve(TEACHER)),
            debate=how,
            seed=config.run.seed,
        )
        for name, how in cells().items()
    ]
    return complete_debates(specs, model=TEACHER, engine=config.engine, home=home)


def main() -> None:
    """Debates, then the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--home", type=Path, default=figures.OUT / "accuracy-home")
    parser.add_argument("--out", type=Path, default=figures.OUT)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    config = EvaluateConfig(
        run=RunConfig(name="debate-accuracy", home=str(given.home), seed=1),
        student=TEACHER,
        engine=EngineConfig(max_num_seqs=given.slots, shard_size=125),
        evaluation=EvaluationConfig(problems=ProblemsConfig(split="test", limit=given.questions)),
    )
    made = debate_accuracy(config)
    found = accuracy_report.read(
        given.home.resolve(), runs={name: totals["fingerprint"] for name, totals in made.items()}
    )
    accuracy_report.write(found, docs=given.docs, out=given.out)
    print((given.docs / "debate_accuracy.md").read_text())


if __name__ == "__main__":
    main()
