"""The benchmark of training on a GPU: its arithmetic by hand, its data, and each job on a tiny model on any device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agentark_core.chat import ChatFormat
from agentark_core.training.model_shape import Shape
from benchmarks.train_gpu import __main__ as train_gpu
from benchmarks.train_gpu import data, jobs, mfu

PRESET = "qwen3-0.6b"
SMALL = Shape(
    **{"hidden": 4, "mlp": 8, "layers": 2, "heads": 2, "key_values": 1, "head": 2, "vocabulary": 10},
    **{"tied": True, "norms": False, "sandwich": False, "vision": 0},
)
"""A layer: 4 x 4 + 2 x (4 x 2) + 4 x 4 + 3 x (4 x 8) = 144 weights; its head: 40."""


def published(name: str) -> Shape:
    found = Shape.read(jobs.described(name, tiny=False))
    assert found is not None
    return found


def test_flops_of_a_token_by_hand() -> None:
    # 6 x (2 x 144 + 40) + 12 x 2 layers x 4 x 16 tokens
    assert mfu.flops_per_token(SMALL, length=16) == 6 * 328 + 1536
    assert mfu.flops_per_token(SMALL, length=16, head=False) == 6 * 288 + 1536


def test_mfu_of_qwen3_by_hand() -> None:
    # A layer: 1024 x 2048 + 2 x 1024 x 1024 + 2048 x 1024 + 3 x 1024 x 3072 = 15,728,640. 28 of them: 440,401,920;
    # head: 151,936 x 1024 = 155,582,464. Attention: 12 x 28 x 2048 x 2048 = 1,409,286,144.
    flops = mfu.flops_per_token(published(PRESET), length=2048)
    assert flops == 6 * 595_984_384 + 1_409_286_144 == 4_985_192_448
    assert mfu.mfu(100_000, flops=flops, peak_tflops=989) == pytest.approx(0.504064, abs=1e-6)


def test_n_of_qwen3_is_the_model_s_own_count() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**jobs.described("qwen3-1.7b", tiny=False)))
    matrices = sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)  # tied: the head is there once
    assert mfu.multiplied(published("qwen3-1.7b"), head=True) == matrices


def test_sampled_tokens_are_text_that_gives_them_again() -> None:
    import random

    tokenizer = data.tokenizer(151_936)
    assert len(tokenizer) == 151_936
    first_word = len(data.SPECIAL) + 256
    ids = [random.Random(seed).randrange(first_word, len(tokenizer)) for seed in range(500)]
    assert tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False) == ids


def test_settings_are_the_preset_s_but_for_length_and_end() -> None:
    section = jobs.settings("sft", PRESET, length=4096, tiny=False)
    assert (section["batch_size"], section["micro_batch_size"], section["zero_stage"]) == (64, 8, 0)
    assert (section["max_length"], section["packing"], section["dtype"]) == (4096, True, "bfloat16")
    assert jobs.settings("prm", PRESET, length=None, tiny=False)["stage1"]["epochs"] == 0
    assert jobs.settings("grpo", PRESET, length=4096, tiny=False)["max_tokens"] == 1024


def test_a_figure_off_the_estimate_misses_its_goal_on_both_sides() -> None:
    measured = {
        "steps": [{"seconds": 2.0, "parts": {}}, {"seconds": 1.0, "parts": {}}],
        "tokens": [100, 100],
        "memory": {"allocated": 80, "reserved": 114},
        "estimate": {"allocated": 100.0, "reserved": 100.0},
    }
    found = {
        figure.name: figure
        for figure in train_gpu.figures("m", "sft", measured, shape=SMALL, length=16, peak_tflops=1e-6)
    }
    assert found["m, tokens/s"].values == (50, 100)
    assert found["m, MFU"].values == pytest.approx((50 * 3504 / 1e6, 100 * 3504 / 1e6))
    assert found["m, allocated / estimate"].median == 0.8
    assert found["m, allocated, off the estimate"].met is False
    assert found["m, reserved, off the estimate"].met is True


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model."""
    folder = tmp_path_factory.mktemp("train_gpu")
    data.make_model(jobs.described(PRESET, tiny=True), folder / "model")
    return folder


@pytest.fixture
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """The measured job's trainer, not measured, afterwards."""
    job = request.getfixturevalue("job_name")
    from agentark_core.training import group

    group.prepare(cpus=1)
    module = import_module(f"agentark_core.training.{job}_trainer")
    build = module.build_trainer
    yield
    module.build_trainer = build  # type: ignore[attr-defined]


PARTS = {
    "sft": set(),
    "prm": {"forward", "backward", "optimiser"},
    "grpo": {"generation", "scoring", "log-probabilities", "forward", "backward", "optimiser"},
}
TOKENS = {"sft": 4 * 128, "prm": 2 * data.TRACES * 128, "grpo": 4 * (32 + 16)}


@pytest.mark.usefixtures("alone", "as_it_was")
@pytest.mark.parametrize("job_name", jobs.JOBS)
def test_a_job_is_measured_on_full_rows(job_name: jobs.Job, base: Path) -> None:
    section = jobs.settings(job_name, PRESET, length=None, tiny=True)
    assert section["dtype"] == "bfloat16"
    measured = json.loads(json.dumps(jobs.run(job_name, base, section=section)))
    steps = jobs.STEPS[job_name][1]
    assert measured["tokens"] == [TOKENS[job_name]] * steps
    assert len(measured["steps"]) == steps
    for step in measured["steps"]:
        assert set(step["parts"]) == PARTS[job_name]
        assert all(seconds > 0 for seconds in step["parts"].values())
        assert sum(step["parts"].values()) < step["seconds"]
    assert not list((base / job_name).glob("**/checkpoint-*")), "writing a checkpoint would be measured, and large"
    if job_name == "grpo":
        rows = [json.loads(line) for line in (base / "grpo" / "metrics.jsonl").read_text().splitlines()]
        assert {(row["completion_tokens"], row["truncated"], row["unscored"]) for row in rows} == {(16, 0, 0)}
        assert all(row["reward_std"] > 0 for row in rows), "the reward model read text"
    shape = Shape.of(base / "model")
    assert shape is not None
    told: dict[str, Any] = {"shape": shape, "length": 128, "peak_tflops": 0.1}
    names = [figure.name for figure in train_gpu.figures("tiny", job_name, measured, **told)]
    assert ("tiny, MFU" in names) == (job_name != "grpo")


def test_the_scorer_reads_as_many_tokens_as_a_completion_has(base: Path) -> None:
    chat = ChatFormat.load(base / "model")
    [text] = data.solutions(chat, number=1, length=100)
    ids, positions, _ = data.tokenise(chat, data.QUESTION, data.split(text))
    assert (len(ids), len(positions)) == (100, 4)
    with pytest.raises(ValueError, match="no text of 10 tokens"):
        data.solutions(chat, number=1, length=10)


def test_without_a_gpu_it_is_skipped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train_gpu.main([]) == 0
    assert capsys.readouterr().out == "skipped: no GPU\n"


@pytest.mark.slow
def test_jobs_run_in_processes_of_their_own_and_one_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(jobs.TINY, "sft", {"batch_size": 4, "micro_batch_size": 3})
    arguments = ["--tiny", "--models", PRESET, "--jobs", "sft", "prm", "--out", str(tmp_path)]
    assert train_gpu.main(arguments) == 1
    error = capsys.readouterr().err
    assert "micro_batch_size" in error and error.endswith(f"failed: train_gpu-tiny-{PRESET}-sft\n")
    found = json.loads((tmp_path / f"train_gpu-tiny-{PRESET}-prm.json").read_text())
    assert {"qwen3-0.6b prm, s a step", "qwen3-0.6b prm, tokens/s"} <= {row["name"] for row in found["figures"]}
    assert found["settings"]["prm"]["max_length"] == 128
