"""Tokens generated twice after kill -9 in the middle of a real flow.

    python -m benchmarks.debate.kill

`agentark run build-traces` works on --questions questions; when half of them are finished its whole process group gets
SIGKILL, and the same command is started again until it ends.

Counted are completion tokens. Generated = turns that the first start left in journals and committed parts + turns that
the usage file of the second start counts; minus what is committed in the end, that is whole turns made twice. On top
come the turns that were in flight when the signal came: nobody counted how far they were, so each is taken at its full
length (as the second start made it). The figure is the upper bound, both together over all tokens that are committed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import yaml

from agentark_core.ledger import Store, table_to_turns
from agentark_core.ledger.journal import read_journal
from agentark_core.records import TurnKey
from agentark_core.stored import debate_runs

from . import figures

POLL_S = 0.2
TIMEOUT_S = 600


def config(home: Path, *, questions: int, slots: int) -> dict[str, Any]:
    """The flow's parameters: the shipped teacher, n = 5, K = 3."""
    return {
        "run": {"name": "kill", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": questions},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {
            "num_agents": 5,
            "num_rounds": 3,
            "summariser": "when_split",
            "sampling": {"temperature": 0.9, "max_tokens": 128},
        },
        "engine": {"shard_size": 128, "max_num_seqs": slots, "lease_timeout_s": 10},
    }


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The flow in a process group of its own."""
    words = [sys.executable, "-m", "agentark_core.cli", "run", "build-traces", "--config", str(folder / "config.yaml")]
    with (folder / "flow.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, cwd=Path.cwd(), start_new_session=True)


def usage(home: Path) -> dict[Path, dict[str, Any]]:
    """The usage files of all starts so far."""
    return {path: json.loads(path.read_bytes()) for path in home.glob("ledger/debates-*/usage/*.json")}


def kept_turns(home: Path) -> dict[TurnKey, int]:
    """Completion tokens of every turn in the committed parts and in the journals of the other shards."""
    (run,) = debate_runs(home)
    store = Store(home, stage="debates", fingerprint=run)
    entries = store.entries()
    turns = (
        {(t.work_id, t.round, t.agent): t.completion_tokens for t in table_to_turns(store.read())} if entries else {}
    )
    shards = {path.name.split(".")[0] for path in (store.root / "journals").glob("*.journal")} - entries.keys()
    for shard in shards:
        for turn in read_journal(store.root / "journals", shard):
            turns[(turn["work_id"], turn["round"], turn["agent"])] = turn["completion_tokens"]
    return turns


def in_flight(before: dict[TurnKey, int], after: dict[TurnKey, int], *, running: int) -> float:
    """At most so many tokens were lost in flight: full lengths of the turns that had begun and were not journaled.

    A turn had begun if its question has a journaled turn, and all turns of the round before. `running` requests were
    in the engine by the last usage file; those that cannot be named (questions without any turn) count the mean length.
    """
    sizes: dict[tuple[str, int], int] = {}
    for work_id, round, _ in after:
        sizes[(work_id, round)] = sizes.get((work_id, round), 0) + 1
    done: dict[tuple[str, int], int] = {}
    for work_id, round, _ in before:
        done[(work_id, round)] = done.get((work_id, round), 0) + 1
    started = {work_id for work_id, _ in done}
    begun = [
        tokens
        for (work_id, round, agent), tokens in after.items()
        if (work_id, round, agent) not in before
        and work_id in started
        and (round == 1 or done.get((work_id, round - 1), 0) == sizes[(work_id, round - 1)])
    ]
    return sum(begun) + max(0, running - len(begun)) * mean(after.values())


def measure(*, questions: int, slots: int) -> dict[str, float]:
    """One kill and one rerun."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        (folder / "config.yaml").write_text(yaml.safe_dump(config(home, questions=questions, slots=slots)))
        flow = start(folder)
        deadline = time.monotonic() + TIMEOUT_S
        while sum(data["questions"] for data in usage(home).values()) < questions / 2:
            if flow.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((folder / "flow.log").read_text()[-2000:])
            time.sleep(POLL_S)
        engines = psutil.Process(flow.pid).children(recursive=True)
        os.killpg(flow.pid, signal.SIGKILL)
        flow.wait()
        psutil.wait_procs([p for p in engines if "DebateActor" in p.name() or "EngineCor" in p.name()], timeout=60)
        first = usage(home)
        before = kept_turns(home)
        again = start(folder)
        if again.wait(timeout=TIMEOUT_S):
            raise SystemExit((folder / "flow.log").read_text()[-2000:])
        second = [data for path, data in usage(home).items() if path not in first]
        after = kept_turns(home)
    made = sum(counts["completion_tokens"] for data in second for counts in data["rounds"].values())
    committed = sum(after.values())
    whole = sum(before.values()) + made - committed
    lost = in_flight(before, after, running=sum(data["running"] for data in first.values()))
    return {
        "share": (whole + lost) / committed,
        "committed_tokens": committed,
        "kept_at_the_kill": sum(before.values()),
        "whole_turns_made_twice_tokens": whole,
        "in_flight_tokens_at_most": round(lost),
        "turns": len(after),
        "kept_turns": len(before),
        "missing_keys": len(before.keys() - after.keys()),
    }


def main() -> None:
    """--repeats kills, each with a home of its own."""
    given = figures.arguments(__doc__, repeats=1, questions=1000, slots=64)
    found = [measure(questions=given.questions, slots=given.slots) for _ in range(given.repeats)]
    figure = figures.Figure(
        name="tokens regenerated after kill -9 at half, share (upper bound)",
        values=tuple(one["share"] for one in found),
        goal=0.01,
        details={key: [one[key] for one in found] for key in found[0] if key != "share"},
    )
    figures.report("kill", [figure], out=given.out, settings={"questions": given.questions, "slots": given.slots})


if __name__ == "__main__":
    main()
