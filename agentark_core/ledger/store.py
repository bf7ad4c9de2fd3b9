"""One stage's committed data: `<home>/ledger/<stage>-<fingerprint>/`.

    config.json                        the resolved config that shaped the data; another config is refused (F20)
    part-<shard>-<sha256>.parquet      rows; counts only if the manifest names it
    manifest/<shard>.json              {entry: {shard, file, rows, sha256, schema, config_hash, epoch, meta}, check}
    journals/  leases/                 see journal.py and lease.py
    finished.json                      totals of the whole stage

Commit = part to a temporary file, fsync, rename, fsync of the folder, then the manifest entry by link(). A crash
leaves a temporary file, or a part without an entry (F02), or a commit. A holder whose lease moved on is refused
(F17); should it be stopped between that check and the link(), link() still lets only one entry stand.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentark_core.config import check_name
from agentark_core.errors import ConfigError, CorruptData, DataError, EmptyDataset, InvalidName
from agentark_core.ledger.files import atomic_write_json, fsync_folder, put_if_absent, storage_errors, write_durable
from agentark_core.ledger.journal import Journal, Record, journal_path, read_journal
from agentark_core.ledger.keys import canonical_json
from agentark_core.ledger.lease import Lease, acquire, heartbeat, latest_epoch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """One committed shard. schema maps column to Arrow type; epoch is that of the lease that committed it."""

    shard: str
    file: str
    rows: int
    sha256: str
    schema: dict[str, str]
    config_hash: str
    epoch: int
    meta: dict[str, Any]


class Store:
    """A stage's folder. With config it is made if need be; without, it is opened for reading and must exist.

    config is plain JSON data and holds only what shapes the rows (not, say, the number of engines).
    run_id tells a refused second run who holds a lease. `root` is the folder.

    Raises InvalidName (F22), ConfigError if the folder was made with another config, DataError if there is none.
    """

    def __init__(
        self, home: Path, *, stage: str, fingerprint: str, config: dict[str, Any] | None = None, run_id: str = ""
    ) -> None:
        self.stage = stage
        self.fingerprint = fingerprint
        self.run_id = run_id
        self.root = Path(home) / "ledger" / f"{_safe(stage)}-{_safe(fingerprint)}"
        self._held: dict[str, Lease] = {}
        config_path = self.root / "config.json"
        if config is not None:
            self._make_folders()
            put_if_absent(config_path, json.dumps(config, sort_keys=True, indent=2, allow_nan=False).encode())
            _check_same_config(config_path, self.config, config)
        elif not config_path.exists():
            raise DataError(f"{self.root}: no such stage in the ledger; build it first, or check the fingerprint")

    @property
    def config(self) -> dict[str, Any]:
        """The config that the folder was made with."""
        config: dict[str, Any] = json.loads((self.root / "config.json").read_bytes())
        return config

    # ---- writing ----

    @contextmanager
    def lease(self, shard: str, *, timeout_s: float) -> Iterator[Lease]:
        """Hold shard for writing. Raises AlreadyRunning naming the live holder (F16), InvalidName, StorageFull."""
        with acquire(self.root / "leases", _safe(shard), timeout_s=timeout_s, run_id=self.run_id) as lease:
            self._held[shard] = lease
            try:
                yield lease
            finally:
                del self._held[shard]

    def journal(self, shard: str) -> Journal:
        """The journal of a shard leased through this store, with what earlier holders finished."""
        if shard not in self._held:
            raise ValueError(f"{shard}: not leased through this store; enter store.lease({shard!r}) first")
        return Journal(self.root / "journals", lease=self._held[shard])

    def commit(
        self, shard: str, table: pa.Table, *, lease: Lease, config_hash: str, meta: dict[str, Any] | None = None
    ) -> ManifestEntry:
        """Make table the committed rows of shard; a shard that has an entry keeps it, and that entry is returned.

        Raises StaleEpoch if the lease moved on, StorageFull with nothing half-committed, CorruptData if the standing
        entry is unreadable.
        """
        if lease.shard != shard or lease.folder != self.root / "leases":
            raise ValueError(f"the lease of {lease.shard} in {lease.folder} does not cover shard {shard}")
        lease.check()
        if standing := self.entry(shard):
            return standing
        data = to_parquet(table)
        sha256 = hashlib.sha256(data).hexdigest()
        entry = ManifestEntry(
            shard=shard,
            file=_part_name(shard, sha256),
            rows=table.num_rows,
            sha256=sha256,
            schema={field.name: str(field.type) for field in table.schema},
            config_hash=config_hash,
            epoch=lease.epoch,
            meta=meta or {},
        )
        plain = dataclasses.asdict(entry)
        text = canonical_json({"entry": plain, "check": _check(plain)})
        write_durable(self.root / entry.file, data)
        lease.check()
        if not put_if_absent(self._entry_path(shard), text.encode()):
            lease.check()
        committed = self.entry(shard)
        if committed is None:
            raise CorruptData(f"{self._entry_path(shard)}: set aside while it was written; run again")
        return committed

    def finish(self, record: dict[str, Any]) -> None:
        """Write the stage's totals; they hold for the manifest as it stands now."""
        self.write_json("finished.json", {"digest": self.digest(), "record": record})

    def write_json(self, name: str, data: Any) -> None:
        """Replace a JSON file in the stage's folder, atomically."""
        atomic_write_json(self.root / _safe(name), data)

    # ---- reading: the manifest, nothing else ----

    def entries(self) -> dict[str, ManifestEntry]:
        """Committed shards in name order. CorruptData names a manifest file that fails its checksum."""
        names = sorted(path.name for path in (self.root / "manifest").glob("*.json"))
        found = {name: self.entry(name) for name in (name.removesuffix(".json") for name in names)}
        return {shard: entry for shard, entry in found.items() if entry is not None}

    def entry(self, shard: str) -> ManifestEntry | None:
        """The entry of one shard; None if it is not committed. CorruptData if the entry fails its checksum."""
        path = self._entry_path(_safe(shard))
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            stored = json.loads(data)
            entry = ManifestEntry(**stored["entry"])
            sound = stored["check"] == _check(stored["entry"]) and entry.file == _part_name(shard, entry.sha256)
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise _corrupt(path, "the manifest entry fails its checksum")
        return entry

    def committed(self) -> set[str]:
        """Names of the committed shards, without a look into their entries."""
        return {path.name.removesuffix(".json") for path in (self.root / "manifest").glob("*.json")}

    def batches(self, shards: Iterable[str] | None = None, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """One verified table per committed shard, in name order, so that memory holds one shard.

        Raises CorruptData naming the file (F24), DataError for a shard that is not committed.
        """
        for shard in sorted(self.committed()) if shards is None else shards:
            entry = self.entry(shard)
            if entry is None:
                raise DataError(f"{self.root}: shard {shard!r} is not committed; run the stage again")
            yield self._load(entry, columns=columns)

    def read(self, shards: Iterable[str] | None = None, columns: list[str] | None = None) -> pa.Table:
        """All (or the named) committed rows, verified. Raises as `batches`; EmptyDataset if there is no shard."""
        tables = list(self.batches(shards, columns))
        if not tables:
            raise EmptyDataset(f"{self.root}: no shard is committed; run the stage first")
        return pa.concat_tables(tables, promote_options="default")  # a column of nulls only takes the others' type

    def complete(self, expected_shards: Iterable[str]) -> bool:
        """Whether every expected shard is committed."""
        return set(expected_shards) <= self.entries().keys()

    def digest(self) -> str:
        """sha256 over what is committed, for lineage. Epochs are left out: a crash on the way changes no data."""
        parts = [[e.shard, e.sha256, e.rows, e.config_hash] for e in self.entries().values()]
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()

    def finished(self) -> dict[str, Any] | None:
        """The record of `finish`, unless it is missing or the manifest has changed since."""
        try:
            data = json.loads((self.root / "finished.json").read_bytes())
        except FileNotFoundError:
            return None
        record: dict[str, Any] | None = data["record"] if data["digest"] == self.digest() else None
        return record

    # ---- looking at work in progress: no lease is taken, nothing is changed ----

    def journaled(self, shard: str) -> list[Record]:
        """What the journal of shard holds so far, oldest first; its holder may be writing on. See `read_journal`."""
        return read_journal(self.root / "journals", _safe(shard))

    def heartbeat(self, shard: str) -> str | None:
        """None if no process holds shard, else what its holder changes every second. See `lease.heartbeat`."""
        return heartbeat(self.root / "leases", _safe(shard))

    # ---- mending and cleaning ----

    def mark_corrupt(self, shard: str) -> bool:
        """Check one shard again and, if it fails, set its entry aside as `<shard>.corrupt-<n>`; True if it did.

        The shard then counts as not committed: lease it, replay its journal (kept until `collect_garbage`), redo what
        is missing, commit. Safe to call on every shard, also from two processes.
        """
        try:
            entry = self.entry(shard)
            if entry is not None:
                self._load(entry, columns=None)
            return False
        except CorruptData:
            path, number = self._entry_path(shard), 1
            while (aside := path.with_name(f"{shard}.corrupt-{number}")).exists():
                number += 1
            path.rename(aside)
            fsync_folder(path.parent)
            return True

    def collect_orphans(self, min_age_s: float = 86400) -> list[Path]:
        """Delete temporary files and parts without an entry that are older than min_age_s; returns them.

        The age only spares a commit in progress; it compares this host's clock with the file system's.
        """
        referenced = {entry.file for entry in self.entries().values()}
        parts = [path for path in self.root.glob("part-*.parquet") if path.name not in referenced]
        now = time.time()
        orphans = []
        for path in [*parts, *self.root.rglob("*.tmp")]:
            try:
                if now - path.stat().st_mtime >= min_age_s:
                    path.unlink()
                    orphans.append(path)
            except FileNotFoundError:  # its writer finished or another collector was faster
                continue
        return orphans

    def collect_garbage(self) -> list[Path]:
        """Delete the journals of committed shards whose parts are sound; returns them. Then only regeneration mends."""
        removed = []
        for entry in self.entries().values():
            self._load(entry, columns=None)
            for epoch in range(1, latest_epoch(self.root / "leases", entry.shard) + 1):
                path = journal_path(self.root / "journals", entry.shard, epoch)
                if path.exists():
                    path.unlink()
                    removed.append(path)
        return removed

    # ---- inside ----

    def _make_folders(self) -> None:
        folders = [self.root / name for name in ("manifest", "journals", "leases")]
        if all(folder.is_dir() for folder in folders):
            return
        with storage_errors(self.root, 0):
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.root, self.root.parent, self.root.parent.parent):
                fsync_folder(folder)

    def _entry_path(self, shard: str) -> Path:
        return self.root / "manifest" / f"{shard}.json"

    def _load(self, entry: ManifestEntry, *, columns: list[str] | None) -> pa.Table:
        """The rows of a part. The bytes that are parsed are those that were hashed."""
        path = self.root / entry.file
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _corrupt(path, "the file is missing") from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _corrupt(path, "sha256 differs from the manifest")
        try:
            table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise _corrupt(path, str(error).splitlines()[0]) from error
        if table.num_rows != entry.rows:
            raise _corrupt(path, f"{table.num_rows} rows instead of {entry.rows}")
        return table


def to_parquet(table: pa.Table) -> bytes:
    """A table as the ledger stores it."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def _safe(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise InvalidName(str(error)) from None


def _part_name(shard: str, sha256: str) -> str:
    return f"part-{shard}-{sha256}.parquet"


def _check(entry: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(entry).encode()).hexdigest()


def _corrupt(path: Path, reason: str) -> CorruptData:
    return CorruptData(
        f"{path}: {reason}; nothing of it is used. Run the stage again: the shard is set aside and re-derived from its "
        "journal, or regenerated"
    )


def _check_same_config(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    was, now = _flatten(old), _flatten(json.loads(canonical_json(new)))
    for key in sorted(was.keys() | now.keys()):
        if was.get(key, ...) != now.get(key, ...):
            raise ConfigError(
                f"{path}: {key} was {was.get(key, 'absent')!s:.80} and is now {now.get(key, 'absent')!s:.80}; old and "
                "new rows are never mixed: undo the change, or include it in the fingerprint"
            )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}, for messages that name a key."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, sub in value.items():
        flat |= _flatten(sub, f"{prefix}.{name}" if prefix else name)
    return flat
