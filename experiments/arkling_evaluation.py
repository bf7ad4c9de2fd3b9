"""Answers of a model directory to arkling questions, in plain transformers, and what the verifier says of them."""

from __future__ import annotations

from pathlib import Path

from agentark_core import prompts
from agentark_core.arkling import generator
from agentark_core.chat import ChatFormat
from agentark_core.paired_tests import Outcomes
from agentark_core.types import Problem
from agentark_core.verify import Case, Verifier


def evaluate(model_dir: Path, tests: list[Problem]) -> dict[str, Outcomes]:
    """Outcomes by problem: `greedy`, `sampled` (temperature 1), `steps` (every step of the greedy answer is right)."""
    texts = {name: generate(model_dir, tests, sample=name == "sampled") for name in ("greedy", "sampled")}
    found = {name: outcomes(tests, made) for name, made in texts.items()}
    found["steps"] = {
        p.problem_id: bool(t) and all(generator.check_lines(p.question, t))
        for p, t in zip(tests, texts["greedy"], strict=True)
    }
    return found


def greedy(model_dir: Path, tests: list[Problem]) -> Outcomes:
    """Outcomes of the greedy answers by problem."""
    return outcomes(tests, generate(model_dir, tests, sample=False))


def outcomes(tests: list[Problem], texts: list[str]) -> Outcomes:
    """Which of the answers are verified."""
    cases = [Case(response=t, gold=p.gold, task=p.task, question=p.question) for p, t in zip(tests, texts, strict=True)]
    with Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many(cases)
    return {p.problem_id: v.label == "correct" for p, v in zip(tests, verdicts, strict=True)}


def encoded(answers: Outcomes) -> str:
    """One character a question, in the order of their ids: 1 right, 0 not; as tables of experiments keep them."""
    return "".join("1" if answers[key] else "0" for key in sorted(answers))


def decoded(text: str) -> list[bool]:
    """What `encoded` wrote."""
    return [character == "1" for character in text]


def generate(model_dir: Path, tests: list[Problem], *, sample: bool, batch: int = 200) -> list[str]:
    """One answer to each question."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)  # enough for a tiny model; two threads wait for each other on a busy machine
    torch.manual_seed(0)
    chat = ChatFormat.load(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    ids = [chat.prompt_ids(prompts.first_answer(problem.question, wording="arkling")) for problem in tests]
    texts = []
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        width = max(map(len, part))
        padded = torch.tensor([[0] * (width - len(row)) + row for row in part])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
        made = model.generate(
            input_ids=padded,
            attention_mask=mask,
            max_new_tokens=100,
            do_sample=sample,
            pad_token_id=0,
            eos_token_id=chat.stop_ids,
            **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}),
        )
        for row in made[:, width:].tolist():
            end = next((place for place, token in enumerate(row) if token in chat.stop_ids), len(row))
            texts.append(chat.decode(row[:end])[1])
    return texts
