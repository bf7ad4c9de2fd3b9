"""Compare the verifier with plain Math-Verify on recorded answers: right verdicts by task and answers per second.

    python benchmarks/verifier.py ../shared/data/verifier/verifier_cases_dev.jsonl.gz

Plain Math-Verify parses `$gold$` and the whole response, without its time-outs, in a multiprocessing pool of 1 or
`--workers` fresh processes; it is not asked about choice letters. Ours runs as in production, with all its guards: the
rules in this process, algebra in 1 or `--workers` children (with 1 the two never work at the same time). Imports and
the start of processes are not counted, nothing is cached before a pass. Passes alternate, so that both see the same
load of the machine; a ratio is the median of the pairs, with their range. Then the same for ours with 1 % hostile
answers mixed in, each a new one, over `--copies` of the rows; there the range is a 95 % bootstrap of the median. By
wall clock, and by CPU seconds of this process, which a loaded machine disturbs less (hostile_methods shows what reached
the children: math_verify, timeout, memory, unparsed).
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import multiprocessing
import random
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from agentark_core.answers import kind_of
from agentark_core.statistics import wilson
from agentark_core.types import Verdict
from agentark_core.verify import Case, Verifier

Row = dict[str, Any]


def plain(row: Row) -> bool:
    """Math-Verify as it stands, without its time-outs."""
    from math_verify import parse, verify

    gold, answer = parse(f"${row['gold']}$", parsing_timeout=0), parse(row["response"], parsing_timeout=0)
    return verify(gold, answer, timeout_seconds=0)


def _warm() -> None:
    logging.disable(logging.CRITICAL)
    plain({"gold": "1", "response": "$1$"})


def time_plain(rows: list[Row], *, workers: int) -> tuple[list[bool], float]:
    """(verdicts, seconds) of fresh processes."""
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_warm) as pool:
        pool.map(plain, [{"gold": "1", "response": "$1$"}] * 50 * workers, chunksize=1)  # all have started
        start = time.perf_counter()
        return pool.map(plain, rows, chunksize=32), time.perf_counter() - start


def time_ours(cases: list[Case], *, workers: int) -> tuple[list[Verdict], float, float]:
    """(verdicts, seconds, CPU seconds of this process) of a fresh verifier."""
    with Verifier(workers=workers) as verifier:
        verifier.pool.compare([(f"x+{k}", "y") for k in range(200 * workers)])
        start, used = time.perf_counter(), time.process_time()
        verdicts = verifier.verify_many(cases)
        return verdicts, time.perf_counter() - start, time.process_time() - used


def hostile(rng: random.Random) -> Case:
    """A new hostile answer, in one of the ways a response states an answer."""
    a, b, c = (rng.randint(3, 9) for _ in range(3))
    n = rng.randint(0, 999)
    text = rng.choice(
        [
            f"{a}^{{{b}^{{{c}}}}}", f"{a}^{b}^{c}^{a}", f"\\binom{{10^8}}{{{n}*10^5}}", str(n) + "7" * 200_000,
            "+".join(f"x_{{{n + i}}}" for i in range(20_000)), "\\boxed{" * 3_000 + str(n) + "}" * 3_000,
            f"__import__('os').system('true {n}')",
        ]
    )  # fmt: skip
    response = (
        rng.choice(["So it is $\\boxed{%s}$.", "The answer is $%s$.", "Thus\n#### %s", "We get $x = %s$."]) % text
    )
    return Case(response=response, gold=str(n), task=rng.choice(["math", "gsm8k"]))


def with_hostile(cases: list[Case], *, seed: int) -> list[Case]:
    """One hostile answer after every 99 cases."""
    rng = random.Random(seed)
    mixed: list[Case] = []
    for index in range(0, len(cases), 99):
        mixed += [*cases[index : index + 99], hostile(rng)]
    return mixed


def spread(ratios: list[float]) -> str:
    """`median [lowest, highest] of n pairs`."""
    return f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] of {len(ratios)} pairs"


def bootstrap(ratios: list[float]) -> str:
    """`median [95 % interval] of n pairs`."""
    rng = random.Random(0)
    medians = sorted(median(rng.choices(ratios, k=len(ratios))) for _ in range(2_000))
    return f"{median(ratios):.3f} [{medians[50]:.3f}, {medians[1949]:.3f}] of {len(ratios)} pairs"


def right_by_task(rows: list[Row], verdicts: list[bool]) -> dict[str, int]:
    """Verdicts that agree with the label."""
    return dict(Counter(row["task"] for row, correct in zip(rows, verdicts, strict=True) if correct == row["label"]))


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="?", help="rows {id, task, question, gold, response, label}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--copies", type=int, default=2, help="of the rows in a pass with or without hostile answers")
    arguments = parser.parse_args()
    if arguments.cases is None:
        print("skipped: the labelled cases are not part of the project; name the file: make bench CASES=FILE")
        return
    opener = gzip.open if arguments.cases.suffix == ".gz" else open
    with opener(arguments.cases, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    cases = [Case(response=r["response"], gold=r["gold"], task=r["task"], question=r["question"]) for r in rows]
    algebra = [k for k, row in enumerate(rows) if kind_of(row["task"]) != "choice"]
    asked, asked_cases = [rows[k] for k in algebra], [cases[k] for k in algebra]

    speed = {}
    for workers in (1, arguments.workers):
        pairs = []
        for _ in range(arguments.repeats):
            plain_verdicts, plain_s = time_plain(asked, workers=workers)
            pairs.append((plain_s, time_ours(asked_cases, workers=workers)[1]))
        speed[f"{workers} workers"] = {
            "answers_per_s": round(len(asked) / median(ours_s for _, ours_s in pairs)),
            "answers_per_s_plain": round(len(asked) / median(plain_s for plain_s, _ in pairs)),
            "ratio": spread([plain_s / ours_s for plain_s, ours_s in pairs]),
        }
    ratios, cpu_ratios, methods = [], [], Counter[str]()
    for seed in range(3 * arguments.repeats):
        many = cases * arguments.copies
        mixed = with_hostile(many, seed=seed)
        runs = {}
        for name in ("clean", "mixed") if seed % 2 else ("mixed", "clean"):
            runs[name] = time_ours(many if name == "clean" else mixed, workers=1)
        share = len(mixed) / len(many)
        ratios.append(share * runs["clean"][1] / runs["mixed"][1])
        cpu_ratios.append(share * runs["clean"][2] / runs["mixed"][2])
        methods.update(verdict.method for verdict in runs["mixed"][0][99::100])
    verdicts, *_ = time_ours(cases, workers=1)
    undecided = Counter(r["task"] for r, v in zip(rows, verdicts, strict=True) if v.label == "undecided")
    total = Counter(row["task"] for row in rows)
    right = right_by_task(rows, [verdict.label == "correct" for verdict in verdicts])
    report = {
        "rows": dict(total),
        "right": right | {"without choice": sum(right[t] for t in total if kind_of(t) != "choice")},
        "right_plain": right_by_task(asked, plain_verdicts),
        "wrong": [
            {"task": r["task"], "gold": r["gold"], "extracted": v.extracted, "verdict": v.label, "method": v.method}
            for r, v in zip(rows, verdicts, strict=True)
            if v.label != ("correct" if r["label"] else "incorrect")
        ],
        "undecided": {t: (undecided[t], [round(bound, 4) for bound in wilson(undecided[t], total[t])]) for t in total},
        "methods": dict(Counter(verdict.method for verdict in verdicts)),
        "speed": speed,
        "throughput_with_1_percent_hostile": bootstrap(ratios),
        "by_cpu_of_this_process": bootstrap(cpu_ratios),
        "hostile_methods": dict(methods),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
