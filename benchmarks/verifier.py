"""Compare the verifier with plain Math-Verify on recorded answers: right verdicts by task and rows per second.

    python benchmarks/verifier.py ../shared/data/verifier/verifier_cases_dev.jsonl.gz

Both run in one process (ours with one child) within the same minute: `--repeats` passes of each, alternating, the best
pass of each counts, because a shared machine only ever slows a pass down. Plain Math-Verify parses `$gold$` and the
whole response and is not asked about choice letters. Ours then runs again with 1 % hostile answers mixed in.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agentark_core.answers import kind_of
from agentark_core.types import VerdictLabel
from agentark_core.verify import Case, Verifier

HOSTILE = (
    "9^{9^{9}}",
    "5^5^5^5",
    "\\binom{10^8}{5*10^7}",
    "7" * 200_000,
    "+".join(f"x_{{{i}}}" for i in range(20_000)),
    "\\boxed{" * 3_000 + "5" + "}" * 3_000,
    "__import__('os').system('true')",
)


def plain(rows: list[dict[str, Any]]) -> list[bool]:
    """Math-Verify as it stands, without its time-outs."""
    from math_verify import parse, verify

    return [
        verify(
            parse(f"${row['gold']}$", parsing_timeout=0), parse(row["response"], parsing_timeout=0), timeout_seconds=0
        )
        for row in rows
    ]


def ours(cases: list[Case]) -> tuple[list[VerdictLabel], float]:
    """(labels, seconds) with a fresh verifier: nothing cached; the start of the child is not counted."""
    with Verifier(workers=1) as verifier:
        verifier.pool.compare([("x", "y")])
        start = time.perf_counter()
        labels = [verdict.label for verdict in verifier.verify_many(cases)]
        return labels, time.perf_counter() - start


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="?", help="rows {id, task, question, gold, response, label}")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.cases is None:
        print("skipped: the labelled cases are not part of the project; name the file: make bench CASES=FILE")
        return
    logging.disable(logging.CRITICAL)
    opener = gzip.open if arguments.cases.suffix == ".gz" else open
    with opener(arguments.cases, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    cases = [Case(response=r["response"], gold=r["gold"], task=r["task"], question=r["question"]) for r in rows]
    algebra = [k for k, row in enumerate(rows) if kind_of(row["task"]) != "choice"]
    mixed = list(cases)
    for number, index in enumerate(range(0, len(cases), 100)):
        text = HOSTILE[number % len(HOSTILE)]
        mixed.insert(index, Case(response=f"\\boxed{{{text}}}", gold="5", task="math"))

    plain_s, ours_s, mixed_s = [], [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        plain_verdicts = plain([rows[k] for k in algebra])
        plain_s.append(time.perf_counter() - start)
        ours_s.append(ours([cases[k] for k in algebra])[1])
        labels, seconds = ours(cases)
        mixed_s.append((seconds, ours(mixed)[1]))
    wanted = ["correct" if row["label"] else "incorrect" for row in rows]
    right = Counter(row["task"] for row, label, want in zip(rows, labels, wanted, strict=True) if label == want)
    right_plain = Counter(
        rows[k]["task"] for k, equal in zip(algebra, plain_verdicts, strict=True) if equal == rows[k]["label"]
    )
    total = Counter(row["task"] for row in rows)
    report = {
        "rows": dict(total),
        "right": dict(right) | {"without choice": sum(right[t] for t in total if kind_of(t) != "choice")},
        "right_plain": dict(right_plain) | {"without choice": sum(right_plain.values())},
        "rows_without_choice": len(algebra),
        "rows_per_s": round(len(algebra) / min(ours_s)),
        "rows_per_s_plain": round(len(algebra) / min(plain_s)),
        "rows_per_s_all": round(len(cases) / min(clean for clean, _ in mixed_s)),
        "rows_per_s_all_with_1_percent_hostile": round(len(mixed) / min(hostile for _, hostile in mixed_s)),
        "undecided": Counter(labels)["undecided"],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
