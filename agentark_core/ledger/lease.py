"""One holder per shard. The epoch of a lease is a fencing token: a higher one ends all lower ones for good.

`leases/<shard>.<epoch>` says who took it and is never deleted, so epochs of a shard are 1, 2, 3... without gaps and
"is there a higher one" is one look at epoch + 1. `leases/<shard>.<epoch>.beat` holds a counter that the holder's
thread bumps, or `released`.

A live holder is never disturbed. A lease is taken over at once if the holder ran on this host and its process is
gone, else after the counter stood still for `timeout_s`. That is counted in sleeps of the observer, so no clock is
read at all: neither skew nor a backwards step nor a paused virtual machine can steal a lease (F18). A holder that
sleeps through its timeout (F17) finds the higher epoch when it wants to commit.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agentark_core.errors import AlreadyRunning, StaleEpoch
from agentark_core.ledger.files import put_if_absent, storage_errors
from agentark_core.ledger.keys import canonical_json

log = logging.getLogger(__name__)

_RELEASED = "released".ljust(20)
_MAX_BEAT_S = 1.0


def _host() -> str:
    """This host, boot and process namespace: process ids compare only within one. Without /proc, nothing compares."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {os.urandom(8).hex()}"


def _process_start(pid: int) -> str:
    """Start of a process in clock ticks since boot, `gone` if it ended (a zombie too), `?` if /proc does not say."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    try:
        # Fields after the parenthesised command, which may itself hold spaces: state is the 3rd field, start the 22nd.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "?"
    return "gone" if fields[0] in "ZX" else fields[19]


def _is_gone(owner: dict[str, Any]) -> bool:
    if owner.get("host") != _host():
        return False
    return _process_start(owner["pid"]) not in ("?", owner["process_start"])


def _lease_path(folder: Path, shard: str, epoch: int) -> Path:
    return folder / f"{shard}.{epoch}"


def _beat_path(folder: Path, shard: str, epoch: int) -> Path:
    return folder / f"{shard}.{epoch}.beat"


def _read_beat(folder: Path, shard: str, epoch: int) -> str:
    try:
        return _beat_path(folder, shard, epoch).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return ""


def _read_owner(folder: Path, shard: str, epoch: int) -> dict[str, Any]:
    try:
        owner = json.loads(_lease_path(folder, shard, epoch).read_bytes())
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _already_running(folder: Path, shard: str, epoch: int) -> AlreadyRunning:
    owner = _read_owner(folder, shard, epoch)
    host = str(owner.get("host", "?")).partition(" ")[0]
    return AlreadyRunning(
        f"{shard}: run {owner.get('run_id') or '(unnamed)'} (process {owner.get('pid', '?')} on {host}) holds it with "
        f"epoch {epoch}; let it finish or stop it, then run again"
    )


def latest_epoch(folder: Path, shard: str) -> int:
    """Highest epoch ever taken for shard; 0 if none."""
    epoch = 0
    while _lease_path(folder, shard, epoch + 1).exists():
        epoch += 1
    return epoch


def heartbeat(folder: Path, shard: str) -> str | None:
    """None if nobody holds shard: its lease is released, or its process is known to be gone.

    Else a text that a living holder changes every second. Whether one on another host still lives shows in that alone.
    """
    epoch = latest_epoch(folder, shard)
    beat = _read_beat(folder, shard, epoch) if epoch else _RELEASED
    return None if beat == _RELEASED or _is_gone(_read_owner(folder, shard, epoch)) else f"{epoch} {beat}"


def _wait_for_silence(folder: Path, shard: str, epoch: int, *, timeout_s: float) -> None:
    """Return once the holder of epoch is known to be gone or silent; AlreadyRunning as soon as it shows life."""
    beat = _read_beat(folder, shard, epoch)
    if beat == _RELEASED or _is_gone(_read_owner(folder, shard, epoch)):
        return
    poll_s = min(timeout_s / 8, _MAX_BEAT_S / 4)
    for _ in range(math.ceil(timeout_s / poll_s)):
        time.sleep(poll_s)
        now = _read_beat(folder, shard, epoch)
        if now == _RELEASED:
            return
        if now != beat:
            raise _already_running(folder, shard, epoch)


class Lease:
    """A held lease. Made by `acquire`; beats from a daemon thread until released."""

    def __init__(self, folder: Path, *, shard: str, epoch: int, beat_s: float) -> None:
        self.folder = folder
        self.shard = shard
        self.epoch = epoch
        self._beat_s = beat_s
        self._stop = threading.Event()
        path = _beat_path(folder, shard, epoch)
        with storage_errors(path, 20):
            path.write_text(f"{0:020d}", encoding="ascii")
            self._fd = os.open(path, os.O_WRONLY)
        self._thread = threading.Thread(target=self._beat, name=f"lease-{shard}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """StaleEpoch if this lease was released or another process has taken the shard since."""
        if self._stop.is_set() or _lease_path(self.folder, self.shard, self.epoch + 1).exists():
            raise StaleEpoch(
                f"{self.shard}: epoch {self.epoch} is over (now {latest_epoch(self.folder, self.shard)}); "
                "nothing was committed by this process, run again to see what the new holder did"
            )

    def release(self) -> None:
        """Let the next process in without a wait. Overwrites in place, so it works on a full disk."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError):  # not written: the next process waits for timeout_s
            os.pwrite(self._fd, _RELEASED.encode(), 0)
        os.close(self._fd)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._beat_s):
            count += 1
            try:
                os.pwrite(self._fd, f"{count:020d}".encode(), 0)
            except OSError as error:
                log.warning("%s: heartbeat not written (%s); another process may take the shard", self.shard, error)


@contextmanager
def acquire(folder: Path, shard: str, *, timeout_s: float, run_id: str) -> Iterator[Lease]:
    """Hold the lease of shard; waits at most about timeout_s, and only if the holder seems silent.

    Raises AlreadyRunning naming the holder, StorageFull.
    """
    epoch = latest_epoch(folder, shard)
    if epoch:
        _wait_for_silence(folder, shard, epoch, timeout_s=timeout_s)
    epoch += 1
    pid = os.getpid()
    owner = {"host": _host(), "pid": pid, "process_start": _process_start(pid), "run_id": run_id}
    if not put_if_absent(_lease_path(folder, shard, epoch), canonical_json(owner).encode()):
        raise _already_running(folder, shard, epoch)
    lease = Lease(folder, shard=shard, epoch=epoch, beat_s=min(timeout_s / 4, _MAX_BEAT_S))
    try:
        yield lease
    finally:
        lease.release()
