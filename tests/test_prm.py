"""Process reward models: Eq. 7 by hand, rows and batches, two stages, what is published and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import group_of_one
from prm_helpers import STUDENT, resolved, write_process

from agentark_core import model_files, process, prompts
from agentark_core.arkling import generator
from agentark_core.chat import ChatFormat
from agentark_core.config import PRMConfig, parse
from agentark_core.errors import ConfigError, DataError, EmptyDataset, ModelError
from agentark_core.steps import STEPS_VERSION, split
from agentark_core.training import TrainingError, checkpoints, prm, prm_data, prm_plan


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_process(tmp_path_factory.mktemp("data") / "process.parquet")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a whole run of both stages."""
    output = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        group_of_one(patch)
        prm.train(resolved(data, output))
    return output


def metrics(output: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / stage / "metrics.jsonl").read_text().splitlines()]


def test_eq7_and_its_gradient_are_those_counted_by_hand() -> None:
    import torch

    from agentark_core.training import prm_loss

    raw, tau = [1.2, -0.3, 0.4, -2.0], 0.5
    contrasts = [(0, [1, 3]), (2, [1])]
    scores = torch.tensor(raw, dtype=torch.float64, requires_grad=True)
    loss = prm_loss.contrastive(
        scores,
        positives_P=torch.tensor([right for right, _ in contrasts]),
        negatives_P_N=torch.tensor([[1, 3], [1, -1]]),
        temperature=tau,
    )
    loss.backward()
    sigma = [1 / (1 + math.exp(-r)) for r in raw]
    expected, gradient = 0.0, [0.0] * 4
    for right, wrong in contrasts:
        total = sum(math.exp(sigma[k] / tau) for k in (right, *wrong))
        expected -= math.log(math.exp(sigma[right] / tau) / total)
        for k in (right, *wrong):
            share = math.exp(sigma[k] / tau) / total - (k == right)
            gradient[k] += share / tau * sigma[k] * (1 - sigma[k])
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert scores.grad is not None and scores.grad.tolist() == pytest.approx(gradient, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda s: prm_loss.contrastive(
            s, positives_P=torch.tensor([0]), negatives_P_N=torch.tensor([[1, 3]]), temperature=tau
        ),
        scores.detach().requires_grad_(),
    )


def test_cross_entropy_honours_weights_and_soft_labels() -> None:
    import torch

    from agentark_core.training import prm_loss

    scores = torch.tensor([0.7, -1.1, 3.0], dtype=torch.float64, requires_grad=True)
    labels, weights = [1.0, 0.25, 0.0], [1.0, 0.5, 0.0]
    loss = prm_loss.cross_entropy(
        scores,
        labels_S=torch.tensor(labels, dtype=torch.float64),
        weights_S=torch.tensor(weights, dtype=torch.float64),
    )
    loss.backward()
    sigma = [1 / (1 + math.exp(-r)) for r in scores.tolist()]
    terms = [-w * (z * math.log(s) + (1 - z) * math.log(1 - s)) for s, z, w in zip(sigma, labels, weights, strict=True)]
    assert loss.item() == pytest.approx(sum(terms), rel=1e-12)
    assert scores.grad is not None
    gradient = [w * (s - z) for s, z, w in zip(sigma, labels, weights, strict=True)]
    assert scores.grad.tolist() == pytest.approx(gradient, rel=1e-12)


def test_a_soft_label_goes_from_parquet_to_the_cross_entropy(data: Path, tmp_path: Path) -> None:
    import torch

    from agentark_core.training import prm_loss
    from agentark_core.training.prm_trainer import Collator

    rows = pq.read_table(data).to_pylist()[:1]
    rows[0]["negatives"] = [[] for _ in rows[0]["labels"]]
    rows[0]["labels"] = [0.25, 1.0, *(0.0 for _ in rows[0]["labels"][2:])]
    rows[0]["weights"] = [1.0, 1.0, *(0.0 for _ in rows[0]["labels"][2:])]
    pq.write_table(pa.Table.from_pylist(rows, schema=process.SCHEMA), tmp_path / "soft.parquet")
    read = prm_data.read_rows([str(tmp_path / "soft.parquet")])
    found = prm_data.questions(read, ChatFormat.load(STUDENT), config=PRMConfig(loss="bce"))
    batch = Collator(pad_token_id=0)(found.items)
    assert batch["labels_S"][:2].tolist() == [0.25, 1.0]
    scores = torch.full_like(batch["labels_S"], math.log(3))  # sigma = 3/4
    loss = prm_loss.cross_entropy(scores, labels_S=batch["labels_S"], weights_S=batch["weights_S"])
    by_hand = -(0.25 * math.log(3 / 4) + 0.75 * math.log(1 / 4)) - math.log(3 / 4)
    assert loss.item() == pytest.approx(by_hand, rel=1e-6) and by_hand == pytest.approx(1.39932, abs=1e-5)


def test_a_question_keeps_its_negatives_and_drops_what_has_no_part(data: Path) -> None:
    rows = prm_data.read_rows([str(data)])
    chat = ChatFormat.load(STUDENT)
    found = prm_data.questions(rows, chat, config=PRMConfig())
    by_id = {row["example_id"]: row for row in rows}
    for item in found.items:
        steps = [
            (by_id[trace["example_id"]], step)
            for trace in item["traces"]
            for step in range(len(by_id[trace["example_id"]]["completions"]))
        ]
        assert len(steps) == len(item["labels"]) == sum(len(trace["positions"]) for trace in item["traces"])
        for right, wrong in item["contrasts"]:
            row, step = steps[right]
            named = [(n["example_id"], n["step"]) for n in row["negatives"][step]]
            assert named == [(steps[k][0]["example_id"], steps[k][1]) for k in wrong] and named
            assert item["labels"][right] == 1.0 and {item["labels"][k] for k in wrong} == {0.0}
    everything = prm_data.questions(rows, chat, config=PRMConfig(loss="bce"))
    assert sum(len(item["traces"]) for item in everything.items) == len(rows)
    with pytest.raises(EmptyDataset, match="exceed prm.max_length 8 tokens"):
        prm_data.questions(rows, chat, config=PRMConfig(max_length=8))


def test_rows_that_cannot_be_right_are_refused(data: Path, tmp_path: Path) -> None:
    rows = pq.read_table(data).to_pylist()
    path = tmp_path / "rows.parquet"

    def refused(changes: dict[str, Any], match: str) -> None:
        pq.write_table(pa.Table.from_pylist([{**rows[0], **changes}, *rows[1:]], schema=process.SCHEMA), path)
        with pytest.raises(DataError, match=match):
            prm_data.read_rows([str(path)])

    steps = rows[0]["completions"]
    refused({"completions": ["".join(steps[:2]), *steps[2:]]}, f"not the steps of the splitter {STEPS_VERSION}")
    for wrong in (1.5, -0.1, math.nan):
        labels = [*rows[0]["labels"][:1], wrong, *rows[0]["labels"][2:]]
        refused({"labels": labels}, rf"{path}, row 0: the label of step 1 is {wrong}; .* from 0 to 1")
    refused({"labels": [1.0]}, "labels, weights or negatives do not fit its steps")
    refused({"negatives": [[{"example_id": "none", "step": 0}]] * len(steps)}, "is no step of these examples")
    pq.write_table(process.SCHEMA.empty_table(), path)
    with pytest.raises(EmptyDataset, match="nothing to train on"):
        prm_data.read_rows([str(path)])
    pq.write_table(pa.table({"prompt": ["x"]}), path)
    with pytest.raises(DataError, match="give examples of the kind `process`"):
        prm_data.read_rows([str(path)])


def test_a_plan_and_a_config_name_what_is_wrong(data: Path, tmp_path: Path) -> None:
    good = resolved(data, tmp_path / "out")
    assert prm_plan.plan(good, world_size=1).accumulation == 1
    with pytest.raises(ConfigError, match="batch_size 4 is not a multiple of micro_batch_size 4 x processes 3"):
        prm_plan.plan(good, world_size=3)
    with pytest.raises(ConfigError, match="unknown keys: extra"):
        prm_plan.plan({**good, "extra": 1}, world_size=1)
    with pytest.raises(ModelError, match="content hash"):
        prm_plan.plan({**good, "revision": "0" * 16}, world_size=1)
    with pytest.raises(ConfigError, match="nothing would be trained"):
        parse(PRMConfig, {"stage1": {"epochs": 0}, "stage2": {"epochs": 0}}, origin="c")


def test_stage_one_moves_the_last_layer_and_the_head_alone_and_stage_two_all(data: Path, trained: Path) -> None:
    from safetensors.torch import load_file

    base = load_file(STUDENT / "model.safetensors")
    first = load_file(trained / "stage1" / "model" / "model.safetensors")
    last = load_file(trained / "model" / "model.safetensors")
    moved = {name for name, weight in base.items() if not (first[name] == weight.float()).all()}
    assert moved and all(name.startswith("model.layers.3.") for name in moved)
    assert set(first) - set(base) == {"score.weight", "score.bias"}
    assert {weight.dtype for weight in last.values()} == {weight.dtype for weight in base.values()}
    assert any(not (last[name] == base[name]).all() for name in base if name.startswith("model.layers.0."))
    assert [row["step"] for row in metrics(trained, "stage1")] == [1, 2, 3]
    assert metrics(trained, "stage2")[-1]["loss"] < metrics(trained, "stage1")[0]["loss"]


def test_loss_and_gradient_of_a_step_are_those_of_eq7_over_its_batch(data: Path, trained: Path) -> None:
    """Recomputed question by question, without padding, from the weights that stage two began with."""
    import torch
    from transformers import AutoModelForTokenClassification

    from agentark_core.training import prm_loss, sft_data

    model = AutoModelForTokenClassification.from_pretrained(trained / "stage1" / "model").eval()
    config = parse(PRMConfig, resolved(data, trained)["prm"], origin="test")
    items = prm_data.questions(prm_data.read_rows([str(data)]), ChatFormat.load(STUDENT), config=config).items
    lengths = [sum(len(trace["input_ids"]) for trace in item["traces"]) for item in items]
    rows = metrics(trained, "stage2")
    order = sft_data.training_order(lengths, steps=len(rows), batch_size=4, seed=0)
    losses = []
    for item in (items[number] for number in order[:4]):
        scores = torch.cat([model(torch.tensor([t["input_ids"]])).logits[0, t["positions"], 0] for t in item["traces"]])
        for right, wrong in item["contrasts"]:
            loss = prm_loss.contrastive(
                scores, positives_P=torch.tensor([right]), negatives_P_N=torch.tensor([wrong]), temperature=0.1
            )
            losses.append(loss)
    loss = torch.stack(losses).mean()
    loss.backward()
    norm = torch.stack([weight.grad.norm() for weight in model.parameters() if weight.grad is not None]).norm()
    assert rows[0]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert rows[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)


def test_a_finished_run_returns_at_once_and_another_config_is_refused(data: Path, trained: Path, alone: None) -> None:
    result = prm.train(resolved(data, trained))
    model = Path(result["model"])
    model_files.check_model_dir(model)
    assert result["revision"] == model_files.revision(model)
    about = json.loads((model / "prm.json").read_text())
    assert about["parents"] == [model_files.revision(STUDENT)] and about["prm"]["loss"] == "contrastive"
    with pytest.raises(ConfigError, match=r"prm\.temperature was 0\.1 when it was saved, now 0\.5"):
        prm.train(resolved(data, trained, temperature=0.5))


def test_accumulation_gives_the_same_losses_as_one_large_batch(
    data: Path, tmp_path: Path, trained: Path, alone: None
) -> None:
    stage1 = {"epochs": 1, "learning_rate": 3e-3}
    prm.train(resolved(data, tmp_path, micro_batch_size=1, stage1=stage1, stage2={"epochs": 0}))
    losses = [row["loss"] for row in metrics(tmp_path, "stage1")]
    assert losses == pytest.approx([row["loss"] for row in metrics(trained, "stage1")], rel=1e-4)


def test_cross_entropy_learns_from_every_labelled_step(data: Path, tmp_path: Path, alone: None) -> None:
    result = prm.train(resolved(data, tmp_path, loss="bce", stage1={"epochs": 0}))
    rows = metrics(tmp_path, "stage2")
    assert result["traces"] == pq.read_metadata(data).num_rows and list(result["stages"]) == ["stage2"]
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_numbers_that_are_not_finite_stop_the_run_and_nothing_is_saved(data: Path, tmp_path: Path, alone: None) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(STUDENT, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    example = r"examples in this batch: [0-9a-f]{16}, "
    with pytest.raises(TrainingError, match=rf"step 1, rank 0: the loss is nan; {example}"):
        prm.train(resolved(data, tmp_path / "nan", base=broken))
    hot = {"epochs": 3, "learning_rate": 1e30}
    with pytest.raises(TrainingError, match=r"step 2, rank 0: .* not finite|step 2, rank 0: the loss is nan"):
        prm.train(resolved(data, tmp_path / "hot", stage1={"epochs": 0}, stage2=hot, save_steps=2))
    for output in (tmp_path / "nan", tmp_path / "hot"):
        assert not list(output.glob("*/checkpoints/checkpoint-*")) and not list(output.glob("**/model"))


def test_resuming_under_other_conditions_is_refused_with_both_values(data: Path, tmp_path: Path, alone: None) -> None:
    job = resolved(data, tmp_path)
    run = prm_plan.plan(job, world_size=1).run
    was = {"world_size": 2, "splitter": "steps-0", "base_revision": "old", "tokenizer": {"tokenizer.json": "old"}}
    folder = tmp_path / "stage1" / "checkpoints" / "checkpoint-2"
    folder.mkdir(parents=True)
    checkpoints.write_marker(folder, {"step": 2, "run": {**run, **was}})
    with pytest.raises(ConfigError) as error:
        prm.train(job)
    for key, value in was.items():
        assert f"{key} was {value!r} when it was saved, now {run[key]!r}" in str(error.value)


def test_every_step_is_scored_in_one_pass_whatever_is_beside_it(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentark_core.training import prm_model

    model = prm_model.PRM.load(trained / "model", device="cpu")
    problems = generator.problems("test", limit=6)
    prompt = [prompts.first_answer(problem.question, wording="arkling") for problem in problems]
    texts = [generator.solutions(generator.parse_question(problem.question))[0] for problem in problems]
    texts[1], texts[2] = "", texts[2] + "\nAnd more than\n" + "words " * 40
    passes: list[int] = []
    hook = model.model.register_forward_hook(lambda _, __, out: passes.append(len(out.logits)))
    found = model.scores(prompt, texts)
    hook.remove()
    assert passes == [len(texts)], "all steps of all completions"
    assert [len(scores) for scores in found] == [len(split(text)) for text in texts]
    assert all(0 < score < 1 for scores in found for score in scores)
    monkeypatch.setattr(prm_model, "TOKENS_PER_BATCH", 1)
    for one, other in zip(found, model.scores(prompt, texts), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for cut in range(1, len(split(texts[0]))):
        before = model.scores(prompt[:1], ["".join(split(texts[0])[:cut])])[0]
        assert before == pytest.approx(found[0][:cut], abs=1e-5), "later steps change nothing"
    with pytest.raises(DataError, match="completion 0: .* tokens with its prompt, the process reward model reads 2048"):
        model.scores(prompt[:1], ["Step 1: 2 + 2 = 4\n" * 300])


def test_a_model_of_another_splitter_or_tokenizer_or_none_at_all_is_refused(trained: Path, tmp_path: Path) -> None:
    from agentark_core.training.prm_model import PRM

    def changed(name: str) -> Path:
        return Path(shutil.copytree(trained / "model", tmp_path / name))

    folder = changed("splitter")
    about = json.loads((folder / "prm.json").read_text())
    (folder / "prm.json").write_text(json.dumps({**about, "splitter": "steps-0"}))
    with pytest.raises(ModelError, match=f"splitter 'steps-0', this version cuts '{STEPS_VERSION}'"):
        PRM.load(folder)
    (folder / "prm.json").write_text(json.dumps({**about, "head": "forest"}))
    with pytest.raises(ModelError, match="the head 'forest'; known are linear, likelihood"):
        PRM.load(folder)
    folder = changed("tokenizer")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    with pytest.raises(ModelError, match="trained with the tokenizer files .* restore them"):
        PRM.load(folder)
    with pytest.raises(ModelError, match="no prm.json of a process reward model"):
        PRM.load(STUDENT)
    folder = changed("pickle")
    (folder / "training_args.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickled weights can run code"):
        PRM.load(folder)
