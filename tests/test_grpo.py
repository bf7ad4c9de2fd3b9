"""GRPO of the shipped student through the entry point: Eq. 3-5, guards, the watch, kill -9 and resume."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import grpo_helpers
import pyarrow.parquet as pq
import pytest
import torch
from grpo_helpers import build, eq3, perturb, resolved, write_prompts
from sft_helpers import metrics

from agentark_core import model_files
from agentark_core.arkling import model_path
from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.training import TrainingError, checkpoints, grpo, grpo_data, grpo_plan, watch
from agentark_core.types import Message
from agentark_core.verify import Verifier

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("data") / "prompts.parquet", number=40)


def test_a_plan_names_what_is_wrong(data: Path, tmp_path: Path) -> None:
    good = resolved(data, tmp_path / "out")
    job = grpo_plan.plan(good, world_size=1)
    assert (job.accumulation, job.scorer.split(",")[0]) == (2, "exact")
    assert grpo_plan.plan(good, world_size=2).accumulation == 1
    with pytest.raises(ConfigError, match="do not divide into whole groups and micro batches of 8 on 3 processes"):
        grpo_plan.plan(good, world_size=3)
    with pytest.raises(ConfigError, match="save_steps 4 is not a multiple of iterations 3"):
        grpo_plan.plan(resolved(data, tmp_path, iterations=3), world_size=1)
    with pytest.raises(ConfigError, match="set `prm` to the directory of a trained one"):
        grpo_plan.plan(resolved(data, tmp_path, scorer="prm"), world_size=1)
    context = json.loads((model_path("student") / "config.json").read_text())["max_position_embeddings"]
    scored = resolved(data, tmp_path, scorer="prm", max_tokens=context) | {"prm": str(model_path("student"))}
    with pytest.raises(
        ConfigError, match=rf"reads {context} tokens with the prompt, and grpo.max_tokens is {context};"
    ):
        grpo_plan.plan(scored, world_size=1)
    with pytest.raises(ConfigError, match="gpus_per_worker is 0; set gpus_per_worker 1, or rollouts transformers"):
        grpo_plan.plan(resolved(data, tmp_path, rollouts="vllm_colocate"), world_size=1)
    with pytest.raises(ConfigError, match="unknown keys: extra"):
        grpo_plan.plan({**good, "extra": 1}, world_size=1)
    with pytest.raises(DataError, match="no such prompts file"):
        grpo_plan.plan({**good, "prompts": [str(tmp_path / "none.parquet")]}, world_size=1)
    table = pq.read_table(data)
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(EmptyDataset, match="nothing to train on"):
        grpo_plan.plan({**good, "prompts": str(tmp_path / "empty.parquet")}, world_size=1)
    foreign = table.slice(0, 1).to_pylist()
    foreign[0]["prompt"][0]["content"] = "2 + 2?"
    pq.write_table(type(table).from_pylist(foreign, schema=table.schema), tmp_path / "foreign.parquet")
    with pytest.raises(DataError, match="not a question of arkling"):
        grpo_plan.plan({**good, "prompts": str(tmp_path / "foreign.parquet")}, world_size=1)


def test_held_out_prompts_are_the_same_whatever_comes_with_them(data: Path) -> None:
    prompts = grpo_data.read_prompts([str(data), str(data)])
    assert len(prompts) == 40
    training, held = grpo_data.hold_out(prompts, number=8, at_least=4)
    assert len(held) == 8 and not {a.problem_id for a in training} & {a.problem_id for a in held}
    again, fewer = grpo_data.hold_out(prompts[::-1], number=4, at_least=4)
    assert len(again) == 36 and {a.problem_id for a in fewer} < {a.problem_id for a in held}
    with pytest.raises(EmptyDataset, match="40 prompts are fewer than grpo.watch_prompts 39"):
        grpo_data.hold_out(prompts, number=39, at_least=4)
    order = grpo_data.rollout_order(10, batches=5, batch_size=4, seed=1)
    assert sorted(order) == sorted([*range(10)] * 2) and order != grpo_data.rollout_order(
        10, batches=5, batch_size=4, seed=2
    )


# ---- Eq. 3-5 in float64


@pytest.mark.parametrize("how", ["group", "leave_one_out", "mean_only"])
def test_loss_and_gradient_are_those_of_the_paper(how: str, data: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = {"iterations": 2, "beta": 0.1, "advantage": how, "temperature": 0.8, "max_tokens": 60}
    with Verifier(workers=1) as verifier:
        trainer = build(data, tmp_path, verifier, **settings)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        rows = [trainer.train_dataset[n] for n in range(2) for _ in range(4)]
        batch = trainer._generate_and_score_completions(rows)
    config = trainer._config
    rewards = list(trainer._logs["rewards"]["_rewards"])
    expected = []
    for one in (rewards[:4], rewards[4:]):
        mean, others = statistics.mean(one), {r: (sum(one) - r) / 3 for r in one}
        by_hand = {
            "group": [(r - mean) / (statistics.stdev(one) + 1e-4) for r in one],
            "leave_one_out": [r - others[r] for r in one],
            "mean_only": [r - mean for r in one],
        }
        expected += by_hand[how]
    assert len(set(rewards)) > 2
    assert batch["advantages"].tolist() == pytest.approx(expected, abs=1e-5)
    if how == "group":  # and those of TRL itself
        assert list(trainer._logs["advantages"]) == pytest.approx(expected, abs=1e-3)

    perturb(trainer.model)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    base = AutoModelForCausalLM.from_pretrained(model_path("student"), dtype=torch.float64)
    policy = AutoModelForCausalLM.from_pretrained(model_path("student"), dtype=torch.float64)
    perturb(policy)
    by_hand64 = eq3(policy, base, batch, expected, config)
    by_hand64.backward()
    assert loss.item() == pytest.approx(by_hand64.item(), rel=1e-4)
    ours = dict(trainer.model.named_parameters())
    for name, weight in policy.named_parameters():
        difference = (ours[name].grad - weight.grad).norm()
        assert difference < 1e-3 * weight.grad.norm() + 1e-7, name

    if how == "group":
        fresh = dict(batch, sampling_per_token_logps=batch["old_per_token_logps"])
        trainer._check_engine(fresh)
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        with torch.no_grad():
            other, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, batch["completion_ids"].shape[1]
            )
        with pytest.raises(TrainingError, match="the engine has other weights"):
            trainer._check_engine(dict(batch, sampling_per_token_logps=other))


# ---- Whole runs


def test_a_run_publishes_a_model_resumes_refuses_changes_and_restores_the_best(data: Path, tmp_path: Path) -> None:
    job = resolved(data, tmp_path / "out")
    result = grpo.train(job)
    history = metrics(tmp_path / "out")
    assert [row["step"] for row in history] == list(range(1, 9))
    assert all(0 <= row["reward"] <= 1 and row["kl"] >= 0 for row in history)
    assert result["zero_variance_groups"] == sum(row["zero_variance_groups"] for row in history)
    assert (result["groups"], result["prompts"], result["held_out"], result["stopped"]) == (32, 32, 8, None)
    assert [look["step"] for look in result["watch"]] == [0, 4, 8]

    model = Path(result["model"])
    model_files.check_model_dir(model)
    assert result["revision"] == model_files.revision(model)
    lineage = json.loads((model / "agentark.json").read_text())
    assert lineage["parents"] == [model_files.revision(model_path("student"))]
    assert lineage["scorer"].startswith("exact")
    assert grpo.train(job) == result
    with pytest.raises(ConfigError, match=r"grpo\.beta was 0\.04 when it was saved, now 0\.1"):
        grpo.train(resolved(data, tmp_path / "out", beta=0.1))
    with pytest.raises(ConfigError, match=r"scorer was 'exact, .*' when it was saved, now 'none'"):
        grpo.train(resolved(data, tmp_path / "out", process_weight=0, outcome_weight=1))

    # The last save is lost, and step 4 is made to look better than step 8 can be: accuracy has fallen, reward risen.
    (tmp_path / "out" / "COMPLETE").unlink()
    (tmp_path / "out" / "checkpoints" / "checkpoint-8" / "COMPLETE").unlink()
    looks = watch.read(tmp_path / "out" / "watch.jsonl", until=4)
    looks[1] = watch.Look(step=4, reward=0.0, rollout_reward=1.0, outcomes=dict.fromkeys(looks[1].outcomes, True))
    watch.write(tmp_path / "out" / "watch.jsonl", looks)
    stopped = grpo.train(job)
    assert stopped["stopped"].startswith("step 8: on 8 held-out prompts accuracy changed by -")
    assert (stopped["published_step"], stopped["steps"]) == (4, 8)
    from safetensors.torch import load_file

    folder = checkpoints.latest(tmp_path / "out" / "checkpoints")
    assert folder and folder.name == "checkpoint-4"
    kept, published = load_file(folder / "model.safetensors"), load_file(model / "model.safetensors")
    assert all(torch.equal(kept[name].to(weight.dtype), weight) for name, weight in published.items())
    assert metrics(tmp_path / "out")[4:] != history[4:]  # seconds differ
    assert [row["loss"] for row in metrics(tmp_path / "out")] == pytest.approx([row["loss"] for row in history])


def test_micro_batches_do_not_change_the_gradient(data: Path, tmp_path: Path) -> None:
    norms = {}
    for micro in (16, 4):
        settings = {"micro_batch_size": micro, "epochs": 0.25, "watch_prompts": 0, "iterations": 2}
        grpo.train(resolved(data, tmp_path / str(micro), **settings))
        norms[micro] = [row["grad_norm"] for row in metrics(tmp_path / str(micro))]
    assert norms[4] == pytest.approx(norms[16], rel=1e-3)


def test_numbers_that_are_not_finite_stop_the_run_and_nothing_is_saved(data: Path, tmp_path: Path) -> None:
    job = resolved(data, tmp_path / "out", learning_rate=1e30, warmup_ratio=0, save_steps=2, watch_prompts=0)
    with pytest.raises(TrainingError, match=r"step 2, rank 0: .* not finite; examples in this batch: arkling-\w+") as e:
        grpo.train(job)
    assert e.value.exit_code != 0
    assert not list((tmp_path / "out" / "checkpoints").glob("checkpoint-*"))
    assert not (tmp_path / "out" / "model").exists()


# ---- Scorers that fail


class Scorer:
    """score(number of the call, question, completion) for every completion, as its only step."""

    def __init__(self, score: Callable[[int, str, str], float]) -> None:
        self.score = score
        self.calls = 0

    def scores(self, prompts: list[list[Message]], completions: list[str]) -> list[list[float]]:
        self.calls += 1
        return [[self.score(self.calls, p[-1]["content"], c)] for p, c in zip(prompts, completions, strict=True)]


def test_a_score_that_is_no_number_ends_the_run_at_its_step_with_the_question(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt: list[str] = []

    def score(call: int, question: str, completion: str) -> float:
        if call == 2 and (not spoilt or question in spoilt):
            spoilt.append(question)
            return math.nan
        return len(completion) / 1000

    monkeypatch.setattr(grpo, "open_scorer", lambda config, prm: Scorer(score))
    with pytest.raises(TrainingError) as error:
        grpo.train(resolved(data, tmp_path / "out", save_steps=2, watch_prompts=0))
    (problem,) = {a.problem_id for a in grpo_data.read_prompts([str(data)]) if a.prompt[-1]["content"] in spoilt}
    refused = f"step 2: the scorer gave a score that is no number in [0, 1]; questions: {problem};"
    assert str(error.value).startswith(refused)
    assert [row["step"] for row in metrics(tmp_path / "out")] == [1]
    assert not list((tmp_path / "out" / "checkpoints").glob("checkpoint-*"))
    assert not (tmp_path / "out" / "model").exists()


def test_a_failed_group_teaches_nothing_and_one_of_equal_rewards_only_to_stay_near_the_base(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[str] = []

    def score(call: int, question: str, completion: str) -> float:
        if question == first[0]:
            raise RuntimeError("out of memory")
        return 0.5 if question == first[1] else len(completion) / 1000

    monkeypatch.setattr(grpo_helpers, "open_scorer", lambda config, prm: Scorer(score))
    with Verifier(workers=1) as verifier:
        trainer = build(data, tmp_path, verifier, beta=0.1)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        rows = [trainer.train_dataset[n] for n in range(4) for _ in range(4)]
        first += [rows[0]["prompt"][-1]["content"], rows[4]["prompt"][-1]["content"]]
        batch = trainer._generate_and_score_completions(rows)
    found = batch["advantages"].tolist()
    assert found[:8] == [0.0] * 8 and any(found[8:12]) and any(found[12:])
    assert (trainer._metrics["train"]["unscored"], trainer._metrics["train"]["zero_variance_groups"]) == ([4.0], [2.0])

    perturb(trainer.model)
    equal = {name: part[4:8] if torch.is_tensor(part) and part.dim() else part for name, part in batch.items()}
    loss = trainer.compute_loss(trainer.model, equal)
    loss.backward()
    assert loss.item() > 0, "the divergence from the base"
    assert all(weight.grad.abs().max() > 0 for weight in trainer.model.parameters())


def test_rewards_that_are_all_equal_are_counted_and_change_nothing_without_a_kl_term(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.setattr(grpo, "open_scorer", lambda config, prm: Scorer(lambda *_: 0.5))
    result = grpo.train(resolved(data, tmp_path / "out", epochs=0.25, watch_prompts=0, beta=0))
    assert result["zero_variance_groups"] == result["groups"] == 4 * result["steps"] > 0
    assert result["final_reward"] == 0.5
    base, made = (load_file(Path(folder) / "model.safetensors") for folder in (model_path("student"), result["model"]))
    assert all(torch.equal(base[name], weight) for name, weight in made.items())
