"""What a shard has finished so far: an append-only file of length + crc32 framed JSON records.

Each lease epoch writes a file of its own, `journals/<shard>.<epoch>.journal`, which starts as a copy of its
predecessor's sound records. So a process that lost its lease while it slept writes where nobody reads, and a tail cut
by a crash disappears with the copy.

A broken record ends the journal: it and everything after it is dropped and logged, also in the middle of the file.
The keys in it are then redone, which costs work but is never wrong; guessing where the next record starts could be.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentark_core.ledger.files import storage_errors, write_all, write_durable
from agentark_core.ledger.keys import canonical_json
from agentark_core.ledger.lease import Lease

log = logging.getLogger(__name__)

Record = dict[str, Any]

_HEADER = struct.Struct("<II")


def _crc(payload: bytes) -> int:
    # The length is hashed too: otherwise a tail of zero bytes, which a power cut can leave, is a valid empty record.
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little")))


def _encode(record: Record) -> bytes:
    payload = canonical_json(record).encode("ascii")
    return _HEADER.pack(len(payload), _crc(payload)) + payload


def _decode(data: bytes) -> tuple[list[Record], int]:
    """Sound records from the start, and the number of bytes that they take."""
    records: list[Record] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, crc = _HEADER.unpack_from(data, offset)
        end = offset + _HEADER.size + length
        payload = data[offset + _HEADER.size : end]
        if len(payload) != length or _crc(payload) != crc:
            break
        records.append(json.loads(payload))
        offset = end
    return records, offset


def journal_path(folder: Path, shard: str, epoch: int) -> Path:
    """Where the holder of epoch writes."""
    return folder / f"{shard}.{epoch}.journal"


def _predecessor(folder: Path, lease: Lease) -> bytes:
    """Sound bytes of the newest journal up to this lease's epoch."""
    for epoch in range(lease.epoch, 0, -1):
        path = journal_path(folder, lease.shard, epoch)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        _, size = _decode(data)
        if size < len(data):
            log.warning("%s: broken record at byte %d, %d bytes dropped; redone", path, size, len(data) - size)
        return data[:size]
    return b""


def read_journal(folder: Path, shard: str) -> list[Record]:
    """Sound records of the shard's newest journal, oldest first; none if it has no journal.

    For readers beside the holder: no lease is taken, nothing is changed, and a record that is being written, and so is
    torn, is not there yet.
    """
    while True:
        names = (path.name.removeprefix(f"{shard}.") for path in folder.glob(f"{shard}.*.journal"))
        # The name of another shard may start with this one's.
        epochs = [int(epoch) for name in names if (epoch := name.removesuffix(".journal")).isdecimal()]
        if not epochs:
            return []
        try:
            return _decode(journal_path(folder, shard, max(epochs)).read_bytes())[0]
        except FileNotFoundError:  # a new holder has just made its copy and removed this one
            continue


class Journal:
    """The journal of one leased shard; one at a time, not for use from several threads. Made by `Store.journal`."""

    def __init__(self, folder: Path, *, lease: Lease) -> None:
        self.path = journal_path(folder, lease.shard, lease.epoch)
        self._lease = lease
        data = _predecessor(folder, lease)
        write_durable(self.path, data)
        lease.check()  # a holder that slept must not delete what its successor is about to copy
        for epoch in range(1, lease.epoch):
            journal_path(folder, lease.shard, epoch).unlink(missing_ok=True)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            lease.check()  # a successor took over just now, and has removed it
            raise
        self._size = len(data)

    def replay(self) -> list[Record]:
        """All records, oldest first, with those that earlier holders of the shard left."""
        return _decode(os.pread(self._fd, self._size, 0))[0]

    def append(self, records: Iterable[Record]) -> None:
        """Add plain-JSON records; they survive this process at once, a power cut after `sync`.

        StorageFull leaves the journal as it was.
        """
        data = b"".join(_encode(record) for record in records)
        try:
            with storage_errors(self.path, len(data)):
                write_all(self._fd, data)
        except BaseException:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def sync(self) -> None:
        """One fsync (about 10 ms), so call it once per group of finished questions. Raises StaleEpoch, StorageFull.

        After a failed fsync the kernel may have dropped the pages and a second fsync would succeed; so the journal
        closes, and what is really there shows when it is opened again.
        """
        try:
            with storage_errors(self.path, self._size):
                os.fsync(self._fd)
        except BaseException:
            self.close()
            raise
        self._lease.check()

    def close(self) -> None:
        """Close the file; the records stay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
