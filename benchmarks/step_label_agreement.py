"""How well step labels from the evidence of debates agree with exact labels, on arkling debates that a home holds.

    python benchmarks/step_label_agreement.py --home agentark-home --run 7aa52e89872516c9

For the final-round traces of each debate: `evidence` is agentark_core.step_labels.evidence_labels; `trace` gives every
step its trace's verdict, what one has without step labels. Precision: of the steps labelled so, the share that exact
labels call so. Recall: of the steps that exact labels call so, the share labelled so (all final-round steps count,
unlabelled ones too). Intervals are Wilson's, 95 %, as if steps were independent; steps of one debate are not, so the
true ones are wider. Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agentark_core.errors import AgentArkError
from agentark_core.statistics import wilson
from agentark_core.step_labels import evidence_labels, exact_labels
from agentark_core.stored import debate_runs, read_debates, read_verdicts
from agentark_core.types import Debate, Verdict, VerdictLabel

VERDICTS: dict[VerdictLabel, bool | None] = {"correct": True, "incorrect": False, "undecided": None}


def count(debates: Iterable[Debate], verdicts: dict[tuple[str, int, int], Verdict]) -> Counter[tuple[Any, ...]]:
    """How many final-round steps have which (evidence label, its reason, verdict on the trace, exact label)."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for debate in debates:
        turns = debate.final_turns
        labels: list[VerdictLabel] = [verdicts[turn.work_id, turn.round, turn.agent].label for turn in turns]
        question = debate.problem.question
        found = evidence_labels([turn.text for turn in turns], labels, question=question, task=debate.problem.task)
        for turn, verdict, steps in zip(turns, labels, found, strict=True):
            for step, exact in zip(steps, exact_labels(turn.text, question=question), strict=True):
                counts[step.label, step.reason, VERDICTS[verdict], exact.label] += 1
    return counts


def share(successes: int, n: int) -> dict[str, float | int | None]:
    """A proportion with its n and interval; None if n is 0."""
    low, high = wilson(successes, n)
    return {"value": successes / n if n else None, "low": low, "high": high, "n": n}


def agreement(counts: Counter[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Precision and recall of both labels, for both ways to label."""
    rows = []
    for way, field in (("evidence", 0), ("trace", 2)):
        for label in (True, False):
            labelled = sum(n for key, n in counts.items() if key[field] is label)
            wanted = sum(n for key, n in counts.items() if key[3] is label)
            both = sum(n for key, n in counts.items() if key[field] is label and key[3] is label)
            rows.append(
                {
                    "labels": way,
                    "label": "positive" if label else "negative",
                    "precision": share(both, labelled),
                    "recall": share(both, wanted),
                }
            )
    return rows


def main() -> None:
    """Print a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("agentark-home"))
    parser.add_argument("--run", help="fingerprint of a debate run with verdicts (default: the newest)")
    arguments = parser.parse_args()
    runs = debate_runs(arguments.home)
    run = arguments.run or (runs[-1] if runs else None)
    if run not in runs:
        parser.error(f"no debate run {run or ''} under {arguments.home}; there are: {', '.join(runs) or 'none'}")
    try:
        counts = count(read_debates(arguments.home, fingerprint=run), read_verdicts(arguments.home, debates=run))
    except AgentArkError as error:
        parser.error(str(error))
    rows = agreement(counts)
    print(f"{'labels':<10}{'label':<10}{'precision (95 % interval), n':>36}{'recall (95 % interval), n':>36}")
    for row in rows:
        cells = (
            f"{100 * (s['value'] or 0):.2f} ({100 * s['low']:.2f} to {100 * s['high']:.2f}), {s['n']}"
            for s in (row["precision"], row["recall"])
        )
        print(f"{row['labels']:<10}{row['label']:<10}" + "".join(f"{cell:>36}" for cell in cells))
    reasons = Counter[str]()
    for (_, reason, _, exact), n in counts.items():
        reasons[f"{reason}, {'right' if exact else 'wrong'}"] += n
    print(json.dumps({"run": run, "steps": counts.total(), "rows": rows, "reasons": dict(sorted(reasons.items()))}))


if __name__ == "__main__":
    main()
