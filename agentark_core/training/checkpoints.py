"""Which checkpoint counts: a folder with a COMPLETE marker, written last.

    output/checkpoints/checkpoint-200/   weights, optimizer, scheduler, RNG state
    output/checkpoints/checkpoint-200/COMPLETE   {"step": 200, "run": {...}, "files": {"name": size_bytes, ...}}

A save that was killed midway leaves a folder without marker (transformers would resume from it and fail); it is
reported and removed. Resuming under other conditions than the checkpoint's is refused with both values (F37).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agentark_core.errors import ConfigError
from agentark_core.ledger.files import FULL

MARKER = "COMPLETE"
FREE_BYTES = 2**20
"""Less free space than this is none."""
log = logging.getLogger(__name__)


def write_marker(folder: Path, content: dict[str, Any], *, payload: Path | None = None) -> None:
    """Declare folder complete: flush the files (of payload, a folder inside; default all), then create the marker."""
    sizes = {}
    for file in sorted((payload or folder).rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            sizes[file.relative_to(folder).as_posix()] = file.stat().st_size
    temporary = folder / f"{MARKER}.tmp"
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump({**content, "files": sizes}, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(folder / MARKER)
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """The marker's content, or None if folder is incomplete (no marker, or a listed file is missing or cut)."""
    try:
        content: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        intact = all((folder / name).stat().st_size == size for name, size in content["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return content if intact else None


def finished(output: Path, *, run: dict[str, Any]) -> dict[str, Any] | None:
    """The result in the marker of a run that has ended, None if there is none. ConfigError if it was another run."""
    marker = read_marker(output)
    if marker is None:
        return None
    check_same_run(marker["run"], run, where=output)
    result: dict[str, Any] = marker["result"]
    return result


def latest(checkpoints: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None."""
    complete = [folder for folder in _by_step(checkpoints) if read_marker(folder)]
    return complete[-1] if complete else None


def remove_incomplete(checkpoints: Path) -> None:
    """Delete what killed saves left behind, with a warning for each."""
    for folder in _by_step(checkpoints):
        if read_marker(folder) is None:
            log.warning("%s: incomplete checkpoint (its save was interrupted); skipped and removed", folder)
            shutil.rmtree(folder)


def prune(checkpoints: Path, *, keep: int, spare: Collection[int] = ()) -> None:
    """Delete all complete checkpoints but the newest `keep` and those of the steps in spare."""
    complete = [folder for folder in _by_step(checkpoints) if read_marker(folder)]
    for folder in complete[:-keep]:
        if step_of(folder) not in spare:
            shutil.rmtree(folder)


def resume_point(checkpoints: Path, *, run: dict[str, Any]) -> tuple[str | None, int]:
    """Folder and step of the checkpoint to go on from, (None, 0) if there is none; makes the folder of checkpoints.

    Raises ConfigError if it belongs to another run.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    folder = latest(checkpoints)
    if folder is None:
        return None, 0
    check_same_run((read_marker(folder) or {})["run"], run, where=folder)
    return str(folder), step_of(folder)


def disk_full(error: Exception, *, folder: Path) -> bool:
    """Whether an error is that of a full disk. torch and safetensors raise errors of their own, without its number."""
    if isinstance(error, OSError):
        return error.errno in FULL
    told = "os error 28" in str(error) or "inline_container" in str(error)
    return told and shutil.disk_usage(folder).free < FREE_BYTES


def size_needed(output: Path) -> str:
    """What the next checkpoint takes, for a message: as much as the last complete one."""
    found = [read_marker(marker.parent) for marker in output.rglob(f"checkpoint-*/{MARKER}")]
    sizes = [sum(marker["files"].values()) for marker in found if marker]
    return f"a checkpoint takes {max(sizes)} bytes" if sizes else "there is no complete checkpoint yet"


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    return int(folder.name.removeprefix("checkpoint-"))


def check_same_run(found: dict[str, Any], expected: dict[str, Any], *, where: Path) -> None:
    """Raise ConfigError naming every differing key with both values."""
    lines = [
        f"{where}: {key} was {found.get(key)!r} when it was saved, now {value!r}"
        for key, value in expected.items()
        if found.get(key) != value
    ]
    if lines:
        raise ConfigError("\n".join(lines) + "; restore the old value, or train into another output folder")


def _by_step(checkpoints: Path) -> list[Path]:
    folders = [f for f in checkpoints.glob("checkpoint-*") if f.name.removeprefix("checkpoint-").isdigit()]
    return sorted(folders, key=step_of)
