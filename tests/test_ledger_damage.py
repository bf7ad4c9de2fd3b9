"""The ledger on bad storage: cut tails, flipped bits, forged entries, full disks; and what is cleaned up."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import enlarge
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_helpers import PATIENCE_S, commit, flip_bit, in_child, make_store, make_turn, tree, turn_table, wait

from agentark_core.errors import CorruptData, StorageFull
from agentark_core.ledger import atomic_write_text, canonical_json, table_to_turns, turns_to_table
from agentark_core.ledger.journal import _decode, _encode
from agentark_core.types import Turn


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def test_journal_replays_what_was_appended_also_after_reopening_and_for_the_next_holder(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    records = [{"n": n, "text": "é\0\ud800" * n} for n in range(5)]
    with store.lease("s0", timeout_s=5):
        with store.journal("s0") as journal:
            assert journal.replay() == []
            journal.append(records[:2])
            journal.append([])
            journal.sync()
        with store.journal("s0") as journal:
            journal.append(records[2:4])
    with store.lease("s0", timeout_s=5) as lease, store.journal("s0") as journal:
        assert lease.epoch == 2
        assert journal.replay() == records[:4]
        journal.append(records[4:])
        assert journal.replay() == records
    assert [path.name for path in (store.root / "journals").iterdir()] == ["s0.2.journal"]


def test_journal_needs_the_lease(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(ValueError, match="not leased"):
        store.journal("s0")


def test_tail_cut_at_every_byte_of_the_last_record_loses_only_that_record(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    records = [{"n": n, "text": "word " * 8} for n in range(3)]
    whole = b"".join(map(_encode, records))
    for size in range(len(whole) - len(_encode(records[2])), len(whole)):
        with store.lease("s0", timeout_s=5):
            with store.journal("s0") as journal:
                journal.path.write_bytes(whole[:size])
            with store.journal("s0") as journal:
                assert journal.replay() == records[:2]
                journal.append([records[2]])
                assert journal.replay() == records


@given(
    records=st.lists(st.dictionaries(st.text(), st.text() | st.integers()), min_size=1, max_size=5),
    tail=st.binary(max_size=40) | st.just(b"\0" * 64),
    data=st.data(),
)
@settings(max_examples=60)
def test_a_broken_journal_yields_a_prefix_and_never_a_wrong_record(
    records: list[dict[str, object]], tail: bytes, data: st.DataObject
) -> None:
    whole = b"".join(map(_encode, records))
    assert _decode(whole + tail)[0][: len(records)] == records
    broken = bytearray(whole)
    at = data.draw(st.integers(0, len(broken) - 1))
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    found, size = _decode(bytes(broken))
    assert found == records[: len(found)] and size <= at


def test_a_broken_record_in_the_middle_drops_the_rest_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path)
    with store.lease("s0", timeout_s=5):
        with store.journal("s0") as journal:
            journal.append([{"n": n} for n in range(3)])
            path = journal.path
        flip_bit(path, at=len(_encode({"n": 0})) + 9)
        with store.journal("s0") as journal:
            assert journal.replay() == [{"n": 0}]
    assert "broken record at byte 15, 30 bytes dropped" in caplog.text


def test_a_flipped_bit_anywhere_in_a_part_is_found_and_the_shard_comes_back_from_its_journal(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    turns = [make_turn(f"line {n}", agent=n + 1) for n in range(20)]
    with store.lease("s0", timeout_s=5) as lease, store.journal("s0") as journal:
        journal.append([dataclasses.asdict(turn) for turn in turns])
        journal.sync()
        entry = store.commit("s0", turns_to_table(turns), lease=lease, config_hash="c")
    path = store.root / entry.file
    sound = path.read_bytes()
    for at in range(0, len(sound), max(1, len(sound) // 50)):
        path.write_bytes(sound)
        flip_bit(path, at=at)
        with pytest.raises(CorruptData, match=path.name):
            store.read()
    assert store.mark_corrupt("s0") and not store.complete(["s0"])
    assert (store.root / "manifest" / "s0.corrupt-1").exists()
    with store.lease("s0", timeout_s=5) as lease, store.journal("s0") as journal:
        redone = [Turn(**record) for record in journal.replay()]
        store.commit("s0", turns_to_table(redone), lease=lease, config_hash="c")
    assert table_to_turns(store.read()) == turns
    assert not store.mark_corrupt("s0") and not store.mark_corrupt("never-written")


def test_page_checksums_catch_what_a_forged_sha256_lets_through(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit(store, "s0", turn_table(2000))
    entry = store.entries()["s0"]
    path = store.root / entry.file
    flip_bit(path, at=path.stat().st_size // 4)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    plain = {**dataclasses.asdict(entry), "sha256": sha256, "file": f"part-s0-{sha256}.parquet"}
    path.rename(store.root / plain["file"])
    check = hashlib.sha256(canonical_json(plain).encode()).hexdigest()
    (store.root / "manifest" / "s0.json").write_text(json.dumps({"entry": plain, "check": check}))
    with pytest.raises(CorruptData, match="CRC checksum verification failed"):
        store.read()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"entry": {"file": "../../secret"}, "check": ""}', "null", "\ud7ff{"]
)
def test_a_broken_manifest_entry_is_never_followed(tmp_path: Path, text: str) -> None:
    store = make_store(tmp_path)
    (store.root / "manifest" / "s0.json").write_text(text)
    with pytest.raises(CorruptData, match=r"s0\.json"):
        store.read()
    assert store.mark_corrupt("s0") and store.entries() == {}


def test_a_changed_digit_in_a_manifest_entry_is_found(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit(store, "s0", tokens=1312)
    path = store.root / "manifest" / "s0.json"
    path.write_text(path.read_text().replace("1312", "1912"))
    with pytest.raises(CorruptData):
        store.entries()


def test_truncated_and_missing_parts_are_corrupt_data(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit(store, "s0")
    path = store.root / store.entries()["s0"].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptData, match="sha256"):
        store.read()
    path.unlink()
    with pytest.raises(CorruptData, match="missing"):
        store.read()


def test_orphans_are_collected_when_old_and_committed_files_never(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit(store, "s0")
    kept = tree(store.root)
    orphans = [store.root / "part-s1-00.parquet", store.root / "x.parquet.tmp", store.root / "manifest" / "s1.json.tmp"]
    for orphan in orphans:
        orphan.write_bytes(b"x")
    assert store.collect_orphans() == []
    for orphan in orphans:
        os.utime(orphan, (1, 1))
    assert sorted(store.collect_orphans()) == sorted(orphans)
    assert tree(store.root) == kept


def test_journals_live_until_garbage_is_collected_and_then_only_those_of_sound_shards_go(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for shard in ("s0", "s0.1", "open"):
        with store.lease(shard, timeout_s=5) as lease, store.journal(shard) as journal:
            journal.append([{"n": 1}])
            if shard != "open":
                store.commit(shard, turn_table(), lease=lease, config_hash="c")
    assert len(list((store.root / "journals").iterdir())) == 3
    removed = store.collect_garbage()
    assert sorted(path.name for path in removed) == ["s0.1.1.journal", "s0.1.journal"]
    assert [path.name for path in (store.root / "journals").iterdir()] == ["open.1.journal"]


def noise_table(size_bytes: int) -> pa.Table:
    return turns_to_table([make_turn(os.urandom(size_bytes // 2).hex()[: size_bytes * 2])])


def test_a_full_disk_stops_with_path_and_bytes_and_resumes_when_space_returns(small_disk: Path) -> None:
    store = make_store(small_disk)
    commit(store, "s0")
    sound = store.read()
    big = noise_table(8_000_000)
    with store.lease("s1", timeout_s=5) as lease, store.journal("s1") as journal:
        journal.append([{"n": 1}])
        before = tree(store.root)
        with pytest.raises(StorageFull, match=r"part-s1-\w+\.parquet: No space left on device: \d{7} bytes needed"):
            store.commit("s1", big, lease=lease, config_hash="c")
        with pytest.raises(StorageFull, match=r"s1\.1\.journal.* \d{7} bytes needed"):
            journal.append([{"n": 2, "text": "x" * 4_000_000}])
        with pytest.raises(StorageFull):
            atomic_write_text(small_disk / "report.html", "x" * 4_000_000)
        assert tree(store.root) == before and not (small_disk / "report.html").exists()
        journal.append([{"n": 3}])
        assert journal.replay() == [{"n": 1}, {"n": 3}]
        lease.check()
    assert store.read().equals(sound)
    enlarge(small_disk)
    with store.lease("s1", timeout_s=60) as lease, store.journal("s1") as journal:
        assert journal.replay() == [{"n": 1}, {"n": 3}]
        store.commit("s1", big, lease=lease, config_hash="c")
    assert store.read(shards=["s1"]).equals(big)


def test_a_lease_is_released_on_a_disk_without_one_free_byte(small_disk: Path) -> None:
    store = make_store(small_disk)
    with (
        store.lease("s0", timeout_s=60),
        (small_disk / "filler").open("wb") as filler,
        pytest.raises(OSError, match="No space"),
    ):
        while True:
            os.write(filler.fileno(), b"x" * 4096)
    with pytest.raises(StorageFull), store.lease("s0", timeout_s=60):
        pass
    (small_disk / "filler").unlink()
    with store.lease("s0", timeout_s=60) as lease:
        assert lease.epoch == 2


def test_a_file_size_limit_is_reported_as_storage_full_and_leaves_nothing(tmp_path: Path) -> None:
    def body() -> None:
        store = make_store(tmp_path)
        with store.lease("s0", timeout_s=PATIENCE_S) as lease:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))
            store.commit("s0", noise_table(200_000), lease=lease, config_hash="c")

    assert wait(in_child(body)) == 3
    store = make_store(tmp_path)
    assert store.entries() == {} and not list(store.root.rglob("*.tmp")) and not list(store.root.glob("part-*"))
