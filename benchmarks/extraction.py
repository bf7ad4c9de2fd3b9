"""Extraction at scale: traces -> everything that is learned from them, against pyarrow reading and writing those bytes.

    python benchmarks/extraction.py --questions 342000

A ledger of verified debates is made first (not timed): five agents in one round and a summary, 2M traces at the paper's
342,000 questions. Lengths of traces are log-normal, median 190 words and sigma 0.5 in the log, as GSM8K and MATH
solutions are; each step is a line with an equation. 65 % of the agents are right. Then:

    extract    every shard, all kinds, in one process a core, the question filter included
    pyarrow    the same worker processes read the same parts and write the same output tables, nothing else
    rerun      extract again after 1 % new shards

Prints a table, then one JSON object. Peak memory is the sum over the processes of their own peaks.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq

from agentark_core import question_filter, records
from agentark_core.config import ExamplesConfig
from agentark_core.extraction import KINDS, ExtractJob, extract_shard
from agentark_core.ledger import Store
from agentark_core.stored import verdict_store
from agentark_core.types import Debate, Problem, Turn, Verdict

AGENTS, SHARD = 5, 256
RUN, QUESTIONS = "00000000000000d1", "00000000000000a1"
TEXT = "so then each of the boxes holds a number which we add to what is left from before because it is needed"
WORDS = TEXT.split()


def trace(rng: random.Random, *, answer: int) -> str:
    """A solution of a log-normal number of words with equations among them."""
    words: list[str] = []
    for _ in range(round(math.exp(rng.gauss(math.log(190), 0.5)) / 12)):
        a, b = rng.randrange(2, 99), rng.randrange(2, 99)
        words += [*rng.choices(WORDS, k=7), f"{a} + {b} = {a + b}.\n"]
    return " ".join([*words, f"The answer is \\boxed{{{answer}}}."])


def make_shard(home: Path, number: int, questions: int) -> None:
    """Commit the questions, debates and verdicts of one shard."""
    rng = random.Random(number)
    debates, verdicts = [], {}
    for place in range(questions):
        gold = rng.randrange(10_000)
        asked = " ".join([*rng.choices(WORDS, k=30), *(str(rng.randrange(999)) for _ in range(4))])
        problem = Problem(
            problem_id=f"s-{number:08x}{place:08x}", dataset="s", task="number", question=f"{asked}?", gold=str(gold)
        )
        turns = []
        for agent in range(AGENTS + 1):
            answer = gold if rng.random() < 0.65 else rng.randrange(10_000)
            turn = Turn(
                work_id=f"w-{number:08x}{place:08x}",
                problem_id=problem.problem_id,
                round=1 if agent else 2,
                agent=agent,
                seed=1,
                text=trace(rng, answer=answer),
                answer=str(answer),
                prompt_tokens=100,
                cached_tokens=0,
                completion_tokens=200,
                finish_reason="stop",
                status="ok",
                role="agent" if agent else "summariser",
            )
            label = "correct" if answer == gold else "incorrect"
            verdicts[(turn.work_id, turn.round, agent)] = Verdict(label=label, method="number", extracted=str(answer))  # type: ignore[arg-type]
            turns.append(turn)
        turns.sort(key=lambda turn: turn.round)
        debates.append(
            Debate(work_id=turns[0].work_id, problem=problem, turns=tuple(turns), stop_reason="rounds", answer=None)
        )
    shard = f"{number:05d}"
    for store, table in (
        (Store(home, stage="problems", fingerprint=QUESTIONS), records.problems_to_table([d.problem for d in debates])),
        (Store(home, stage="debates", fingerprint=RUN), records.debates_to_table(debates)),
        (verdict_store(home, debates=RUN), records.verdicts_to_table(verdicts)),
    ):
        with store.lease(shard, timeout_s=60) as lease:
            store.commit(shard, table, lease=lease, config_hash="c")


def rewrite(job: ExtractJob, shard: str) -> None:
    """What pyarrow alone needs: read the parts of one shard, write the output tables."""
    stores = [
        Store(job.home, stage="problems", fingerprint=QUESTIONS),
        Store(job.home, stage="debates", fingerprint=RUN),
        verdict_store(job.home, debates=RUN),
    ]
    for store in stores:
        entry = store.entry(shard)
        assert entry is not None
        pq.read_table(store.root / entry.file)
    for kind in KINDS:
        entry = job.store(kind).entry(shard)
        assert entry is not None
        table = pq.read_table(job.store(kind).root / entry.file)
        pq.write_table(table, job.home / f"{kind}-{shard}.parquet", compression="zstd")


def peak_mb(_: int) -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Make, extract, compare, grow, extract again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=34_200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    shards = math.ceil(given.questions / SHARD)
    new = max(1, shards // 100)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(given.workers, mp_context=context) as pool:
        home = Path(folder)
        Store(home, stage="problems", fingerprint=QUESTIONS, config={})
        Store(home, stage="debates", fingerprint=RUN, config={"problems": QUESTIONS, "dataset": "s"})
        verdict_store(home, debates=RUN)
        list(pool.map(make_shard, [home] * shards, range(shards), [SHARD] * shards))

        def extract() -> tuple[float, int]:
            start = time.monotonic()
            dropped = question_filter.dropped_questions(home, runs=[RUN], tests=[])
            job = ExtractJob(
                home=home, debates=RUN, dropped=dropped.fingerprint, config=ExamplesConfig(), wording="general"
            )
            rows = list(pool.map(extract_shard, [job] * shards, job.missing()))
            return time.monotonic() - start, sum(row["rsft"] + row["augmentation"] for row in rows)

        seconds, rows = extract()
        peak = sum(pool.map(peak_mb, range(given.workers))) + peak_mb(0)
        dropped = question_filter.dropped_questions(home, runs=[RUN], tests=[])
        job = ExtractJob(
            home=home, debates=RUN, dropped=dropped.fingerprint, config=ExamplesConfig(), wording="general"
        )
        names = sorted(job.store("rsft").committed())
        start = time.monotonic()
        list(pool.map(rewrite, [job] * len(names), names))
        pyarrow_s = time.monotonic() - start
        list(pool.map(make_shard, [home] * new, range(shards, shards + new), [SHARD] * new))
        rerun_s, _ = extract()
        size = sum(path.stat().st_size for path in home.glob("ledger/debates-*/part-*.parquet"))
    found = {
        "questions": shards * SHARD,
        "traces": shards * SHARD * (AGENTS + 1),
        "debates_mb": round(size / 1e6),
        "rows": rows,
        "extract_s": round(seconds, 1),
        "traces_per_s": round(shards * SHARD * (AGENTS + 1) / seconds),
        "pyarrow_s": round(pyarrow_s, 1),
        "pyarrow_over_extract": round(pyarrow_s / seconds, 3),
        "rerun_s": round(rerun_s, 2),
        "rerun_share": round(rerun_s / seconds, 4),
        "peak_rss_mb": round(peak),
    }
    for name, value in found.items():
        print(f"{name:>22}  {value:,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
