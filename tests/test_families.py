"""The whole job with models of other families, by configuration alone: a Llama-shaped teacher with its own chat
template debates the user's questions, a Gemma-shaped student with another one learns. Both are made here, tiny."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models

from agentark_core import prompts
from agentark_core.chat import ChatFormat
from agentark_core.stored import debate_runs, read_debates

Cli = Callable[..., subprocess.CompletedProcess[str]]
ANSWER = "Step 1: 3 + 4 = 7\n\\boxed{7}"

pytestmark = pytest.mark.slow


def question(number: int) -> str:
    return f"Tom has 3 bags and finds 4 more. How many bags are there? ({number})"


def teach_to_answer(path: Path) -> None:
    """A few hundred steps on one short answer, so that a random model ends its turns and is sometimes right."""
    import torch
    from transformers import AutoModelForCausalLM

    chat = ChatFormat.load(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    solutions = {1: ANSWER, 2: ANSWER}
    answers = {1: "7", 2: "7"}
    for step in range(120):
        text = question(step % 7)
        messages = (
            prompts.first_answer(text, wording="general")
            if step % 2
            else prompts.debate_turn(
                text, [solutions], answers=[answers], agent=1 + step % 2, layout="board", wording="general"
            )
        )
        prompt, completion = chat.prompt_ids(messages), chat.completion_ids(messages, ANSWER)
        ids = torch.tensor([prompt + completion])
        labels = ids.clone()
        labels[0, : len(prompt)] = -100
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss.item() < 0.5
    model.save_pretrained(path)


def test_llama_teacher_and_gemma_student_go_through_the_whole_job(agentark: Cli, tmp_path: Path) -> None:
    teacher = tiny_models.make("llama", tmp_path / "llama")
    teach_to_answer(teacher)
    student = tiny_models.make("gemma", tmp_path / "gemma")
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"q": question(n), "a": "7"}) + "\n" for n in range(16)))
    columns = {"source": "file", "path": str(questions), "question_column": "q", "answer_column": "a"}
    home = tmp_path / "home"
    agentark(
        "run",
        "full-pipeline",
        {
            "run": {"name": "test", "home": str(home)},
            "problems": {**columns, "task": "number", "offset": 8},
            "teacher": {"path": str(teacher), "dtype": "float32"},
            "student": {"path": str(student), "dtype": "float32"},
            "debate": {
                "num_agents": 2,
                "num_rounds": 2,
                "layout": "peers",
                "quorum": 0,
                "sampling": {"temperature": 0.7, "max_tokens": 64},
            },
            "engine": {"kv_cache_gib": 0.125, "max_num_seqs": 32},
            "sft": {"batch_size": 4, "micro_batch_size": 4, "max_length": 1024, "learning_rate": 1e-3},
            "evaluation": {"problems": {**columns, "task": "number", "limit": 8, "split": "test"}},
        },
    )
    debates = [d for run in debate_runs(home) for d in read_debates(home, fingerprint=run)]
    assert any(turn.text == ANSWER for d in debates for turn in d.turns), "the template's markers are not in the text"
    report = json.loads((home / "reports" / "test" / "evaluation.json").read_text())
    assert {row["n"] for row in report["rows"]} == {8}
    model_dirs = list(home.glob("models/*/model"))
    assert len(model_dirs) == 1 and ChatFormat.load(model_dirs[0]).prompt_ids([{"role": "user", "content": "hi"}])
