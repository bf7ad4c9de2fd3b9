"""The estimate of memory per GPU: parameters against real models, activations against what autograd saves, remedies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentark_core.config import SFTConfig
from agentark_core.errors import ConfigError
from agentark_core.training import memory

CONFIGS = json.loads((Path(__file__).parent / "data" / "model_configs.json").read_text())
GIB = 2**30


def shape(name: str) -> memory.Shape:
    found = memory.Shape.read(CONFIGS[name])
    assert found is not None
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_the_architecture(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    described = CONFIGS[name]
    config = AutoConfig.for_model(**described)
    kind = AutoModelForImageTextToText if "vision_config" in described else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
    assert shape(name).text + shape(name).vision == pytest.approx(sum(w.numel() for w in model.parameters()), rel=2e-3)


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma"])
def test_activations_are_what_autograd_saves(family: str, mixed: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 96, "intermediate_size": 320, "num_attention_heads": 4, "num_key_value_heads": 2}
    common = {**sizes, "head_dim": 32, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

    def saved(layers: int, tokens: int) -> int:
        described = AutoConfig.for_model(family, num_hidden_layers=layers, **common)
        model = AutoModelForCausalLM.from_config(described, dtype=torch.float32).train()
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: Any) -> Any:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            model.model(input_ids=torch.ones((1, tokens), dtype=torch.long), use_cache=False)
        return sum(t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights)

    def estimated(layers: int, tokens: int) -> float:
        described = {**common, "model_type": family, "num_hidden_layers": layers}
        settings: dict[str, Any] = {"micro_batch_size": 1, "max_length": tokens, "gradient_checkpointing": False}
        found = memory.Shape.read(described)
        assert found is not None
        return memory.estimate(found, SFTConfig(dtype="bfloat16" if mixed else "float32", **settings)).activations

    # Between two lengths and two depths weights, their casts and the ends of the model cancel out.
    measured = saved(3, 128) - saved(3, 64) - saved(1, 128) + saved(1, 64)
    assert estimated(3, 128) - estimated(3, 64) - estimated(1, 128) + estimated(1, 64) == pytest.approx(
        measured, rel=0.02
    )


def test_zero_stages_share_what_they_say() -> None:
    stages = [
        memory.estimate(shape("Qwen/Qwen3-8B"), SFTConfig(zero_stage=stage, num_workers=8, micro_batch_size=1))
        for stage in (0, 1, 2, 3)
    ]
    billions = shape("Qwen/Qwen3-8B").text
    assert [round(s.weights / billions, 2) for s in stages] == [4, 4, 4, 0.5]
    assert [round(s.gradients / billions, 2) for s in stages] == [4, 4, 0.5, 0.5]
    assert [round(s.optimizer / billions, 2) for s in stages] == [8, 1.5, 1.5, 1.5]


def test_offload_leaves_the_gpu_what_is_in_use() -> None:
    def on_gpu(**settings: Any) -> memory.Memory:
        return memory.estimate(shape("Qwen/Qwen3-8B"), SFTConfig(micro_batch_size=1, **settings))

    kept, optimizer, everything = (on_gpu(zero_stage=3, offload=what) for what in ("none", "optimizer", "all"))
    assert (optimizer.optimizer, optimizer.gradients, optimizer.weights) == (0, 0, kept.weights)
    assert (everything.optimizer, everything.gradients, everything.weights) == (0, 0, 0)
    assert everything.activations == kept.activations and everything.buffers == kept.buffers
    first = on_gpu(zero_stage=1, offload="optimizer")
    assert (first.optimizer, first.gradients) == (0, on_gpu(zero_stage=1).gradients)
    assert "sft.offload" in memory.remedies(
        shape("Qwen/Qwen3-8B"), SFTConfig(micro_batch_size=1, batch_size=1), available=60 * GIB
    )


def test_a_job_that_does_not_fit_is_refused_with_settings_that_do(tmp_path: Path) -> None:
    for name, settings, gib in [
        ("Qwen/Qwen3-8B", {"num_workers": 4, "micro_batch_size": 4}, 80),
        ("Qwen/Qwen3-8B", {}, 80),
        ("Qwen/Qwen3-0.6B", {"gradient_checkpointing": False}, 40),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
        config = SFTConfig(gpus_per_worker=1, zero_stage=2, **settings)
        with pytest.raises(ConfigError) as error:
            memory.check(tmp_path, config, available=gib * GIB)
        assert f"a GPU has {gib} GiB, the job needs about weights" in str(error.value)
        first = str(error.value).split("(set ")[1].rstrip(")").split(" or ")[0]
        changes = dict(part.removeprefix("sft.").split(" ", 1) for part in first.split(", sft."))
        remedied = SFTConfig.model_validate(
            {**config.model_dump(), **{key: json.loads(value) for key, value in changes.items()}}
        )
        memory.check(tmp_path, remedied, available=gib * GIB)
    memory.check(tmp_path, config, available=0)  # not known: logged only
