"""The heads of process reward models: what each learns and reads, on several architectures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import pytest
import tiny_models
from prm_helpers import STUDENT, resolved, write_process

from agentark_core import prompts
from agentark_core.arkling import generator
from agentark_core.config import PRMHead
from agentark_core.errors import ConfigError
from agentark_core.steps import split
from agentark_core.training import prm


@pytest.mark.parametrize("head", ["linear", "likelihood"])
@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma"])
def test_a_head_goes_on_models_of_every_family(family: tiny_models.Family, head: PRMHead, tmp_path: Path) -> None:
    import torch

    from agentark_core.training import prm_head

    base = tiny_models.make(family, tmp_path)
    model, again = (prm_head.load(base, head=head, dtype="float32", seed=3) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    prm_head.choose_trained(model, head=head, stage="stage1")
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    expected = ("model.layers.1.", "score.") if head == "linear" else ("score.",)
    assert learning and all(name.startswith(expected) for name in learning)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma", "gemma2"])
def test_likelihoods_so_far_are_those_of_the_language_model(family: str, tmp_path: Path) -> None:
    """Against its own logits, token by token, beside a longer row; Gemma 2 caps its logits."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

    from agentark_core.training import prm_head

    if family == "gemma2":
        sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "final_logit_softcapping": 0.05}
        torch.manual_seed(0)
        base = tmp_path
        Gemma2ForCausalLM(Gemma2Config(**sizes, **heads)).save_pretrained(base)
    else:
        base = tiny_models.make(cast(tiny_models.Family, family), tmp_path)
    rewards = prm_head.load(base, head="likelihood", dtype="float32").eval()
    language = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    rows, starts = [[5, 9, 14, 3, 8, 20], [7, 30, 12, 6, 6, 4, 11, 25, 9]], [2, 4]
    width = max(map(len, rows))
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    seen: list[torch.Tensor] = []
    rewards.score.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        out = rewards(input_ids=ids, attention_mask=mask, starts_R=torch.tensor(starts), use_cache=False)
        for row, start, read in zip(rows, starts, seen[0], strict=True):
            logprobs = language(torch.tensor([row])).logits[0].double().log_softmax(-1)
            found: list[float] = []
            for place in range(start, len(row)):
                found.append(float(logprobs[place - 1, row[place]]))
                expected = [math.log1p(-x) for x in (min(found), sum(found), sum(found) / len(found))]
                assert read[place, -3:].tolist() == pytest.approx(expected, rel=1e-4)
            assert read[:start, -3:].eq(0).all()
    assert out.logits.shape == (2, width, 1)


def test_the_likelihood_head_alone_learns_first_and_its_model_says_what_it_is(tmp_path: Path, alone: None) -> None:
    from safetensors.torch import load_file

    from agentark_core.training import prm_model

    data = write_process(tmp_path / "process.parquet")
    job = resolved(data, tmp_path, head="likelihood", stage2={"epochs": 1, "learning_rate": 1e-3})
    result = prm.train(job)
    base, first, last = (
        load_file(folder / "model.safetensors")
        for folder in (STUDENT, tmp_path / "stage1" / "model", tmp_path / "model")
    )
    assert all((first[name] == weight.float()).all() for name, weight in base.items())
    assert {name.split(".")[0] for name in set(first) - set(base)} == {"score"}
    assert any(not (last[name] == weight).all() for name, weight in base.items())
    problem = generator.problems("test", limit=1)[0]
    asked = [prompts.first_answer(problem.question, wording="arkling")] * 2
    texts = [generator.solutions(generator.parse_question(problem.question))[0], "Step 1: 3 + 4 = 9"]
    model = prm_model.PRM.load(result["model"], device="cpu")
    scores = model.scores(asked, texts)
    assert [len(found) for found in scores] == [len(split(text)) for text in texts]
    assert model.scores(asked[1:], texts[1:])[0] == pytest.approx(scores[1], abs=1e-5)
    with pytest.raises(ConfigError, match=r"prm\.head was 'likelihood' when it was saved, now 'linear'"):
        prm.train(resolved(data, tmp_path, head="linear"))
