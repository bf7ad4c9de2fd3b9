"""How long the report of many debates takes to build and to open, and how large it is.

    python benchmarks/report.py --home agentark-home --run FINGERPRINT --debates 10000

Takes the committed, verified debates of a run, again and again under new ids (questions too), into a ledger of its own,
and writes its report in a process of its own. Repeats do not flatter the size: gzip looks back 32 KB, a run is longer.
Opens every page of the report in headless Chromium --repeat times, until the list of debates stands, and searches all
traces for a word once. Prints JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from agentark_core import records
from agentark_core.ledger import Store
from agentark_core.shards import shard_meta
from agentark_core.stored import latest_verdict_store, read_debates, verdict_store
from agentark_core.types import Debate, Verdict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
RUN, QUESTIONS, SHARD = "00000000000000d1", "00000000000000a1", 256
WRITE = """
import resource, sys
from pathlib import Path
from agentark_core.report.gather import gather
from agentark_core.report.write import write
write(gather(Path(sys.argv[1]), sys.argv[2]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss // 1024, used.ru_utime + used.ru_stime)
"""


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True, help="fingerprint of a verified debate run")
    parser.add_argument("--debates", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5, help="loads of each page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a browser ends later than its parent
        home = Path(folder)
        characters = fill(home, options.home, options.run, debates=options.debates)
        started = time.monotonic()
        command = [sys.executable, "-c", WRITE, str(home), RUN]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        seconds = time.monotonic() - started
        peak, cpu = done.stdout.split()
        pages = sorted((home / "reports" / RUN).glob("*.html"))
        figures: dict[str, Any] = {
            "debates": options.debates,
            "characters of traces": characters,
            "build_s": round(seconds, 1),
            "build_cpu_s": round(float(cpu), 1),
            "peak_mb": int(peak),
            "pages": len(pages),
            "largest_page_bytes": max(page.stat().st_size for page in pages),
            "bytes": sum(page.stat().st_size for page in pages),
            **opened(pages, folder=home, repeat=options.repeat),
        }
    print(json.dumps(figures, indent=2))


def fill(home: Path, source: Path, run: str, *, debates: int) -> int:
    """The same debates under new ids, as often as it takes; returns the characters of all traces."""
    config = Store(source, stage="debates", fingerprint=run).config
    asked = Store(source, stage="problems", fingerprint=config["problems"]).config
    questions = Store(home, stage="problems", fingerprint=QUESTIONS, config=asked)
    store = Store(home, stage="debates", fingerprint=RUN, config={**config, "problems": QUESTIONS})
    pairs = renamed(source, run)
    characters = 0
    for number in itertools.count():
        part = list(itertools.islice(pairs, max(0, min(SHARD, debates - number * SHARD))))
        if not part:
            return characters
        made, shard = [debate for debate, _ in part], f"{number:05d}"
        verdicts = {key: verdict for _, found in part for key, verdict in found.items()}
        characters += sum(len(turn.text) for debate in made for turn in debate.turns)
        put(questions, shard, records.problems_to_table([debate.problem for debate in made]), {})
        put(store, shard, records.debates_to_table(made), shard_meta(made, replayed=0, seconds=1.0, plan=None))
        put(verdict_store(home, debates=RUN), shard, records.verdicts_to_table(verdicts), {})
    raise AssertionError


def renamed(source: Path, run: str) -> Iterator[tuple[Debate, dict[records.TurnKey, Verdict]]]:
    verdicts = records.table_to_verdicts(latest_verdict_store(source, debates=run).read())
    for times in itertools.count():
        for debate in read_debates(source, fingerprint=run):
            work_id = hashlib.sha256(f"{debate.work_id} {times}".encode()).hexdigest()[:32]
            problem = dataclasses.replace(debate.problem, problem_id=f"{debate.problem.dataset}-{work_id[:16]}")
            change: dict[str, Any] = {"work_id": work_id, "problem_id": problem.problem_id}
            turns = tuple(dataclasses.replace(turn, **change) for turn in debate.turns)
            found = {new.key: verdicts[old.key] for old, new in zip(debate.turns, turns, strict=True)}
            yield dataclasses.replace(debate, work_id=work_id, problem=problem, turns=turns), found


def put(store: Store, shard: str, table: Any, meta: dict[str, Any]) -> None:
    with store.lease(shard, timeout_s=5) as lease:
        store.commit(shard, table, lease=lease, config_hash="c", meta=meta)


def opened(pages: list[Path], *, folder: Path, repeat: int) -> dict[str, Any]:
    """Seconds from navigation until the list stands, and of one search through all traces of the first page."""
    from browser import CHROMIUM, browser

    if CHROMIUM is None:
        return {"open_s": None}
    with browser(folder) as tab:
        ready = "document.documentElement?.dataset.ready === 'true'"
        seconds = [tab.open(page.as_uri(), ready=ready) for page in pages for _ in range(repeat)]
        tab.open(pages[0].as_uri(), ready=ready)
        started = time.monotonic()
        tab.eval("document.getElementById('search').value = 'no such words'")
        tab.eval("document.getElementById('filters').requestSubmit()")
        tab.wait("document.getElementById('count').textContent.startsWith('0 of')")
        searched = time.monotonic() - started
    return {
        "open_s": {"median": round(median(seconds), 2), "max": round(max(seconds), 2), "loads": len(seconds)},
        "search_s": round(searched, 2),
    }


if __name__ == "__main__":
    main()
