"""The ledger under kill -9 and Ctrl-C at every point: real processes on real files.

A child is a fork of the test process. To die at an exact point it wraps the system calls that change files and kills
itself with SIGKILL before the n-th one (in the middle of it, if it is a write), so every point of a commit is tried.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ledger_helpers import PATIENCE_S, at_call, in_child, kill_self, make_store, wait

from agentark_core.errors import EmptyDataset
from agentark_core.ledger import table_to_turns, turns_to_table
from agentark_core.types import Turn

SHARDS = ("s0", "s1", "s2")
KEYS = tuple((f"w{question}", agent) for question in range(3) for agent in (1, 2))
"""Per shard: three questions, two agents; a question's turns are appended as one group."""


def generate(shard: str, key: tuple[str, int], *, counter: Path) -> Turn:
    """Stands for the engine: each call is counted and its text is new, so a duplicate or a mix would show."""
    with counter.open("a") as file:
        file.write(f"{shard}\n")
    work, agent = key
    return Turn(
        work_id=f"{shard}-{work}",
        problem_id=work,
        round=1,
        agent=agent,
        seed=1,
        text=os.urandom(64).hex(),
        answer=None,
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        finish_reason="stop",
        status="ok",
    )


def work(home: Path, *, shards: tuple[str, ...] = SHARDS) -> None:
    """What a stage does: per shard lease, replay, generate what is missing, journal, commit."""
    store = make_store(home)
    for shard in shards:
        if shard in store.entries():
            continue
        with store.lease(shard, timeout_s=PATIENCE_S) as lease, store.journal(shard) as journal:
            done = {(r["problem_id"], r["agent"]): Turn(**r) for r in journal.replay()}
            for start in range(0, len(KEYS), 2):
                group = [key for key in KEYS[start : start + 2] if key not in done]
                turns = [generate(shard, key, counter=home / "generated.txt") for key in group]
                journal.append([{name: getattr(turn, name) for name in Turn.__slots__} for turn in turns])
                journal.sync()
                done |= dict(zip(group, turns, strict=True))
            store.commit(shard, turns_to_table([done[key] for key in KEYS]), lease=lease, config_hash="c")


def generated(home: Path) -> int:
    path = home / "generated.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def committed_keys(home: Path) -> Counter[tuple[str, int]]:
    try:
        turns = table_to_turns(make_store(home).read())
    except EmptyDataset:
        turns = []
    return Counter((turn.work_id, turn.agent) for turn in turns)


EXPECTED = Counter((f"{shard}-{question}", agent) for shard in SHARDS for question, agent in KEYS)


def work_killed_at(home: Path, number: int, *, shards: tuple[str, ...] = SHARDS) -> int:
    """Run `work` in a process that dies at its number-th call; exit code."""

    def body() -> None:
        at_call(number, kill_self, setter=lambda name, call: setattr(os, name, call))
        work(home, shards=shards)

    return wait(in_child(body))


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 leaves the page cache alone, so these tests need no real fsync; test_ledger.py checks its calls."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def test_killed_at_every_single_call_of_the_first_shards_life_a_rerun_completes_without_duplicates(
    tmp_path: Path,
) -> None:
    expected = Counter({key: n for key, n in EXPECTED.items() if key[0].startswith("s0")})
    number = 0
    while True:
        home = tmp_path / str(number)
        code = work_killed_at(home, number, shards=SHARDS[:1])
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert committed_keys(home) in (Counter(), expected)
        started = time.monotonic()
        work(home, shards=SHARDS[:1])
        assert time.monotonic() - started < PATIENCE_S / 4, "a dead process's lease is taken over at once"
        assert committed_keys(home) == expected
        assert generated(home) <= len(KEYS) + 2, "only the group in flight is generated again"
        store = make_store(home)
        store.collect_orphans(min_age_s=0)
        assert len(list(store.root.glob("part-*"))) == 1 and not list(store.root.rglob("*.tmp"))
        assert committed_keys(home) == expected
        number += 1
    assert number > 40


@pytest.mark.parametrize("seed", range(20))
def test_killed_again_and_again_at_random_the_key_set_ends_complete(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    kills = 0
    while work_killed_at(tmp_path, rng.randrange(10, 60)) != 0:
        kills += 1
        assert kills < 100
        assert max(committed_keys(tmp_path).values(), default=1) == 1
    assert kills >= 1
    assert committed_keys(tmp_path) == EXPECTED
    assert generated(tmp_path) <= len(EXPECTED) + 2 * kills


def test_killed_between_rename_and_entry_the_orphan_is_ignored_and_recommitted_without_new_generation(
    tmp_path: Path,
) -> None:

    def body() -> None:
        real = os.link

        def link(source: Any, target: Any) -> None:
            if "manifest" in str(target):
                kill_self()
            real(source, target)

        os.link = link  # type: ignore[assignment]
        work(tmp_path, shards=SHARDS[:1])

    assert wait(in_child(body)) == -signal.SIGKILL
    store = make_store(tmp_path)
    (part,) = store.root.glob("part-*.parquet")
    assert store.entries() == {}
    assert generated(tmp_path) == len(KEYS)
    work(tmp_path, shards=SHARDS[:1])
    assert generated(tmp_path) == len(KEYS)
    assert store.entries()["s0"].file == part.name and store.entries()["s0"].epoch == 2
    assert sum(committed_keys(tmp_path).values()) == len(KEYS)


def test_ctrl_c_at_any_call_of_a_commit_leaves_all_or_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    number, struck = 0, True
    # A shell that starts the tests in the background has SIGINT ignored; Python then installs no handler of its own.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while struck:
        store = make_store(tmp_path / str(number))
        table = turns_to_table([generate("s0", key, counter=tmp_path / "generated.txt") for key in KEYS])
        with store.lease("s0", timeout_s=PATIENCE_S) as lease:
            with pytest.MonkeyPatch.context() as patch:
                at_call(number, lambda: signal.raise_signal(signal.SIGINT), setter=lambda n, c: patch.setattr(os, n, c))
                try:
                    store.commit("s0", table, lease=lease, config_hash="c")
                    struck = False
                except KeyboardInterrupt:
                    pass
            assert store.entries().keys() <= {"s0"}
            store.commit("s0", table, lease=lease, config_hash="c")
        assert store.read().equals(table)
        number += 1
    assert number > 8


def test_leases_journals_and_commits_never_read_the_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise AssertionError("time.time() was called")

    monkeypatch.setattr(time, "time", refuse)
    work(tmp_path)
    assert committed_keys(tmp_path) == EXPECTED
