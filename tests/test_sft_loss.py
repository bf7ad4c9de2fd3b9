"""What an SFT step computes: Eq. 1 and Eq. 2 against the formula by hand, packed and padded, and low-rank adapters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from sft_helpers import example, metrics, resolved, weighted_examples, write_examples

from agentark_core.chat import ChatFormat
from agentark_core.errors import ConfigError
from agentark_core.training import answer_part, sft, sft_data
from agentark_core.types import SFTExample

ROWS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("qwen3", tmp_path_factory.mktemp("base"))


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainers that jobs build, to look into after the run. Their weights have `seen`: the sum of all gradients."""
    from agentark_core.training import sft_trainer

    seen: list[Any] = []
    build = sft_trainer.build_trainer

    def keep(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        for weight in trainer.model.parameters():
            weight.seen = 0.0
            if weight.requires_grad:
                weight.register_hook(lambda grad, weight=weight: setattr(weight, "seen", weight.seen + grad.double()))
        seen.append(trainer)
        return trainer

    monkeypatch.setattr(sft_trainer, "build_trainer", keep)
    return seen


def by_hand(base: Path, rows: list[dict[str, Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Eq. 2 row by row in float64: L = -sum_i w_i sum_t log p(r_it) / sum_i w_i T_i, its two parts, its gradient."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    total, weights = {"reasoning": 0.0, "answer": 0.0}, {"reasoning": 0.0, "answer": 0.0}
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        scores = model(ids).logits[0, :-1].log_softmax(dim=-1)
        for position in range(1, ids.shape[1]):
            if row["completion_mask"][position]:
                part = "answer" if position >= row["answer_start"] else "reasoning"
                total[part] = total[part] - row["weight"] * scores[position - 1, ids[0, position]]
                weights[part] += row["weight"]
    loss = sum(total.values()) / sum(weights.values())
    loss.backward()
    values = {f"loss_{part}": total[part].item() / weights[part] for part in total if weights[part]}
    return {"loss": loss.item(), **values}, {name: weight.grad for name, weight in model.named_parameters()}


def rows_of(base: Path, examples: list[SFTExample]) -> list[dict[str, Any]]:
    rows, _ = sft_data.tokenise(examples, ChatFormat.load(base), max_length=2048)
    return rows


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("micro", [ROWS, ROWS // 2], ids=["one pass", "accumulated"])
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("weighted", [False, True], ids=["eq1", "eq2"])
def test_loss_parts_and_gradient_are_those_of_the_formula(
    weighted: bool, packing: bool, micro: int, base: Path, tmp_path: Path, trainers: list[Any]
) -> None:
    examples = (
        weighted_examples(ROWS) if weighted else [example(n, completion="9 " * n + "\\boxed{9}") for n in range(ROWS)]
    )
    data = write_examples(tmp_path / "data.parquet", examples)
    sft.train(
        resolved(
            base,
            data,
            tmp_path / "out",
            epochs=1,
            batch_size=ROWS,
            micro_batch_size=micro,
            packing=packing,
        )
    )
    rows = rows_of(base, examples)
    expected, gradient = by_hand(base, rows)
    if not weighted:  # Eq. 1 is the plain token mean
        assert {row["weight"] for row in rows} == {1.0}
    row = metrics(tmp_path / "out")[0]
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert row["tokens"] == sum(len(row["input_ids"]) for row in rows)
    norm = sum(float(grad.norm()) ** 2 for grad in gradient.values()) ** 0.5
    assert row["grad_norm"] == pytest.approx(norm, rel=1e-4)
    for name, weight in trainers[0].model.named_parameters():
        assert (weight.seen - gradient[name]).abs().max() < 1e-5 * norm, name


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma"])
def test_the_logits_of_packed_rows_are_those_of_single_rows(family: tiny_models.Family, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from agentark_core.training.sft_batches import Collator

    base = tiny_models.make(family, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = [
        {**row, "labels": sft_data.labels(row), "row": number}
        for number, row in enumerate(rows_of(base, weighted_examples(9)))
    ]
    batch = Collator(layout="packed", pad_token_id=0)(rows)
    assert len(batch["rows"]) < len(rows), "several rows share a line"
    for layout in ("packed", "flat"):
        batch = Collator(layout=layout, pad_token_id=0)(rows)  # type: ignore[arg-type]
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        for row in rows:
            here = batch["rows"] == row["row"]
            alone = model(torch.tensor([row["input_ids"]])).logits[0]
            assert batch["input_ids"][here].tolist() == row["input_ids"]
            assert torch.allclose(logits[here], alone, atol=1e-4)
            assert batch["labels"][here].tolist() == row["labels"]


def test_the_parts_meet_where_the_answer_line_begins(base: Path) -> None:
    chat = ChatFormat.load(base)
    for text, answer in {
        "Step 1: 3 + 4 = 7\n\\boxed{7}": "\\boxed{7}",
        "We add.\n\nThe answer is 7.": "The answer is 7.",
        "\\boxed{5}? No.\n\nStep 2: 3 + 4 = 7\n\\boxed{7}\n\nDone.": "\\boxed{7}\n\nDone.",
        "Hm é😀": "",
    }.items():
        row = rows_of(base, [example(1, completion=text)])[0]
        learned = row["input_ids"][row["answer_start"] :]
        assert answer_part.answer_text(text) == answer
        assert chat.tokenizer.decode(learned) == (answer + "<|im_end|>" if answer else "")


@pytest.mark.usefixtures("alone")
def test_an_architecture_in_which_packed_rows_see_each_other_is_refused(tmp_path: Path) -> None:
    base = tiny_models.make("qwen2_5_vl", tmp_path / "base")
    data = write_examples(tmp_path / "data.parquet")
    with pytest.raises(
        ConfigError, match="Qwen2_5_VL.* a packed row would see the row before it; set sft.packing false"
    ):
        sft.train(resolved(base, data, tmp_path / "out", packing=True))


@pytest.mark.usefixtures("alone")
def test_adapters_train_alone_and_are_published_merged(base: Path, tmp_path: Path, trainers: list[Any]) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    data = write_examples(tmp_path / "data.parquet")
    settings = {"lora": {"rank": 4, "alpha": 8}, "gradient_checkpointing": True, "save_steps": 10}
    job = resolved(base, data, tmp_path / "out", **settings)
    result = sft.train(job)
    history = metrics(tmp_path / "out")
    assert history[-1]["loss"] < 0.97 * history[0]["loss"]

    before, after = (load_file(folder / "model.safetensors") for folder in (base, Path(result["model"])))
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}
    merged = trainers[0].model.merge_and_unload().eval()  # PEFT's own
    student = AutoModelForCausalLM.from_pretrained(result["model"], dtype=torch.float32)
    ids = torch.tensor([rows_of(base, [example(3)])[0]["input_ids"]])
    assert torch.allclose(student(ids).logits, merged(ids).logits, atol=1e-5)

    # As after a kill: the checkpoint of step 10 holds the adapters, and the rest gives the same student.
    (tmp_path / "out" / "COMPLETE").unlink()
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "checkpoint-15")
    sft.train(job)
    resumed = load_file(Path(result["model"]) / "model.safetensors")
    assert all(torch.allclose(resumed[name], after[name], atol=1e-5) for name in after)
    assert [row["step"] for row in metrics(tmp_path / "out")] == list(range(1, 16))


@pytest.mark.usefixtures("alone")
def test_bf16_and_checkpointing_give_nearly_the_losses_of_float32(base: Path, tmp_path: Path) -> None:
    data = write_examples(tmp_path / "data.parquet")
    losses = {}
    for name, settings in {
        "plain": {},
        "checkpointed": {"gradient_checkpointing": True},
        "bf16": {"dtype": "bfloat16", "zero_stage": 0},
    }.items():
        sft.train(resolved(base, data, tmp_path / name, epochs=1, **settings))
        losses[name] = [row["loss"] for row in metrics(tmp_path / name)]
    assert losses["checkpointed"] == pytest.approx(losses["plain"], rel=1e-5)
    assert losses["bf16"] == pytest.approx(losses["plain"], rel=0.02)


@pytest.mark.usefixtures("alone")
def test_gpu_options_are_refused_without_a_gpu(base: Path, tmp_path: Path) -> None:
    data = write_examples(tmp_path / "data.parquet")
    for settings in ({"liger": True}, {"attention": "flash_attention_2", "dtype": "bfloat16"}):
        with pytest.raises(ConfigError, match="GPU only; set gpus_per_worker 1"):
            sft.train(resolved(base, data, tmp_path / "out", **settings))
        with pytest.raises(ConfigError, match="this process sees none; leave it out, or train on a GPU"):
            sft.train(resolved(base, data, tmp_path / "out", gpus_per_worker=1, **settings))
