"""Each student of deployments/students/ through the real training job, as a tiny model of the same architecture, with
the preset's own ZeRO stage and packing; saved, loaded again by transformers, and one served by vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from sft_helpers import example, metrics, write_examples

from agentark_core.chat import ChatFormat
from agentark_core.config import BuildTracesConfig, DistilConfig, load
from agentark_core.training import memory, sft, sft_data
from agentark_core.training.model_shape import Shape

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = json.loads((REPOSITORY / "deployments" / "model_configs.json").read_text())
STUDENTS = sorted((REPOSITORY / "deployments" / "students").glob("*.yaml"))
FAMILIES: dict[str, tiny_models.Family] = {
    "qwen3": "qwen3",
    "llama": "llama",
    "gemma": "gemma",
    "qwen2_5_vl": "qwen2_5_vl",
}
ON_TWO_CORES = {"gpus_per_worker": 0, "num_workers": 1, "batch_size": 8, "micro_batch_size": 4, "learning_rate": 3e-3}


def trained(preset: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """(base, result) of two optimiser steps as the preset says."""
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    linear = torch.nn.functional.linear

    config = load(DistilConfig, preset)
    described = CONFIGS[config.student.path]
    base = tiny_models.make(FAMILIES[described["model_type"]], folder / "base", described=described)
    data = write_examples(folder / "data.parquet", [example(n) for n in range(8)])
    settings = {**config.sft.model_dump(mode="json"), **ON_TWO_CORES, "dtype": "float32", "epochs": 2}
    job = {"model": str(base), "examples": str(data), "output": str(folder / "out"), "sft": settings}
    try:
        return base, sft.train(job)
    finally:
        # What ZeRO-3 leaves in a process: models are loaded in shards, and linear layers save something else.
        unset_hf_deepspeed_config()
        torch.nn.functional.linear = linear


@pytest.mark.parametrize("preset", STUDENTS, ids=lambda path: path.stem)
def test_a_preset_fits_the_gpu_that_it_names(preset: Path) -> None:
    config = load(DistilConfig, preset)
    shape = Shape.read(CONFIGS[config.student.path])
    assert shape and memory.estimate(shape, config.sft).total < config.sft.gpu_memory_gib * memory.GIB


@pytest.mark.parametrize(
    "preset", sorted((REPOSITORY / "deployments" / "teachers").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_teacher_preset_is_a_config_of_build_traces(preset: Path) -> None:
    assert load(BuildTracesConfig, preset).run.name == preset.stem


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("preset", STUDENTS, ids=lambda path: path.stem)
def test_a_preset_trains_its_architecture_and_transformers_loads_the_result(preset: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    base, result = trained(preset, tmp_path)
    model = Path(result["model"])
    assert result["steps"] == 2
    before, after = (load_file(folder / "model.safetensors") for folder in (base, model))
    assert set(before) == set(after)
    unchanged = {name for name in before if torch.equal(before[name], after[name])}
    assert unchanged == {name for name in before if "visual" in name}, "of an image encoder nothing is trained"

    rows, _ = sft_data.tokenise([example(n) for n in range(8)], ChatFormat.load(model), max_length=2048)
    losses = []
    kind = AutoModelForImageTextToText if "vl" in preset.stem else AutoModelForCausalLM
    for folder in (base, model):
        loaded = kind.from_pretrained(folder, dtype=torch.float32)
        total, count = 0.0, 0
        for row in rows:
            target = torch.tensor([sft_data.labels(row)])
            tokens = int((target != -100).sum())
            with torch.no_grad():
                total += float(loaded(torch.tensor([row["input_ids"]]), labels=target).loss) * tokens
            count += tokens
        losses.append(total / count)
    assert losses[0] == pytest.approx(metrics(tmp_path / "out")[0]["loss"], rel=0.01)  # of other rows of the eight
    assert losses[1] < 0.97 * losses[0]


SERVE = """
import json, sys
from vllm import LLM, SamplingParams
engine = LLM(sys.argv[1], dtype="float32", max_model_len=256, enforce_eager=True)
sampling = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
print(json.dumps(engine.generate({"prompt_token_ids": json.loads(sys.argv[2])}, sampling)[0].outputs[0].token_ids))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_vllm_serves_a_student_and_continues_as_transformers_does(
    flow_environment: dict[str, str], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    _, result = trained(REPOSITORY / "deployments" / "students" / "llama-3-8b-instruct.yaml", tmp_path)
    prompt = ChatFormat.load(result["model"]).prompt_ids([{"role": "user", "content": "Q: 3 + 3"}])
    command = [sys.executable, "-c", SERVE, result["model"], json.dumps(prompt)]
    settings = {**flow_environment, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    model = AutoModelForCausalLM.from_pretrained(result["model"], dtype=torch.float32)
    expected = model.generate(torch.tensor([prompt]), max_new_tokens=12, min_new_tokens=12, do_sample=False)
    served = json.loads(done.stdout.splitlines()[-1])
    assert served == expected[0, len(prompt) :].tolist()
