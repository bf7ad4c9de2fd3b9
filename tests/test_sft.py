"""R-SFT: rows and masks, plans, Eq. 1, checkpoints, the published model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_models
from sft_helpers import example, metrics, resolved, write_examples

from agentark_core import examples, model_files
from agentark_core.chat import ChatFormat
from agentark_core.errors import ConfigError, DataError, EmptyDataset, ModelError
from agentark_core.training import TrainingError, checkpoints, sft, sft_data, sft_plan


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("qwen3", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "examples.parquet")


def test_only_the_completion_is_learned_its_end_token_included(base: Path) -> None:
    chat = ChatFormat.load(base)
    rows, too_long = sft_data.tokenise([example(7)], chat, max_length=500)
    assert too_long == 0
    learned = [token for token, mask in zip(rows[0]["input_ids"], rows[0]["completion_mask"], strict=True) if mask]
    assert chat.tokenizer.decode(learned) == "<think>\n\n</think>\n\n" + example(7).completion + "<|im_end|>"
    start = rows[0]["completion_mask"].index(1)
    assert set(rows[0]["completion_mask"][start:]) == {1}
    assert sft_data.labels(rows[0])[start - 1 :] == [-100, *rows[0]["input_ids"][start:]]


def test_long_rows_are_set_aside_and_counted(base: Path) -> None:
    chat = ChatFormat.load(base)
    rows, too_long = sft_data.tokenise([example(1), example(2, completion="9 " * 300)], chat, max_length=120)
    assert ([row["example_id"] for row in rows], too_long) == (["e1"], 1)
    with pytest.raises(EmptyDataset, match="exceed sft.max_length 8"):
        sft_data.tokenise([example(1)], chat, max_length=8)


def test_the_order_is_reproducible_covers_every_row_and_batches_similar_lengths() -> None:
    lengths = [10 + (7 * n) % 90 for n in range(400)]
    order = sft_data.training_order(lengths, steps=100, batch_size=8, seed=1)
    assert order == sft_data.training_order(lengths, steps=100, batch_size=8, seed=1)
    assert order != sft_data.training_order(lengths, steps=100, batch_size=8, seed=2)
    assert sorted(order) == sorted([*range(400), *range(400)])
    batches = [order[i : i + 8] for i in range(0, len(order), 8)]
    padded = sum(8 * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths[row] for row in order)


def test_a_plan_names_what_is_wrong(base: Path, data: Path, tmp_path: Path) -> None:
    good = resolved(base, data, tmp_path / "out")
    assert sft_plan.plan(good, world_size=1).accumulation == 1
    assert sft_plan.plan(resolved(base, data, tmp_path, micro_batch_size=2), world_size=2).accumulation == 2
    with pytest.raises(ConfigError, match="batch_size 8 is not a multiple of micro_batch_size 8 x processes 3"):
        sft_plan.plan(good, world_size=3)
    with pytest.raises(ConfigError, match="unknown keys: extra"):
        sft_plan.plan({**good, "extra": 1}, world_size=1)
    with pytest.raises(ModelError, match="content hash"):
        sft_plan.plan({**good, "revision": "0" * 16}, world_size=1)
    with pytest.raises(DataError, match="no such examples file"):
        sft_plan.plan({**good, "examples": [str(tmp_path / "none.parquet")]}, world_size=1)
    pq.write_table(examples.to_table([]), tmp_path / "empty.parquet")
    with pytest.raises(EmptyDataset, match="nothing to train on"):
        sft_plan.plan({**good, "examples": str(tmp_path / "empty.parquet")}, world_size=1)


def test_questions_of_a_later_watch_are_left_out_and_counted(base: Path, data: Path, tmp_path: Path) -> None:
    good = resolved(base, data, tmp_path / "out")
    whole = sft_plan.plan(good, world_size=1)
    ids = sorted({one.problem_id for one in whole.examples})
    part = sft_plan.plan({**good, "held_out": ids[:3]}, world_size=1)
    assert {one.problem_id for one in part.examples} == set(ids[3:])
    assert len(part.examples) + part.held_out == len(whole.examples) and part.held_out >= 3
    assert part.digest != whole.digest
    with pytest.raises(EmptyDataset, match=r"all \d+ examples are of the \d+ questions that the watch .* asks"):
        sft_plan.plan({**good, "held_out": ids}, world_size=1)


def test_only_complete_checkpoints_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("abc")
        if step < 100:
            checkpoints.write_marker(tmp_path / f"checkpoint-{step}", {"step": step, "run": {}})
    assert checkpoints.latest(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / "weights").write_text("ab")  # cut after the marker was written
    assert checkpoints.latest(tmp_path) == tmp_path / "checkpoint-5"
    checkpoints.remove_incomplete(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-5"]
    assert caplog.text.count("incomplete checkpoint") == 2


def eq1_float64(base: Path, rows: list[dict[str, Any]]) -> float:
    """-(1/N) sum over completion tokens of log p(token | all before), row by row in float64."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    total, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0]
        for position, (token, mask) in enumerate(zip(row["input_ids"], row["completion_mask"], strict=True)):
            if mask:
                scores = logits[position - 1].tolist()
                top = max(scores)
                total -= scores[token] - top - math.log(sum(math.exp(score - top) for score in scores))
                count += 1
    return total / count


@pytest.mark.usefixtures("alone")
def test_a_run_learns_by_eq1_publishes_a_model_and_runs_only_once(base: Path, data: Path, tmp_path: Path) -> None:
    job = resolved(base, data, tmp_path / "out", save_steps=5, keep_checkpoints=2)
    result = sft.train(job)
    history = metrics(tmp_path / "out")
    assert [row["step"] for row in history] == list(range(1, 16))
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert set(history[0]) == {
        *("step", "loss", "loss_reasoning", "loss_answer", "lr", "grad_norm", "tokens", "seconds")
    }

    rows, _ = sft_data.tokenise([example(n) for n in range(40)], ChatFormat.load(base), max_length=2048)
    order = sft_data.training_order([len(r["input_ids"]) for r in rows], steps=15, batch_size=8, seed=0)
    first = [rows[row] for row in order[:8]]
    assert history[0]["loss"] == pytest.approx(eq1_float64(base, first), rel=1e-5)
    assert history[0]["tokens"] == sum(len(row["input_ids"]) for row in first)

    model = Path(result["model"])
    model_files.check_model_dir(model)
    assert result["revision"] == model_files.revision(model)
    assert json.loads((model / "agentark.json").read_text())["parents"] == [model_files.revision(base)]
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (model / name).read_bytes() == (base / name).read_bytes()
    kept = sorted(folder.name for folder in (tmp_path / "out" / "checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-10", "checkpoint-15"]

    written = (tmp_path / "out" / "metrics.jsonl").stat().st_mtime_ns
    assert sft.train(job) == result
    assert (tmp_path / "out" / "metrics.jsonl").stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match=r"sft\.epochs was 3\.0 when it was saved, now 4\.0"):
        sft.train(resolved(base, data, tmp_path / "out", epochs=4))


@pytest.mark.usefixtures("alone")
def test_accumulation_gives_the_same_losses_as_one_large_batch(base: Path, data: Path, tmp_path: Path) -> None:
    losses = {}
    for micro in (8, 2):
        sft.train(resolved(base, data, tmp_path / str(micro), micro_batch_size=micro, epochs=1))
        losses[micro] = [row["loss"] for row in metrics(tmp_path / str(micro))]
    assert losses[2] == pytest.approx(losses[8], rel=1e-4)


@pytest.mark.usefixtures("alone")
def test_a_gradient_that_is_not_finite_stops_the_run_and_saves_nothing(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 2, rank 0: .* not finite; examples in this batch: e\d+") as error:
        sft.train(resolved(base, data, tmp_path / "out", learning_rate=1e30, warmup_ratio=0, save_steps=2))
    assert error.value.exit_code != 0
    assert not list((tmp_path / "out" / "checkpoints").glob("checkpoint-*"))
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.usefixtures("alone")
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(base: Path, data: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"step 1, rank 0: the loss is nan; examples in this batch: e\d+"):
        sft.train(resolved(broken, data, tmp_path / "out"))


@pytest.mark.usefixtures("alone")
def test_resuming_under_other_conditions_is_refused_with_both_values(base: Path, data: Path, tmp_path: Path) -> None:
    job = resolved(base, data, tmp_path / "out")
    run = {**sft_plan.plan(job, world_size=2 - 1).run, "world_size": 2, "sft.dtype": "bfloat16"}
    folder = tmp_path / "out" / "checkpoints" / "checkpoint-5"
    folder.mkdir(parents=True)
    checkpoints.write_marker(folder, {"step": 5, "run": run})
    with pytest.raises(ConfigError) as error:
        sft.train(job)
    assert "world_size was 2 when it was saved, now 1" in str(error.value)
    assert "sft.dtype was 'bfloat16' when it was saved, now 'float32'" in str(error.value)
