"""Flows of the product as steps of an experiment: debates of the shipped teacher, and students distilled from them.

What is finished is found again: a run of debates by a note in the home, a model by its fingerprint.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from agentark_core.arkling.model import ModelName

TEACHER = {"path": "arkling:teacher", "prompts": "arkling"}
STUDENT = {"path": "arkling:student", "prompts": "arkling"}
SFT = {"epochs": 2, "learning_rate": 8e-4, "batch_size": 64, "micro_batch_size": 64, "max_length": 512}
SAMPLING = {"temperature": 0.9, "max_tokens": 128}
PRETRAINING: dict[ModelName, int] = {"small": 3_100_000, "large": 6_000_000}
"""Tokens; small has as many as the shipped student."""


def pretrained(size: ModelName, *, folder: Path) -> Path:
    """The directory of a model that is not shipped, made if need be."""
    from agentark_core.arkling.pretrain import pretrain

    out = folder / f"{size}-student"
    if not (out / "training_record.json").exists():
        pretrain(model=size, out=out, tokens=PRETRAINING[size], seed=0, num_validation=0)
    return out


def debated(
    name: str,
    debate: dict[str, Any],
    *,
    questions: int,
    home: Path,
    teacher: dict[str, Any] = TEACHER,
    seed: int = 0,
) -> str:
    """The fingerprint of a run of debates on the first `distil` questions, made if need be."""
    record = home / f"{name}-{questions}.run"
    if record.exists():
        return record.read_text().strip()
    printed = agentark(
        "build-traces",
        {
            "run": {"name": f"{name}-{questions}", "home": str(home), "seed": seed},
            "problems": {"source": "arkling", "split": "distil", "limit": questions},
            "teacher": teacher,
            "debate": {**debate, "summariser": "never", "sampling": SAMPLING},
            "engine": {"max_num_seqs": 256, "shard_size": 256},
        },
        folder=home,
    )
    run = told(printed, "fingerprint")
    record.write_text(run)
    return run


def distilled(name: str, *, traces: list[str], home: Path, student: dict[str, Any] = STUDENT, **sections: Any) -> Path:
    """The model directory of a student; sections are those of DistilConfig."""
    config = {
        "run": {"name": run_name(name), "home": str(home)},
        "traces": traces,
        "student": student,
        **sections,
    }
    printed = agentark("distil", config, folder=home)
    return Path(told(printed, "model"))


def stages(name: str, *, home: Path) -> list[Path]:
    """The model directories of all jobs of one student, in order."""
    made = json.loads((home / "runs" / run_name(name) / "student.json").read_bytes())
    return [Path(stage["model"]) for stage in made["stages"]]


def run_name(name: str) -> str:
    """A name of letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)


def told(printed: list[str], key: str) -> str:
    """The value of a line `key: value`."""
    return next(line.removeprefix(f"{key}: ") for line in printed if line.startswith(f"{key}: "))


def agentark(flow: str, config: dict[str, Any], *, folder: Path) -> list[str]:
    """`agentark run FLOW`; returns what it printed."""
    path = folder / f"{flow}-{config['run']['name']}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "agentark_core.cli", "run", flow, "--config", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout.splitlines()
