"""Faults that all training jobs share: kill -9 while saving (F08), a full disk (F11), a resumed run that is another
one (F37), a gradient that is not finite at every ZeRO stage (F35)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import enlarge
from training_jobs import Job, Process, calls_in_saves, start_group

from agentark_core.errors import ConfigError
from agentark_core.training import checkpoints

SHORT: dict[str, dict[str, Any]] = {
    "sft": {"epochs": 2.2, "save_steps": 1},  # eleven checkpoints and the publication
    "prm": {"stage1": {"epochs": 0.6, "learning_rate": 3e-3}, "stage2": {"epochs": 1}, "save_steps": 1},
    "grpo": {"epochs": 0.75, "iterations": 2, "save_steps": 2, "watch_prompts": 4},
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_while_saving_a_run_ends_with_the_figures_of_the_unbroken_one(job: Job, tmp_path: Path) -> None:
    """Every process passes one save and dies in the next, each time at a later call: from its first to its last."""
    whole = Process(job, job.resolved(tmp_path / "whole", **SHORT[job.section]), log=tmp_path / "whole")
    expected = whole.result()
    calls = calls_in_saves(whole.log)
    broken = job.resolved(tmp_path / "broken", **SHORT[job.section])
    attempts = len(calls) - 1
    assert job.section != "sft" or attempts == 11, "ten offsets in checkpoints, and one in the publication"
    cut = 0
    for attempt in range(attempts):
        fatal = int(calls[attempt + 1] * (2 * attempt + 1) / (2 * attempts))
        process = Process(job, broken, log=tmp_path / f"broken{attempt}", die_in=(1, fatal))
        assert process.wait() == -9, process.output[-4000:]
        cut += "incomplete checkpoint (its save was interrupted)" in process.output
        assert not (tmp_path / "broken" / "COMPLETE").exists()
    last = Process(job, broken, log=tmp_path / "last")
    assert job.final(last.result()) == pytest.approx(job.final(expected), rel=1e-4)
    assert cut >= attempts // 2, "most kills left a folder without marker to the next process"
    steps = [row["step"] for row in job.metrics(tmp_path / "broken")]
    assert steps == [row["step"] for row in job.metrics(tmp_path / "whole")]


@pytest.mark.slow
@pytest.mark.parametrize("job", ["sft"], indirect=True)
def test_a_full_disk_keeps_the_last_checkpoint_and_training_goes_on_when_space_returns(
    job: Job, small_disk: Path, tmp_path: Path
) -> None:
    resolved = job.resolved(small_disk / "out", epochs=1, save_steps=1)
    whole = Process(job, job.resolved(tmp_path / "whole", epochs=1, save_steps=1), log=tmp_path / "whole")
    expected = whole.result()
    enlarge(small_disk, size="4m")
    process = Process(job, resolved, log=tmp_path / "full")
    assert process.wait() == 3, process.output[-4000:]
    line = [line for line in process.output.splitlines() if line.startswith("error: ")][-1]
    assert str(small_disk / "out") in line and "no space left" in line, line
    kept = checkpoints.latest(small_disk / "out" / "checkpoints")
    assert kept and "a checkpoint takes " in line, line
    enlarge(small_disk)
    again = Process(job, resolved, log=tmp_path / "again")
    assert job.final(again.result()) == pytest.approx(job.final(expected), rel=1e-4)
    assert "incomplete checkpoint" in again.output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("stage", "ranks"), [(0, 1), (0, 2), (2, 1), (3, 2)])
def test_a_gradient_that_is_not_finite_ends_the_run_at_its_step_with_the_ids_of_the_whole_step(
    job: Job, stage: int, ranks: int, tmp_path: Path
) -> None:
    """It arises on rank 0, in the first of the two micro batches of step 2, whose losses are finite."""
    rows, ids = {"sft": (8, 8), "prm": (4, 16), "grpo": (16, 4)}[job.section]  # of a step; ids: of its examples
    settings = {"zero_stage": stage, "micro_batch_size": rows // 2 // ranks, "save_steps": 1}
    settings |= {"watch_prompts": 0} if job.section == "grpo" else {}
    resolved = job.resolved(tmp_path / "out", **settings)
    if ranks == 1:
        group = [Process(job, resolved, log=tmp_path / "log", nan_in=2)]
    else:
        group = start_group(job, resolved, log=tmp_path / "log", nan_in=2)
    assert [process.wait() for process in group] == [6] * ranks, group[0].output[-4000:]
    for rank, process in enumerate(group):
        (line,) = [line for line in process.output.splitlines() if line.startswith("error: ")]
        start = f"error: step 2, rank {rank}: the gradient is not finite; examples in this batch: "
        assert line.startswith(start), line
        named = re.split("[,;] ", line.removeprefix(start))[:-3]
        assert len(named) == len(set(named)) == ids, line
    saved = [folder.name for folder in job.checkpoints(tmp_path / "out").glob("checkpoint-*")]
    assert saved == ["checkpoint-1"], "what was complete before, and nothing after"
    assert [row["step"] for row in job.metrics(tmp_path / "out")] == [1]
    assert not (tmp_path / "out" / "model").exists()


def test_resuming_as_another_run_is_refused_with_both_values(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """World size, dtype, tokenizer and base model are really others, and the job's own entry point refuses them."""
    good = job.resolved(tmp_path / "out", micro_batch_size=2)
    run = job.plan(good, world_size=1).run
    folder = job.checkpoints(tmp_path / "out") / "checkpoint-2"
    folder.mkdir(parents=True)
    checkpoints.write_marker(folder, {"step": 2, "run": run})

    def changed(name: str, file: str) -> dict[str, Any]:
        """The job on a copy of its base in which a file ends in a space or, weights, in one other bit."""
        base = Path(shutil.copytree(job.base, tmp_path / name))
        content = bytearray((base / file).read_bytes())
        if file.endswith(".json"):
            content += b" "
        else:
            content[-1] ^= 1
        (base / file).write_bytes(bytes(content))
        return job.resolved(tmp_path / "out", base=base, micro_batch_size=2)

    others = {
        "world_size": (good, 2),
        f"{job.section}.dtype": (job.resolved(tmp_path / "out", micro_batch_size=2, dtype="bfloat16"), 1),
        "tokenizer": (changed("tokenizer", "tokenizer.json"), 1),
        "base_revision": (changed("base", "model.safetensors"), 1),
    }
    for key, (resolved, world_size) in others.items():
        group = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
        for name, value in group.items():
            monkeypatch.setenv(name, str(value))
        now = job.plan(resolved, world_size=world_size).run[key]
        with pytest.raises(ConfigError) as error:
            job.module.train(resolved)
        assert f"{folder}: {key} was {run[key]!r} when it was saved, now {now!r}" in str(error.value)
        assert not (tmp_path / "out" / "model").exists()
