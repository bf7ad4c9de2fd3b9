"""The estimate of memory per GPU: parameters against real models, activations against what autograd saves, remedies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grpo_helpers import resolved, write_prompts

from agentark_core.cluster import ray_train
from agentark_core.config import DistilConfig, GRPOConfig, PRMConfig, PRMStage, SFTConfig
from agentark_core.errors import ConfigError
from agentark_core.training import memory
from agentark_core.training.model_shape import Shape
from flows.distil import check_models

CONFIGS = json.loads((Path(__file__).resolve().parents[1] / "deployments" / "model_configs.json").read_text())
GIB = 2**30


def shape(name: str) -> Shape:
    found = Shape.read(CONFIGS[name])
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
@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma", "gemma3_text"])
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
        found = Shape.read(described)
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


SMALL = Shape(
    hidden=4,
    mlp=8,
    layers=2,
    heads=2,
    key_values=1,
    head=2,
    vocabulary=10,
    tied=False,
    norms=False,
    sandwich=False,
    vision=0,
)
"""A layer: 4 x 4 + 2 x (4 x 2) + 4 x 4 + 3 x (4 x 8) = 144 weights; with embedding and head 2 x 144 + 2 x 40 = 368."""
STORED = 24 * 4 + 16 * 8 + 8 * 6
"""Bytes a layer stores for one token in float32."""


def test_a_policy_shares_its_gpu_with_reference_scorer_and_rollouts() -> None:
    settings: dict[str, Any] = {"num_workers": 2, "dtype": "float32", "prompts_per_step": 2, "group_size": 3}
    settings |= {"micro_batch_size": 3, "max_prompt_tokens": 5, "max_tokens": 7}
    found = memory.estimate(SMALL, GRPOConfig(**settings), scorer=1000.0)
    assert (found.weights, found.gradients, found.optimizer) == (4 * 368, 4 * 368 / 2, 12 * 368 / 2)
    assert (found.reference, found.scorer, found.engine, found.casts) == (4 * 368, 1000, 0, 0)
    assert found.activations == 3 * 12 * (2 * 4 * 4 + STORED)
    assert found.rollouts == 3 * 12 * (2 + 1) * 8 * 2 + 12 * 3 * 10  # one process answers 3 completions
    assert found.total == pytest.approx(
        1.1 * (4 * 368 + 2 * 368 + 6 * 368 + 4 * 368 + 1000 + found.activations + found.buffers) + GIB
    )
    with_values = memory.estimate(SMALL, GRPOConfig(**settings, advantage="value"))
    assert with_values.activations - found.activations == 3 * 12 * 4 * 8
    sharded = memory.estimate(SMALL, GRPOConfig(**settings, zero_stage=3))
    assert (sharded.reference, sharded.rollouts - found.rollouts) == (2 * 368, 4 * 368)
    assert memory.estimate(SMALL, GRPOConfig(**settings, beta=0)).reference == 0
    beside = GRPOConfig(**settings, rollouts="vllm_colocate", vllm_memory=0.25, gpus_per_worker=1)
    on_vllm = memory.estimate(SMALL, beside, available=80 * GIB)
    assert (on_vllm.rollouts, on_vllm.engine) == (0, 20 * GIB)
    served = memory.estimate(SMALL, GRPOConfig(**settings, rollouts="vllm_server", vllm_url="http://host:8000"))
    assert (served.rollouts, served.engine) == (0, 0)


def test_a_reward_model_needs_what_its_larger_stage_does() -> None:
    settings: dict[str, Any] = {"zero_stage": 0, "dtype": "float32", "micro_batch_size": 2, "max_length": 8}
    both = memory.estimate(SMALL, PRMConfig(**settings), traces=3)
    body = 2 * 144 + 40  # no head of a language model
    assert (both.weights, both.gradients, both.optimizer, both.buffers) == (4 * body, 4 * body, 8 * body, 0)
    assert both.activations == 2 * 3 * 8 * (2 * 4 * 4 + STORED)
    first = memory.estimate(SMALL, PRMConfig(**settings, stage2={"epochs": 0}), traces=3)
    assert (first.weights, first.gradients, first.optimizer) == (4 * body, 4 * 144, 8 * 144)
    assert first.activations == 2 * 3 * 8 * (4 * 4 + STORED)


def test_a_likelihood_head_needs_the_language_model_and_logits_of_some_tokens() -> None:
    settings: dict[str, Any] = {"zero_stage": 0, "dtype": "float32", "micro_batch_size": 2, "max_length": 8}
    config = PRMConfig(**settings, head="likelihood")
    both = memory.estimate(SMALL, config, traces=3)
    head, tokens = 4 * 4, 2 * 3 * 8
    assert both.weights == 4 * (SMALL.text + head) and both.gradients == 4 * (SMALL.body + head)
    assert both.buffers == 4 * 2 * tokens * SMALL.vocabulary / memory.LIKELIHOOD_PARTS
    first = memory.estimate(SMALL, config.model_copy(update={"stage2": PRMStage(epochs=0)}), traces=3)
    assert (first.gradients, first.optimizer) == (4 * head, 8 * head)
    assert first.activations == tokens * (4 * 4 + STORED)


@pytest.mark.parametrize(
    ("config", "gib", "expected"),
    [
        (GRPOConfig(gpus_per_worker=1, num_workers=8, prompts_per_step=32), 80, "grpo.zero_stage 3"),
        (
            GRPOConfig(gpus_per_worker=1, num_workers=8, rollouts="vllm_colocate", vllm_memory=0.8),
            80,
            "grpo.vllm_memory 0.35",
        ),
        (GRPOConfig(gpus_per_worker=1, num_workers=8, zero_stage=3), 70, 'grpo.offload "optimizer"'),
        (PRMConfig(gpus_per_worker=1, num_workers=4), 80, "prm.zero_stage 3"),
    ],
    ids=["zero", "vllm", "offload", "prm"],
)
def test_a_policy_or_reward_model_that_does_not_fit_is_refused_with_settings_that_do(
    config: Any, gib: int, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Qwen/Qwen3-8B"]))
    with pytest.raises(ConfigError) as error:
        memory.check(tmp_path, config, available=gib * GIB, traces=5)
    offered = str(error.value).split("(set ")[1].rstrip(")").split(" or ")
    assert any(expected in one for one in offered), offered
    section = expected.partition(".")[0]
    for one in offered:
        changes = dict(part.removeprefix(f"{section}.").split(" ", 1) for part in one.split(f", {section}."))
        settings = {**config.model_dump(), **{key: json.loads(value) for key, value in changes.items()}}
        memory.check(tmp_path, type(config).model_validate(settings), available=gib * GIB, traces=5)


def test_a_job_is_refused_before_ray_starts_a_process(tmp_path: Path) -> None:
    data = write_prompts(tmp_path / "prompts.parquet", number=20)
    job = resolved(data, tmp_path / "out", gpus_per_worker=1, gpu_memory_gib=0.5)
    with pytest.raises(ConfigError, match=r"a GPU has 0 GiB, the job needs about weights .*reference .*rollouts"):
        ray_train.train("grpo", job, num_workers=1, cpus_per_worker=1, gpus_per_worker=1, storage=tmp_path / "ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("section", "strategies"), [("sft", ["rsft"]), ("prm", ["pad"]), ("grpo", ["rsft", "pad"])])
def test_a_list_of_strategies_is_refused_before_its_first_job_if_any_does_not_fit(
    section: str, strategies: list[str]
) -> None:
    small = {"gpus_per_worker": 1, "gpu_memory_gib": 0.5}
    given = {"traces": ["0" * 16], "student": {"path": "arkling:student"}, "strategies": strategies}
    with pytest.raises(ConfigError, match=rf"a GPU has 0 GiB, the job needs about .*\(set .*{section}\."):
        check_models(DistilConfig.model_validate(given | {section: small}))
    check_models(DistilConfig.model_validate(given))


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
