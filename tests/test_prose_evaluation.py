"""evaluate-model on questions in prose: cut contexts, worked examples and scores from the file to the report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home
from test_text_metrics import tiny_encoder

from agentark_core.answers import extract
from agentark_core.config import BertScoreConfig
from agentark_core.errors import ModelError
from agentark_core.stored import debate_runs, read_debates
from agentark_core.text_metrics import bertscore, score_text
from tasks.evaluation_tasks import score_prose

Cli = Callable[..., subprocess.CompletedProcess[str]]


def rows(first: int, last: int) -> list[dict[str, object]]:
    return [
        {
            "id": str(number),
            "question": f"How many apples has person {number}?",
            "answer": f"{number} apples",
            "context": {"title": [f"Person {number}"], "sentences": [[f"He has {number} apples. "] * 30]},
        }
        for number in range(first, last)
    ]


def test_bertscore_is_added_to_the_scores_of_answers_and_is_0_without_one(tmp_path: Path) -> None:
    pytest.importorskip("bert_score")
    encoder, home = tiny_encoder(tmp_path / "encoder"), tmp_path / "home"
    debates = []
    for number, text in enumerate(("So it is \\boxed{the cat sat}", "")):
        debate = make_debate(number, [[None]], gold=1)
        problem = replace(debate.problem, task="hotpotqa", references=("a cat sat",))
        turn = replace(debate.turns[0], text=text, answer="the cat sat" if text else None)
        debates.append(replace(debate, problem=problem, turns=(turn,)))
    commit_debates(make_home(home, [debate.problem for debate in debates]), "00000", debates)
    spec: Any = SimpleNamespace(fingerprint=RUN)
    how = BertScoreConfig(path=str(encoder), num_layers=2)
    answered, silent = score_prose.fn("x", spec=spec, answer="vote", home=home, bert_score=how).values()
    (expected,) = bertscore(["the cat sat"], [["a cat sat"]], model_dir=encoder, num_layers=2)
    assert 0 < answered["bertscore"] == pytest.approx(expected, abs=1e-3) and silent["bertscore"] == 0
    without = score_prose.fn("x", spec=spec, answer="vote", home=home)
    assert all("bertscore" not in scores for scores in without.values())


@pytest.mark.slow
def test_prose_is_scored_from_file_to_report(agentark: Cli, tmp_path: Path) -> None:
    pytest.importorskip("bert_score")
    home, encoder = tmp_path / "home", tiny_encoder(tmp_path / "encoder")
    for name, made in {"test": rows(0, 4), "train": rows(10, 20)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    problems = {
        "source": "hotpotqa",
        "path": str(tmp_path / "test.jsonl"),
        "split": "test",
        "max_context_tokens": 30,
        "tokenizer": "arkling:student",
        "few_shot": 1,
        "few_shot_path": str(tmp_path / "train.jsonl"),
    }
    config = {
        "run": {"name": "test", "home": str(home)},
        "student": {"path": "arkling:student"},
        "debate": {"num_agents": 1, "num_rounds": 1, "sampling": {"temperature": 0.9, "max_tokens": 48}},
        "engine": {"shard_size": 4, "kv_cache_gib": 0.125, "max_num_seqs": 8},
        "evaluation": {"problems": problems, "bert_score": {"path": str(encoder), "num_layers": 2}},
    }
    done = agentark("run", "evaluate-model", config)
    assert "4 of 4 contexts were longer than the budget" in done.stdout + done.stderr
    folder = home / "reports" / "test"
    written = json.loads((folder / "scores.json").read_text())
    assert {row["metric"] for row in written["rows"]} == {"em", "f1", "rouge1", "rouge2", "rougeL", "bertscore"}
    assert written["bertscore"] == {"path": str(encoder), "num_layers": 2}
    assert all(row["n"] == 4 for row in written["rows"])
    assert "lost their middle" in (folder / "scores.md").read_text()
    debates = [debate for run in debate_runs(home) for debate in read_debates(home, fingerprint=run)]
    assert len(debates) == 8
    expected = {name: set[str]() for name in written["questions"]}
    for debate in debates:
        (turn,) = debate.turns
        assert "tokens left out here" in debate.problem.question and len(debate.problem.shots) == 1
        scores = score_text(debate.problem, turn.text if turn.answer is not None else "")
        answer = extract(turn.text, task=debate.problem.task) if turn.answer is not None else None
        references = [debate.problem.references]
        bert = bertscore([answer], references, model_dir=encoder, num_layers=2)[0] if answer else 0.0
        scores["bertscore"] = pytest.approx(bert, abs=1e-3)
        found = [name for name, scored in written["questions"].items() if scored[debate.problem.problem_id] == scores]
        assert found
        for name in found:
            expected[name].add(debate.problem.problem_id)
    assert all(len(answered) == 4 for answered in expected.values())

    config["evaluation"] = {"problems": problems, "bert_score": {"path": str(tmp_path), "num_layers": 2}}
    refused = agentark("run", "evaluate-model", config, expect=ModelError.exit_code)
    assert "no model directory with config.json" in refused.stderr
