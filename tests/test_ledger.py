"""The ledger in one process: keys, rows, commits, reading, names, atomic writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ledger_helpers import commit, make_store, make_turn, tree, turn_table

from agentark_core.errors import ConfigError, DataError, EmptyDataset, InvalidName, StaleEpoch
from agentark_core.ledger import (
    Store,
    atomic_write_json,
    atomic_write_text,
    canonical_json,
    fingerprint,
    request_seed,
    table_to_turns,
    turns_to_table,
    work_id,
)

HOSTILE_NAMES = [
    "../x",
    "..\\x",
    "..",
    ".",
    "",
    "%2e%2e%2f",
    "%252e%252e%252f",
    "file:///etc/passwd",
    "a\0b",
    "a" * 300,
    "abc\u202egnp",
    "-rf",
    "/abs",
    "a\n",
    "a..b",
]
WORK: dict[str, Any] = dict(
    dataset_revision="d1",
    row_hash="r1",
    teacher_revision="t1",
    prompt_hash="p1",
    sampling={"temperature": 0.9},
    code_schema=1,
)


def test_fingerprint_changes_with_every_part_and_ignores_key_order() -> None:
    base = fingerprint("traces", config={"a": 1, "b": 2}, parents=["x"])
    assert base == fingerprint("traces", parents=("x",), config={"b": 2, "a": 1})
    assert len(base) == 16
    others = [
        fingerprint("sft", config={"a": 1, "b": 2}, parents=["x"]),
        fingerprint("traces", config={"a": 1, "b": 3}, parents=["x"]),
        fingerprint("traces", config={"a": 1, "b": 2}, parents=["y"]),
        fingerprint("traces", config={"a": 1, "b": 2}, parents=["x"], schema_version=2),
    ]
    assert len({base, *others}) == 5


def test_fingerprint_is_the_same_in_another_process_and_hash_seed() -> None:
    code = "from agentark_core.ledger.keys import fingerprint; print(fingerprint('s', a={'x': 0.1, 'y': None}))"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert out.stdout.strip() == fingerprint("s", a={"x": 0.1, "y": None})


def test_work_id_depends_on_each_of_its_parts() -> None:
    ids = {work_id(**WORK)} | {work_id(**{**WORK, key: "other"}) for key in WORK}
    assert len(ids) == 1 + len(WORK)
    assert all(len(key) == 32 for key in ids)


def test_request_seeds_are_31_bit_deterministic_and_distinct() -> None:
    seeds = [
        request_seed("w", round=round, agent=agent, base_seed=base)
        for round in range(1, 9)
        for agent in range(64)
        for base in (0, 1)
    ]
    assert seeds[0] == request_seed("w", round=1, agent=0, base_seed=0)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_nan_has_no_canonical_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"lr": float("nan")})


@pytest.mark.parametrize(
    "text",
    ["", "\0", "a\0b", "\u202eabc", "👩‍👩‍👧", "e" + "\u0301" * 500, "x" * 1_000_000, "\r\n\t", "<|im_end|>\ufeff"],
)
def test_texts_round_trip_byte_exact_through_a_committed_part(tmp_path: Path, text: str) -> None:
    turns = [make_turn(text), dataclasses.replace(make_turn(agent=2), answer=None, status="no_answer")]
    store = make_store(tmp_path)
    commit(store, "s0", turns_to_table(turns))
    assert table_to_turns(store.read()) == turns


def test_half_a_surrogate_pair_is_refused_by_key() -> None:
    with pytest.raises(DataError, match=r"w7, round 2, agent 3.*text.*surrogate"):
        turns_to_table([make_turn(), make_turn("a\ud800b", work="w7", round=2, agent=3)])


def test_no_turns_make_an_empty_table() -> None:
    assert table_to_turns(turns_to_table([])) == []


def test_committed_rows_are_read_back_with_their_entry(tmp_path: Path) -> None:
    store = make_store(tmp_path, temperature=0.9)
    commit(store, "s1", ok=3)
    commit(store, "s0", ok=2)
    entries = Store(tmp_path, stage="traces", fingerprint=store.fingerprint).entries()
    assert list(entries) == ["s0", "s1"]
    entry = entries["s1"]
    assert (entry.rows, entry.epoch, entry.config_hash, entry.meta) == (3, 1, "c", {"ok": 3})
    assert entry.schema["text"] == "large_string"
    assert hashlib.sha256((store.root / entry.file).read_bytes()).hexdigest() == entry.sha256
    assert {turn.work_id for turn in table_to_turns(store.read())} == {"s0", "s1"}
    assert store.read(shards=["s1"], columns=["work_id"]).to_pydict() == {"work_id": ["s1"] * 3}
    assert [table.num_rows for table in store.batches()] == [3, 3]
    assert store.config == {"temperature": 0.9}


def test_a_second_commit_returns_the_standing_entry(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit(store, "s0")
    before = tree(store.root / "manifest") | set(store.root.glob("*.parquet"))
    with store.lease("s0", timeout_s=5) as lease:
        entry = store.commit("s0", turn_table(7), lease=lease, config_hash="other")
    assert entry == store.entries()["s0"] and entry.rows == 3
    assert tree(store.root / "manifest") | set(store.root.glob("*.parquet")) == before


def test_commit_is_flushed_before_each_name_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path)
    calls: list[str] = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    with store.lease("s0", timeout_s=60) as lease:
        for name in ("write", "fsync", "rename", "link"):
            spy(name)
        store.commit("s0", turn_table(), lease=lease, config_hash="c")
        monkeypatch.undo()
    assert calls == ["write", "fsync", "rename", "fsync", "write", "fsync", "link", "fsync"]


def test_a_lease_covers_only_its_shard_its_store_and_its_time(tmp_path: Path) -> None:
    store, other = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    with store.lease("s0", timeout_s=5) as lease:
        for wrong_store, shard in ((store, "s1"), (other, "s0")):
            with pytest.raises(ValueError, match="does not cover"):
                wrong_store.commit(shard, turn_table(), lease=lease, config_hash="c")
    with pytest.raises(StaleEpoch):
        store.commit("s0", turn_table(), lease=lease, config_hash="c")
    assert store.entries() == {} and not list(store.root.glob("part-*"))


def test_a_holder_that_slept_while_its_journal_was_removed_hears_that_its_epoch_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path)
    real = os.open
    with store.lease("s0", timeout_s=5) as lease:

        def open_after_a_successor(path: object, *args: int, **kwargs: object) -> int:
            if str(path).endswith(".1.journal") and not (lease.folder / "s0.2").exists():
                Path(str(path)).unlink()
                (lease.folder / "s0.2").touch()
            return real(path, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr("agentark_core.ledger.journal.os.open", open_after_a_successor)
        with pytest.raises(StaleEpoch, match="epoch 1 is over"), store.journal("s0"):
            pass


def test_digest_names_the_data_not_the_way_there(tmp_path: Path) -> None:
    one, two = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    empty = one.digest()
    for shard in ("s0", "s1"):
        commit(one, shard)
    for shard in ("s1", "s0"):
        with two.lease(shard, timeout_s=5):
            pass
        commit(two, shard)
    assert one.digest() == two.digest() != empty
    assert two.entries()["s0"].epoch == 2


def test_complete_and_finished_follow_the_manifest(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert store.finished() is None and not store.complete(["s0"])
    commit(store, "s0")
    store.finish({"rows": 3})
    assert store.finished() == {"rows": 3} and store.complete(["s0"])
    assert not store.complete(["s0", "s1"])
    commit(store, "s1")
    assert store.finished() is None


def test_reading_nothing_or_an_unknown_shard_or_stage_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(EmptyDataset, match="run the stage first"):
        store.read()
    with pytest.raises(DataError, match="'s9' is not committed"):
        store.read(shards=["s9"])
    before = tree(tmp_path)
    with pytest.raises(DataError, match="no such stage"):
        Store(tmp_path, stage="traces", fingerprint="feedfeedfeedfeed")
    assert tree(tmp_path) == before


def test_a_column_of_nulls_in_one_shard_takes_the_type_of_the_others(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit(store, "s0", pa.table({"answer": [None, None]}))
    commit(store, "s1", pa.table({"answer": ["4"]}))
    assert store.read()["answer"].to_pylist() == [None, None, "4"]


def test_another_config_under_the_same_fingerprint_is_refused_by_key(tmp_path: Path) -> None:
    make_store(tmp_path, sampling={"temperature": 0.9, "stops": []}, models=("a", "b"))
    make_store(tmp_path, models=["a", "b"], sampling={"stops": [], "temperature": 0.9})
    with pytest.raises(ConfigError, match=r"sampling\.temperature was 0\.9 and is now 0\.7"):
        make_store(tmp_path, sampling={"temperature": 0.7, "stops": []}, models=("a", "b"))
    with pytest.raises(ConfigError, match="seed was absent and is now 1"):
        make_store(tmp_path, sampling={"temperature": 0.9, "stops": []}, models=("a", "b"), seed=1)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_refused_and_nothing_is_created(tmp_path: Path, name: str) -> None:
    home = tmp_path / "deep" / "home"
    with pytest.raises(InvalidName):
        Store(home, stage=name, fingerprint="00", config={})
    with pytest.raises(InvalidName):
        Store(home, stage="traces", fingerprint=name, config={})
    assert tree(tmp_path) == set()
    store = make_store(home)
    before = tree(tmp_path)
    with pytest.raises(InvalidName), store.lease(name, timeout_s=5):
        pass
    with pytest.raises(InvalidName):
        store.mark_corrupt(name)
    with pytest.raises(InvalidName):
        store.write_json(name, {})
    with pytest.raises(InvalidName):
        store.read(shards=[name])
    assert tree(tmp_path) == before


def test_atomic_writes_replace_and_leave_no_temporary_file(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a.txt", "old é\n")
    atomic_write_text(tmp_path / "a.txt", "new é\n")
    atomic_write_json(tmp_path / "a.json", {"b": 1, "a": [None]})
    assert (tmp_path / "a.txt").read_bytes() == "new é\n".encode()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None], "b": 1}
    with pytest.raises(ValueError, match="JSON"):
        atomic_write_json(tmp_path / "a.json", float("nan"))
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.json"}
