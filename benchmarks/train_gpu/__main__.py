"""SFT, process reward model and GRPO on a GPU, by the job's own code: speed, parts of a step, memory.

    python -m benchmarks.train_gpu --models qwen3-0.6b qwen3-1.7b --jobs sft prm grpo

Models with random weights of the published shapes, settings of deployments/students/, full rows of random words. Each
pair of model and job runs in a process of its own, so that the peak of memory is its own; its log is printed if it
fails, and the others still run. The 1.7B shape needs 18 GB in the temporary folder. --tiny: the whole on a tiny model,
anywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentark_core.training import group
from agentark_core.training.memory import GIB
from agentark_core.training.model_shape import Shape

from ..debate.figures import OUT, Figure, report, table
from . import data, jobs, mfu

GOAL_MFU = 0.45
GOAL_MEMORY = 0.15
"""Largest relative distance from the estimate."""


def figures(
    name: str, job: jobs.Job, measured: dict[str, Any], *, shape: Shape, length: int, peak_tflops: float | None
) -> list[Figure]:
    """One value a measured step, but of memory. name: of model and job; length: tokens of a row."""
    seconds = [step["seconds"] for step in measured["steps"]]
    made = [Figure(name=f"{name}, s a step", values=tuple(seconds))]
    parts = list(dict.fromkeys(part for step in measured["steps"] for part in step["parts"]))  # as a step has them
    for part in parts:
        made.append(Figure(name=f"{name}, {part}, s", values=tuple(step["parts"][part] for step in measured["steps"])))
    if parts:
        rest = tuple(step["seconds"] - sum(step["parts"].values()) for step in measured["steps"])
        made.append(Figure(name=f"{name}, other, s", values=rest))
    if job != "grpo":
        rates = [tokens / taken for tokens, taken in zip(measured["tokens"], seconds, strict=True)]
        made.append(Figure(name=f"{name}, tokens/s", values=tuple(rates), side=">="))
        if peak_tflops:
            flops = mfu.flops_per_token(shape, length=length, head=job == "sft")
            shares = tuple(mfu.mfu(rate, flops=flops, peak_tflops=peak_tflops) for rate in rates)
            goal = GOAL_MFU if job == "sft" else None
            made.append(Figure(name=f"{name}, MFU", values=shares, side=">=", goal=goal))
    for kind, peak in measured["memory"].items():
        estimate = measured["estimate"][kind]
        told = {"peak_gib": peak / GIB, "estimate_gib": estimate / GIB}
        made += [
            Figure(name=f"{name}, peak {kind}, GiB", values=(peak / GIB,), details=told),
            Figure(name=f"{name}, {kind} / estimate", values=(peak / estimate,), details=told),
            Figure(name=f"{name}, {kind}, off the estimate", values=(abs(peak / estimate - 1),), goal=GOAL_MEMORY),
        ]
    return made


def measure(job: jobs.Job, folder: Path, *, section: dict[str, Any]) -> dict[str, Any] | None:
    """What jobs.run found, in a process of its own; None if it failed."""
    (folder / "job.json").write_text(json.dumps({"job": job, "section": section}), encoding="utf-8")
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "benchmarks.train_gpu", "--child", str(folder)]
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[2])
    if done.returncode:
        print((folder / "log").read_text(errors="replace")[-4000:], file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    return found


def child(folder: Path) -> None:
    """The measuring process."""
    asked = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    try:
        found = jobs.run(asked["job"], folder, section=asked["section"])
    finally:
        group.leave()
    (folder / "measured.json").write_text(json.dumps(found), encoding="utf-8")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = ["qwen3-0.6b", "qwen3-1.7b"]
    parser.add_argument("--models", nargs="+", default=models, help=f"students' presets (default {' '.join(models)})")
    parser.add_argument("--jobs", nargs="+", choices=jobs.JOBS, default=list(jobs.JOBS), help="default: all three")
    parser.add_argument("--length", type=int, help="tokens a row of SFT and PRM (default: the preset's max_length)")
    parser.add_argument("--peak-tflops", type=float, help="bfloat16, dense; needed for a GPU not in mfu.PEAK_TFLOPS")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder for the JSON (default {OUT})")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on any device, to try the benchmark itself")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if a job failed; a missed goal is no failure."""
    given = arguments(argv)
    if given.child:
        child(given.child)
        return 0
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    if not device and not given.tiny:
        print("skipped: no GPU")
        return 0
    peak = given.peak_tflops or mfu.PEAK_TFLOPS.get(device or "")
    if device and not peak:
        print(f"error: the peak of {device} is not known; give --peak-tflops (bfloat16, dense)", file=sys.stderr)
        return 2
    done, failed = [], []
    for model in given.models:
        described = jobs.described(model, tiny=given.tiny)
        shape = Shape.read(described)
        assert shape is not None
        with tempfile.TemporaryDirectory() as folder:
            data.make_model(described, Path(folder) / "model")
            for job in given.jobs:
                section = jobs.settings(job, model, length=given.length, tiny=given.tiny)
                measured = measure(job, Path(folder), section=section)
                name = f"train_gpu-{'tiny-' if given.tiny else ''}{model}-{job}"
                if measured is None:
                    failed.append(name)
                    continue
                done.append(name)
                length = section.get("max_length", 0)
                found = figures(f"{model} {job}", job, measured, shape=shape, length=length, peak_tflops=peak)
                told = {"device": device, "torch": torch.__version__, "peak_tflops": peak, job: section}
                report(name, found, out=given.out, settings=told)
    print(table(done, out=given.out))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
