"""PPO (Eq. 8-9): advantages and value loss by hand, the whole loss in float64, publication, resume, two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_helpers import build, eq3, perturb, resolved, write_prompts
from safetensors.torch import load_file
from sft_helpers import metrics

from agentark_core import model_files
from agentark_core.arkling import model_path
from agentark_core.errors import ConfigError
from agentark_core.training import checkpoints, grpo, value
from agentark_core.verify import Verifier

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("data") / "prompts.parquet", number=40)


# ---- By hand

REWARDS = torch.tensor([1.0, 0.0, 1.0])
VALUES = torch.tensor([[0.2, 0.5, 0.4], [0.3, 0.1, 9.0], [7.0, 7.0, 7.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("gae_lambda", "by_hand"),
    [
        # deltas: 0.5 - 0.2, 0.4 - 0.5, 1 - 0.4; 0.1 - 0.3, 0 - 0.1; nothing
        (0.0, [[0.3, -0.1, 0.6], [-0.2, -0.1, 0], [0, 0, 0]]),
        (0.5, [[0.3 + 0.5 * 0.2, -0.1 + 0.5 * 0.6, 0.6], [-0.2 - 0.05, -0.1, 0], [0, 0, 0]]),
        (1.0, [[0.8, 0.5, 0.6], [-0.3, -0.1, 0], [0, 0, 0]]),  # R - V
    ],
)
def test_advantages_are_those_computed_by_hand(gae_lambda: float, by_hand: list[list[float]]) -> None:
    found = value.gae(REWARDS, VALUES, MASK, gae_lambda=gae_lambda)
    assert found.flatten().tolist() == pytest.approx(sum(by_hand, []), abs=1e-6)


def test_the_gradient_of_the_value_loss_is_that_computed_by_hand() -> None:
    head = value.ValueHead(2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, 2.0]))
        head.bias.fill_(0.5)
    hidden = torch.tensor([[[3.0, 4.0], [6.0, 8.0]], [[4.0, 3.0], [5.0, 5.0]]])
    root = 12.5**0.5  # of the mean square of (3, 4)
    values = head(hidden)
    by_hand = [(3 + 8) / root / 2 + 0.5] * 2 + [(4 + 6) / root / 2 + 0.5]
    assert values.flatten().tolist()[:3] == pytest.approx(by_hand)
    errors = [by_hand[0] - 1, by_hand[1] - 0, by_hand[2] - 2]
    loss = value.value_loss(values, torch.tensor([[1.0, 0.0], [2.0, 77.0]]), torch.tensor([[1, 1], [1, 0]]))
    assert loss.item() == pytest.approx(((errors[0] ** 2 + errors[1] ** 2) / 2 + errors[2] ** 2) / 2)
    loss.backward()
    slope = [errors[0] / 2, errors[1] / 2, errors[2]]  # dL/dV of the three tokens
    assert head.bias.grad.item() == pytest.approx(sum(slope))
    along = [(slope[0] + slope[1]) * 3 + slope[2] * 4, (slope[0] + slope[1]) * 4 + slope[2] * 3]
    assert head.weight.grad.tolist() == pytest.approx([x / root / 2 for x in along])


# ---- The whole loss in float64


def values64(policy: Any, head: dict[str, Any], batch: dict[str, Any], row: int) -> Any:
    """V of the states before the tokens of one completion, from unpadded ids."""
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
    completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    hidden = policy.model(torch.cat([prompt, completion])[None]).last_hidden_state[0, len(prompt) - 1 : -1]
    normed = hidden / (hidden.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return normed @ head["weight"] / hidden.shape[-1] + head["bias"]


@pytest.mark.parametrize("iterations", [1, 2])
def test_loss_and_gradient_are_the_clipped_objective_and_the_value_error(
    iterations: int, data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    settings = {"iterations": iterations, "beta": 0.1, "gae_lambda": 0.9, "value_weight": 0.3, "max_tokens": 60}
    base = AutoModelForCausalLM.from_pretrained(model_path("student"), dtype=torch.float64)
    policy = AutoModelForCausalLM.from_pretrained(model_path("student"), dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(96, generator=generator) * 5
    head = {"weight": weight.double(), "bias": torch.tensor([0.3], dtype=torch.float64)}
    with Verifier(workers=1) as verifier:
        trainer = build(data, tmp_path, verifier, advantage="value", **settings)
        with torch.no_grad():
            trainer.model.value_head.weight.copy_(weight)
            trainer.model.value_head.bias.fill_(0.3)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        batch = trainer._generate_and_score_completions([trainer.train_dataset[n] for n in range(2) for _ in range(4)])

    lengths = batch["completion_mask"].sum(1).tolist()
    assert 0 in lengths or len(set(lengths)) > 1
    rewards = list(trainer._logs["rewards"]["_rewards"])
    raw, returns = [], []
    with torch.no_grad():
        for row, length in enumerate(lengths):
            values = values64(base, head, batch, row).tolist()
            advantages: list[float] = []
            for t in reversed(range(length)):
                ahead = rewards[row] if t == length - 1 else values[t + 1] + 0.9 * advantages[0]
                delta_and_rest = ahead - values[t]
                advantages.insert(0, delta_and_rest)
            raw.append(torch.tensor(advantages, dtype=torch.float64))
            returns.append(raw[-1] + torch.tensor(values, dtype=torch.float64))
    together = torch.cat(raw)
    expected = [(one - together.mean()) / together.std(correction=0) for one in raw]
    for row, length in enumerate(lengths):
        assert batch["advantages"][row, :length].tolist() == pytest.approx(expected[row].tolist(), abs=2e-4)
        assert batch["returns"][row, :length].tolist() == pytest.approx(returns[row].tolist(), abs=2e-4)
        assert not batch["advantages"][row, length:].any()

    if iterations == 2:  # else old and new policy are one
        perturb(policy)
        with torch.no_grad():
            kept = [w.clone() for w in trainer.model.value_head.parameters()]
            perturb(trainer.model)
            for now, before in zip(trainer.model.value_head.parameters(), kept, strict=True):
                now.copy_(before)
    trainer.compute_loss(trainer.model, batch).backward()
    for tensor in head.values():
        tensor.requires_grad_(True)
    errors = [
        (values64(policy, head, batch, row) - returns[row]).square().mean() if length else torch.zeros(())
        for row, length in enumerate(lengths)
    ]
    by_hand = eq3(policy, base, batch, expected, trainer._config) + 0.3 * sum(errors) / len(errors)
    by_hand.backward()
    ours = dict(trainer.model.named_parameters())
    wanted = {name: w.grad for name, w in policy.named_parameters()}
    wanted |= {f"value_head.{name}": tensor.grad for name, tensor in head.items()}
    assert set(ours) == set(wanted)
    for name, gradient in wanted.items():
        assert (ours[name].grad - gradient).norm() < 1e-3 * gradient.norm() + 1e-7, name


def test_a_completion_without_a_reward_teaches_neither_policy_nor_values(data: Path, tmp_path: Path) -> None:
    with Verifier(workers=1) as verifier:
        trainer = build(data, tmp_path, verifier, advantage="value", max_tokens=60)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        rows = [trainer.train_dataset[n] for n in range(2) for _ in range(4)]
        batch = trainer._generate_and_score_completions(rows)
        trainer._totals[1] = None
        trainer._add_advantages(batch)
    assert batch["completion_mask"][1].any() and not batch["learned"][1].any()
    assert not batch["advantages"][1].any() and batch["advantages"][0].any()
    seen = batch["advantages"][batch["learned"]]
    assert seen.mean().item() == pytest.approx(0, abs=1e-5)
    assert seen.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_what_generates_sees_the_policy_without_its_value_head(data: Path, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    with Verifier(workers=1) as verifier:
        trainer = build(data, tmp_path, verifier, advantage="value")
        generate = trainer.model.generate
        names = {name for name, _ in trainer.model.named_parameters()}

        def watched(*args: Any, **kwargs: Any) -> Any:
            seen.append({name for name, _ in trainer.model.named_parameters()})
            return generate(*args, **kwargs)

        trainer.model.generate = watched
        trainer.model.train()
        trainer._generate_and_score_completions([trainer.train_dataset[0]] * 4)
    assert seen and all(found == names - {"value_head.weight", "value_head.bias"} for found in seen)
    assert {name for name, _ in trainer.model.named_parameters()} == names


# ---- Whole runs


def test_a_run_publishes_the_policy_alone_resumes_with_its_values_and_refuses_grpo(data: Path, tmp_path: Path) -> None:
    job = resolved(data, tmp_path / "out", advantage="value", save_steps=2, keep_checkpoints=9, epochs=0.75)
    result = grpo.train(job)
    history = metrics(tmp_path / "out")
    assert all(row["value_loss"] > 0 and row["value_explained"] <= 1 for row in history)
    model = Path(result["model"])
    model_files.check_model_dir(model)
    published, base = load_file(model / "model.safetensors"), load_file(model_path("student") / "model.safetensors")
    assert published.keys() == base.keys()
    folder = tmp_path / "out" / "checkpoints"
    last = load_file(folder / "checkpoint-6" / "model.safetensors")
    assert last["value_head.weight"].abs().max() > 0
    assert all(torch.equal(last[name].to(w.dtype), w) for name, w in published.items())

    for setting in ({"advantage": "group"}, {"advantage": "value", "gae_lambda": 0.95}):
        key, value_now = list(setting.items())[-1]
        before = {"advantage": "'value'", "gae_lambda": "1.0"}[key]
        with pytest.raises(ConfigError, match=rf"grpo\.{key} was {before} when it was saved, now {value_now!r}"):
            grpo.train(resolved(data, tmp_path / "out", save_steps=2, keep_checkpoints=9, epochs=0.75, **setting))
    (tmp_path / "out" / "COMPLETE").unlink()
    with pytest.raises(ConfigError, match=r"checkpoint-6: grpo\.advantage was 'value' when it was saved, now 'group'"):
        grpo.train(resolved(data, tmp_path / "out", save_steps=2, keep_checkpoints=9, epochs=0.75))

    for step in (4, 6):  # as if killed during the save of step 4
        (folder / f"checkpoint-{step}" / "COMPLETE").unlink()
    again = grpo.train(job)
    assert checkpoints.latest(folder) == folder / "checkpoint-6"
    assert [again[key] for key in ("steps", "tokens")] == [result[key] for key in ("steps", "tokens")]
    for column in ("loss", "value_loss", "value_explained", "kl"):
        expected = [row[column] for row in history]
        assert [row[column] for row in metrics(tmp_path / "out")] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    for name, weight in load_file(folder / "checkpoint-6" / "model.safetensors").items():
        assert torch.allclose(weight, last[name], atol=1e-6), name


@pytest.mark.slow
def test_two_processes_under_zero2_publish_one_policy(data: Path, tmp_path: Path) -> None:
    config = resolved(data, tmp_path / "out", advantage="value", epochs=0.25, save_steps=2, zero_stage=2)
    (tmp_path / "job.json").write_text(json.dumps(config))
    module = ["-m", "agentark_core.training.grpo", "--config", str(tmp_path / "job.json")]
    group = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", os.environ["MASTER_PORT"]]
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
    done = subprocess.run([sys.executable, *group, *module], cwd=ROOT, env=clean, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    history = metrics(tmp_path / "out")
    assert [row["step"] for row in history] == [1, 2]
    published = load_file(tmp_path / "out" / "model" / "model.safetensors")
    last = load_file(tmp_path / "out" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert published.keys() == load_file(model_path("student") / "model.safetensors").keys()
    assert last["value_head.bias"].item() != 0
