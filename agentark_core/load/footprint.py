"""What a served model takes: parameters, bytes on disk, peak memory, GPU memory, and the time of a cold start."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from math import prod
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """One model in one fresh process. None: not ours to see (a served model), or no GPU.

    parameters, size_bytes: of the safetensors files. cold_start_s: from the start of the process to its first token,
    the files of libraries and weights being in the page cache or not as it happens. peak_rss_bytes: sum over the
    process and its children of the most that each had resident; the client that makes the load is one of them.
    gpu_bytes: memory of its GPUs in use after the loads, minus before the start. cpus, load_average: of the machine,
    over the minute before the start.
    """

    model: str
    methods: list[str]
    parameters: int | None
    size_bytes: int | None
    cold_start_s: float | None
    peak_rss_bytes: int
    gpu_bytes: int | None
    cpus: int
    load_average: float


def weights(model_dir: Path) -> tuple[int, int]:
    """(parameters, bytes on disk) of the safetensors files of a model; reads their headers alone."""
    from safetensors import safe_open

    parameters = 0
    files = sorted(model_dir.glob("*.safetensors"))
    for file in files:
        with safe_open(file, framework="np") as tensors:
            parameters += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return parameters, sum(file.stat().st_size for file in files)


def peak_rss(pid: int) -> int:
    """Bytes: sum of the peak resident sets of a process and its children that live now (VmHWM of proc(5))."""
    import psutil

    total = 0
    for process in (own := psutil.Process(pid), *own.children(recursive=True)):
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        except OSError:  # it ended meanwhile
            continue
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        total += 1024 * int(found[1]) if found else 0
    return total


def gpu_used() -> int:
    """Bytes in use on the GPUs that this process may see, whoever uses them."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command.append(f"--id={visible}")
    return used_bytes(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def used_bytes(listed: str) -> int:
    """Sum of nvidia-smi's lines, one number of MiB a GPU."""
    return 2**20 * sum(int(line) for line in listed.split())
