"""Files that are either absent or whole, whatever dies: temporary file, fsync, rename or link, fsync of the folder.

Temporary files end in `.tmp` and carry a random part, so a process that was stopped and woken again never shares one
with its successor. `Store.collect_orphans` removes what crashes leave.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from agentark_core.errors import StorageFull

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of the errors that mean no space."""


@contextmanager
def storage_errors(path: Path, size_bytes: int) -> Iterator[None]:
    """Turn "disk full", "over quota" and "over the file size limit" into StorageFull (F10)."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageFull(
            f"{path}: {os.strerror(error.errno)}: {size_bytes} bytes needed; free space and run again, "
            "what is committed stays"
        ) from error


def write_all(fd: int, data: bytes) -> None:
    """os.write until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_folder(folder: Path) -> None:
    """Make the names in folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _flushed_tmp(path: Path, data: bytes) -> Iterator[Path]:
    """A durable temporary file beside path, to be renamed or linked; on leaving, the folder is made durable."""
    tmp = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    with storage_errors(path, len(data)):
        try:
            fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            yield tmp
            fsync_folder(path.parent)
        finally:
            tmp.unlink(missing_ok=True)


def write_durable(path: Path, data: bytes) -> None:
    """Replace path by data, atomically and durably. StorageFull leaves path as it was and no temporary file."""
    with _flushed_tmp(path, data) as tmp:
        os.rename(tmp, path)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Create path with data unless it exists; True for the one caller that created it. Durable in both cases."""
    with _flushed_tmp(path, data) as tmp:
        try:
            os.link(tmp, path)
        except FileExistsError:
            return False
    return True


def atomic_write_text(path: Path, text: str) -> None:
    """Replace path by text (UTF-8): readers see the old file or the new one. Raises StorageFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durable(path, text.encode("utf-8"))


def atomic_write_json(path: Path, data: Any) -> None:
    """Replace path by data as indented JSON with sorted keys. Raises StorageFull."""
    atomic_write_text(path, json.dumps(data, sort_keys=True, indent=2, allow_nan=False) + "\n")
