"""Where step labels come from, on arkling: how often each source is right, and what a reward model learns from it.

    python -m experiments.step_labels_arkling --home HOME --questions 600 --seeds 3

The shipped teacher debates (5 agents, 2 rounds); the same traces are labelled by the evidence of the debate, by
rollouts (8 samples of the teacher from the end of every step), both also as soft labels, and exactly. Up to the first
wrong step of a trace, where all sources mean the same, each is compared with the exact labels; then a process reward
model (likelihood head, cross-entropy, body frozen) learns from it and is measured on fresh solutions to test questions,
as in prm_arkling.py. 95 % intervals: of precision Wilson's, as if steps were independent. Writes step_labels.json to
HOME.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from agentark_core.statistics import wilson
from agentark_core.step_labels import exact_labels
from experiments import prm_arkling, runs

DEBATE = {"num_agents": 5, "num_rounds": 2, "quorum": 0}
SOURCES = ("evidence", "soft_evidence", "rollouts", "soft_rollouts", "exact")
ROLLOUTS = {
    "model": runs.TEACHER,
    "engine": {"max_num_seqs": 256},
    "samples": 8,
    "sampling": {"temperature": 0.7, "max_tokens": 128},
}
PRM = {
    "head": "likelihood",
    "loss": "bce",
    "stage1": {"epochs": 4, "learning_rate": 1e-2},
    "stage2": {"epochs": 0},
    "batch_size": 16,
    "micro_batch_size": 16,
}


def main() -> None:
    """Debate, label, compare, train, measure; print one line for each source and each of its reward models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=600, help="distil questions that are debated")
    parser.add_argument("--held-out", type=int, default=500, help="test questions to sample solutions of")
    parser.add_argument("--samples", type=int, default=4, help="solutions of each")
    parser.add_argument("--selection", type=int, default=100, help="of them, to choose the threshold of first errors")
    parser.add_argument("--base", default="teacher", help="body of the reward models: as of prm_arkling")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    given.run = ""
    base = prm_arkling.body(given.base, folder=given.home)
    traces = prm_arkling.held_out(given)
    debates = runs.debated("debate", DEBATE, questions=given.questions, home=given.home)
    table: list[dict[str, Any]] = []
    for source in given.sources:
        files = labelled(debates, source=source, home=given.home)
        table.append({"source": source} | agreement(files))
        print(json.dumps(table[-1]), flush=True)
        for seed in range(given.seeds):
            folder = given.home / "prm" / f"{source}-{given.questions}-{base.name}-{seed}"
            trained = prm_arkling.train(files, base=base, folder=folder, prm={**PRM, "seed": seed})
            scores = prm_arkling.rewards(Path(trained["model"]), traces)
            figures, _ = prm_arkling.measure(scores, traces, selection=given.selection)
            table.append({"source": source, "seed": seed, "rows": trained["traces"], **figures})
            print(json.dumps(table[-1]), flush=True)
        (given.home / "step_labels.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def labelled(debates: str, *, source: str, home: Path) -> list[Path]:
    """The Parquet parts of the kind `process` with labels of one source."""
    examples: dict[str, Any] = {"step_labels": source}
    if source.endswith("rollouts"):
        examples["rollouts"] = ROLLOUTS
    config = {
        "run": {"name": source, "home": str(home)},
        "traces": [debates],
        "prompts": "arkling",
        "examples": examples,
    }
    runs.agentark("extract", config, folder=home)
    (folder,) = (
        path.parent
        for path in (home / "ledger").glob("process-*/config.json")
        if (shape := json.loads(path.read_bytes()))["debates"] == debates and shape["options"]["step_labels"] == source
    )
    return sorted(folder.glob("*.parquet"))


def agreement(files: list[Path]) -> dict[str, Any]:
    """The labels beside exact ones, of all steps up to the first wrong one: the share that has a label, and of those
    called right and of those called wrong the share that is."""
    steps = [step for file in files for row in pq.read_table(file).to_pylist() for step in _until_wrong(row)]
    found: dict[str, Any] = {"steps": len(steps), "wrong": sum(not right for _, right in steps)}
    found["labelled"] = _share([label is not None for label, _ in steps])
    found["called_right"] = _share([right for label, right in steps if label is not None and label >= 0.5])
    found["called_wrong"] = _share([not right for label, right in steps if label is not None and label < 0.5])
    return found


def _until_wrong(row: dict[str, Any]) -> Iterator[tuple[float | None, bool]]:
    """(label or None, whether it is right) of the steps of one trace, the first wrong one included."""
    text, question = "".join(row["completions"]), row["prompt"][0]["content"]
    for exact, label, weight in zip(exact_labels(text, question=question), row["labels"], row["weights"], strict=True):
        yield (label if weight else None), exact.label is True
        if not exact.label:
            return


def _share(outcomes: list[bool]) -> dict[str, float]:
    low, high = wilson(sum(outcomes), len(outcomes))
    return {"value": sum(outcomes) / max(1, len(outcomes)), "low": low, "high": high, "n": len(outcomes)}


if __name__ == "__main__":
    main()
