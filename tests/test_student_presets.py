"""Each preset of deployments/ through the real training jobs, as a tiny model of the same architecture with the
preset's own ZeRO stage, offload and packing; saved, loaded again by transformers, one of each kind served by vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpo_helpers
import prm_helpers
import pytest
import tiny_models
from conftest import QUIET, free_port
from sft_helpers import example, metrics, write_examples

from agentark_core.chat import ChatFormat
from agentark_core.config import (
    BuildTracesConfig,
    DistilConfig,
    EngineConfig,
    ModelConfig,
    PipelineConfig,
    SFTConfig,
    SweepConfig,
    load,
)
from agentark_core.engines.vllm_engine import VllmEngine
from agentark_core.errors import ConfigError, EngineError
from agentark_core.training import grpo, memory, prm, sft, sft_data
from agentark_core.training.model_shape import Shape
from flows.distil import check_models

TESTS = Path(__file__).resolve().parent
DEPLOYMENTS = TESTS.parent / "deployments"
CONFIGS = json.loads((DEPLOYMENTS / "model_configs.json").read_text())
STUDENTS = sorted((DEPLOYMENTS / "students").glob("*.yaml"))
TEACHERS = sorted((DEPLOYMENTS / "teachers").glob("*.yaml"))
GEMMA_3 = DEPLOYMENTS / "teachers" / "gemma-3-27b-it.yaml"
ONE_PROCESS = {"gpus_per_worker": 0, "num_workers": 1, "dtype": "float32"}
ENCODER = ("visual", "vision_tower", "multi_modal_projector")
"""What the names of an image encoder's weights hold."""
TRACES = 16
"""Most traces of a question: five agents, three rounds, a summary."""


def sections(preset: Path) -> tuple[str, DistilConfig]:
    """(path of the model, the jobs' sections); a teacher is trained as a preset that leaves them at their defaults."""
    if preset in TEACHERS:
        path = load(BuildTracesConfig, preset).teacher.path
        return path, DistilConfig(traces=["f"], student=ModelConfig(path=path), sft=SFTConfig(batch_size=16))
    config = load(DistilConfig, preset)
    return config.student.path, config


def base_of(path: str, folder: Path) -> Path:
    """A tiny model of the architecture of a published one."""
    return tiny_models.make(CONFIGS[path]["model_type"], folder, described=CONFIGS[path])


def run(module: Any, job: dict[str, Any]) -> dict[str, Any]:
    """A job in this process, as a group of one, forgotten afterwards."""
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    linear = torch.nn.functional.linear
    group = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in group.items():
            patch.setenv(name, str(value))
        try:
            result: dict[str, Any] = module.train(job)
        finally:
            # What ZeRO-3 leaves in a process: models are loaded in shards, and linear layers save something else.
            unset_hf_deepspeed_config()
            torch.nn.functional.linear = linear
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tiny student before and after two steps of R-SFT. output: the job's folder."""

    base: Path
    model: Path
    output: Path


@dataclass(frozen=True, slots=True)
class Students:
    """Trains a preset when it is first asked for."""

    folder: Path
    known: dict[Path, Made] = field(default_factory=dict)

    def __call__(self, preset: Path) -> Made:
        """What the preset made."""
        if preset not in self.known:
            folder = self.folder / preset.parent.name / preset.stem
            path, config = sections(preset)
            base = base_of(path, folder / "base")
            rows = {"batch_size": 8, "micro_batch_size": 4, "learning_rate": 3e-3, "epochs": 2}
            settings = {**config.sft.model_dump(mode="json"), **ONE_PROCESS, **rows}
            data = write_examples(folder / "data.parquet", [example(n) for n in range(8)])
            result = run(
                sft, {"model": str(base), "examples": str(data), "output": str(folder / "out"), "sft": settings}
            )
            assert result["steps"] == 2
            self.known[preset] = Made(base=base, model=Path(result["model"]), output=folder / "out")
        return self.known[preset]


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Students:
    return Students(tmp_path_factory.mktemp("students"))


def changed(base: Path, model: Path) -> set[str]:
    """Names of the weights that differ; both have the same ones."""
    import torch
    from safetensors.torch import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (base, model))
    assert set(before) == set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def language(base: Path) -> set[str]:
    """Names of the weights outside of an image encoder."""
    from safetensors.torch import load_file

    return {name for name in load_file(base / "model.safetensors") if not any(part in name for part in ENCODER)}


# ---- sizes


def planned() -> dict[str, Any]:
    """Every deployment that trains on GPUs: its sections by name."""
    found: dict[str, Any] = {preset.stem: load(DistilConfig, preset) for preset in STUDENTS}
    found |= {name: load(PipelineConfig, DEPLOYMENTS / f"{name}.yaml") for name in ("single_gpu", "cluster")}
    grid = load(SweepConfig, DEPLOYMENTS / "paper_grid.yaml")
    return found | {f"grid {cell.student}": grid.student_config(cell, debates="f") for cell in grid.cells()}


@pytest.mark.parametrize("name", planned())
def test_a_preset_fits_the_gpu_that_it_names(name: str) -> None:
    config = planned()[name]
    shape = Shape.read(CONFIGS[config.student.path])
    rewards = Shape.read(CONFIGS[(config.prm.model or config.student).path])
    assert shape and rewards
    jobs = {config.sft: shape, config.prm: rewards, config.grpo: shape}
    for job, of in jobs.items():
        assert job.gpus_per_worker == 1 and (job.gpu_memory_gib or name in ("single_gpu", "cluster"))
        available = (job.gpu_memory_gib or 80) * memory.GIB
        needed = memory.estimate(of, job, traces=TRACES, scorer=2 * rewards.body, available=available)
        assert needed.total < available, f"{type(job).__name__}: {needed}"


@pytest.mark.parametrize("preset", TEACHERS, ids=lambda path: path.stem)
def test_a_teacher_preset_is_a_config_of_build_traces(preset: Path) -> None:
    assert load(BuildTracesConfig, preset).run.name == preset.stem


# ---- training


@pytest.mark.parametrize("preset", [*STUDENTS, *TEACHERS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_preset_trains_its_architecture_and_transformers_loads_the_result(preset: Path, students: Students) -> None:
    import torch

    from agentark_core.training.student_model import model_class

    made = students(preset)
    assert changed(made.base, made.model) == language(made.base), "of an image encoder nothing is trained"

    rows, _ = sft_data.tokenise([example(n) for n in range(8)], ChatFormat.load(made.model), max_length=2048)
    losses = []
    for folder in (made.base, made.model):
        loaded = model_class(folder).from_pretrained(folder, dtype=torch.float32)
        total, count = 0.0, 0
        for row in rows:
            target = torch.tensor([sft_data.labels(row)])
            tokens = int((target != -100).sum())
            with torch.no_grad():
                total += float(loaded(torch.tensor([row["input_ids"]]), labels=target).loss) * tokens
            count += tokens
        losses.append(total / count)
    assert losses[0] == pytest.approx(metrics(made.output)[0]["loss"], rel=0.01)  # of other rows of the eight
    assert losses[1] < 0.97 * losses[0]


def pad(preset: Path, folder: Path) -> None:
    """Two steps of each stage of the reward model, and two of GRPO by it, as the preset says."""
    from agentark_core.training.prm_model import PRM

    path, config = sections(preset)
    base = base_of(path, folder / "base")
    judge = base_of(config.prm.model.path, folder / "judge") if config.prm.model else base
    stage = {"epochs": 1, "learning_rate": 1e-3}
    settings = {**config.prm.model_dump(mode="json"), **ONE_PROCESS, "stage1": stage, "stage2": stage}
    data = prm_helpers.write_process(folder / "process.parquet", questions=4)
    rows = {"batch_size": 2, "micro_batch_size": 1}
    job = {"model": str(judge), "examples": str(data), "output": str(folder / "prm"), "prm": {**settings, **rows}}
    result = run(prm, job)
    assert [stage["steps"] for stage in result["stages"].values()] == [2, 2]
    asked = [{"role": "user", "content": "Q: 3 + 4"}]
    (scores,) = PRM.load(result["model"], device="cpu").scores([asked], ["Step 1: 3 + 4 = 7\n\\boxed{8}"])
    assert len(scores) == 2 and all(0 < score < 1 for score in scores)

    settings = {**config.grpo.model_dump(mode="json"), **ONE_PROCESS, "learning_rate": 1e-3, "watch_prompts": 0}
    rows = {"prompts_per_step": 2, "group_size": 4, "micro_batch_size": 4, "max_tokens": 256}
    settings |= {**rows, "rollouts": "transformers"}  # vLLM's weights cannot be changed on a CPU
    job = {"model": str(base), "prm": result["model"], "output": str(folder / "grpo"), "grpo": settings}
    result = run(grpo, {**job, "prompts": str(grpo_helpers.write_prompts(folder / "prompts.parquet", number=4))})
    assert result["steps"] == 2 and result["zero_variance_groups"] < 4
    moved = changed(base, Path(result["model"]))
    assert moved and moved <= language(base)
    assert ChatFormat.load(result["model"]).stop_ids


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3-0.6b", "llama-3-8b-instruct", "gemma-7b-it", "qwen2.5-vl-3b-instruct"])
def test_a_preset_trains_a_reward_model_and_learns_from_it(name: str, tmp_path: Path) -> None:
    pad(DEPLOYMENTS / "students" / f"{name}.yaml", tmp_path)


def test_pad_is_refused_at_once_for_a_student_that_no_reward_model_can_start_from(tmp_path: Path) -> None:
    preset = load(DistilConfig, DEPLOYMENTS / "students" / "qwen2.5-vl-3b-instruct.yaml")
    student = ModelConfig(path=str(base_of(preset.student.path, tmp_path / "student")))
    of_text = ModelConfig(path=str(base_of("Qwen/Qwen3-0.6B", tmp_path / "text")))

    def check(strategies: list[str], model: ModelConfig | None) -> None:
        settings = {"student": student, "strategies": strategies, "prm": preset.prm.model_copy(update={"model": model})}
        check_models(preset.model_copy(update=settings))

    check(["rsft", "da"], None)
    check(["rsft", "pad"], of_text)
    with pytest.raises(ConfigError, match=r"qwen2_5_vl, which has an image encoder; name a text model .* prm\.model"):
        check(["rsft", "pad"], None)
    data = prm_helpers.write_process(tmp_path / "process.parquet", questions=2)
    with pytest.raises(ConfigError, match="image encoder"):
        run(prm, prm_helpers.resolved(data, tmp_path / "out", base=Path(student.path)))
    assert not (tmp_path / "out").exists()


# ---- serving


def text_part(model: Path, folder: Path) -> Path:
    """The language model of a model with an image encoder, as a model of its own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    whole = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    part = AutoModelForCausalLM.from_config(whole.config.get_text_config(), dtype=torch.float32)
    part.get_decoder().load_state_dict(whole.get_decoder().state_dict())
    part.tie_weights()
    part.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_vllm_serves_each_architecture_and_continues_as_transformers_does(students: Students, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    names = ("qwen3-0.6b", "llama-3-8b-instruct", "gemma-7b-it")
    models = [students(DEPLOYMENTS / "students" / f"{name}.yaml").model for name in names]
    models.append(text_part(students(GEMMA_3).model, tmp_path / "gemma3"))
    prompts = [ChatFormat.load(model).prompt_ids([{"role": "user", "content": "Q: 3 + 3"}]) for model in models]
    done = subprocess.run(
        [sys.executable, str(TESTS / "serve_models.py")],
        input=json.dumps([[str(model), prompt] for model, prompt in zip(models, prompts, strict=True)]),
        env={**os.environ, **QUIET, "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    served = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for model, prompt, tokens in zip(models, prompts, served, strict=True):
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        expected = loaded.generate(torch.tensor([prompt]), max_new_tokens=12, min_new_tokens=12, do_sample=False)
        assert tokens == expected[0, len(prompt) :].tolist(), model


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-3B-Instruct", "google/gemma-3-27b-it"])
def test_a_model_that_vllm_needs_torchvision_for_is_refused_before_an_engine_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(EngineError, match="vLLM imports torchvision for .* serve it on a GPU"):
        VllmEngine(base_of(name, tmp_path), model=ModelConfig(path=name), engine=EngineConfig())
