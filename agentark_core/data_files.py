"""A path that the user names -> the files of one table: a file, a folder as the hub lays it out, or a glob.

    data_files("medmcqa", split="validation")             data/validation-00000-of-00001.parquet
    data_files("hotpot_qa", split="train", subset="distractor")
      ->  distractor/train-00000-of-00002.parquet, distractor/train-00001-of-00002.parquet
    data_files("rows/part-*.jsonl.gz", split="train")     what the glob finds, whatever it is called

In a folder the names tell splits and configurations apart (`data/train-00000-of-00002.parquet`,
`main/test-00000-of-00001.parquet`, `qasper/train/0000.parquet`, `dev.json`). What does not settle to files of one kind
in one folder is refused: read together, a test split would end among the training questions.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from agentark_core.errors import DataError
from agentark_core.rows import check_file

KINDS = (".jsonl", ".json", ".csv", ".parquet")
SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing"},
}
"""Split -> words for it in the names of files and folders."""

DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "state.json"}
"""Files that lie beside rows and hold none."""

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")


def data_files(path: str, *, split: str, subset: str = "") -> list[Path]:
    """The files in name order. split and subset (a configuration of the hub) choose within a folder only.

    Raises DataError that names what was found if that is nothing, or more than one table.
    """
    named = Path(path)
    if named.is_dir():
        return _of_folder(named, split=split, subset=subset)
    if named.exists() or not glob.has_magic(path):
        check_file(named)
        return [named]
    found = sorted(file for file in map(Path, glob.glob(path, recursive=True)) if file.is_file())
    if not found:
        raise DataError(f"{path}: no file is called like this; check the path")
    for file in found:
        check_file(file)
    return found


def kind_of(file: Path) -> str:
    """The suffix that says how to read it, without .gz."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _of_folder(folder: Path, *, split: str, subset: str) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if file.is_file() and _holds_rows(file.relative_to(folder)))
    if not found:
        raise DataError(f"{folder}: no {', '.join(KINDS)} file in this folder; name a file with rows, or its folder")
    chosen = [file for file in found if subset in file.relative_to(folder).parts[:-1]] or found
    splits = {file: _split_of(file.relative_to(folder)) for file in chosen}
    if any(splits.values()):
        chosen = [file for file in chosen if splits[file] == split]
    if not chosen:
        raise DataError(
            f"{folder}: no file of the split {split!r} (found: {_names(found, folder)}); name the files by a glob"
        )
    if len({(file.parent, kind_of(file)) for file in chosen}) > 1:
        raise DataError(f"{folder}: more than one table ({_names(chosen, folder)}); name the files of one by a glob")
    _check_shards(chosen)
    for file in chosen:
        check_file(file)
    return chosen


def _holds_rows(file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return kind_of(file) in KINDS and not hidden and file.name not in DESCRIPTIONS


def _split_of(file: Path) -> str:
    """The split that the file's name tells, else its folders', nearest first; "" if none does."""
    for part in reversed(file.parts):
        words = set(re.split(r"[^a-z0-9]+", part.lower()))
        for split, names in SPLIT_WORDS.items():
            if words & names:
                return split
    return ""


def _check_shards(files: Sequence[Path]) -> None:
    """Raise if files say of how many they are one and are not all there."""
    numbers = [(int(found[1]), int(found[2])) for file in files if (found := _SHARD.search(file.name))]
    totals = {total for _, total in numbers}
    for total in totals:
        if missing := set(range(total)) - {number for number, of in numbers if of == total}:
            raise DataError(
                f"{files[0].parent}: shard {min(missing):05d} of {total:05d} is missing; fetch the folder again, or "
                "name the shards to read by a glob"
            )
    if len(totals) > 1 or (numbers and len(numbers) < len(files)):
        raise DataError(f"{files[0].parent}: shards of more than one table; name the files of one by a glob")


def _names(files: Sequence[Path], folder: Path) -> str:
    names = [file.relative_to(folder).as_posix() for file in files[:6]]
    return ", ".join([*names, f"{len(files) - 6} more"] if len(files) > 6 else names)
