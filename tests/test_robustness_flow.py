"""evaluate-model with perturbed questions on the real stack: the shipped student on vLLM."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agentark_core.stored import debate_runs, read_debates

pytestmark = pytest.mark.slow


def test_the_student_answers_perturbed_questions_and_its_failures_are_reported(
    agentark: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    config = {
        "run": {"name": "test", "home": str(home)},
        "student": {"path": "arkling:student", "prompts": "arkling"},
        "debate": {"sampling": {"temperature": 0.9, "max_tokens": 96}},
        "engine": {"kv_cache_gib": 0.125, "max_num_seqs": 64},
        "evaluation": {
            "problems": {"source": "arkling", "split": "test", "limit": 48},
            "student_samples": 4,
            "robustness": ["renamed", "numbers", "peer_hint", "typos"],
            "ood": {"source": "arkling", "split": "ood", "limit": 24},
        },
    }
    agentark("run", "evaluate-model", config)
    report = json.loads((home / "reports" / "test" / "evaluation.json").read_text())
    rows = {row["name"]: row for row in report["robustness"]}
    clean = next(row for row in report["rows"] if row["name"] == "distilled student greedy")
    assert [row["asked"] for row in rows.values()] == [48, 48, 48, 0]
    assert rows["typos"]["left_out"] == {"not applicable (words outside the tokenizer)": 48}
    for name in ("renamed", "numbers", "peer_hint"):
        assert rows[name]["right_clean"] == clean["correct"], "the rules leave no answer of arkling undecided"
        assert rows[name]["test"]["only_b"] == rows[name]["broke"] <= clean["correct"]
    assert report["ood_drop"]["n"] == 48 + 24
    text = (home / "reports" / "test" / "evaluation.md").read_text(encoding="utf-8")
    assert "distilled student greedy, other questions" in text and "| peer_hint | 48 |" in text
    sampled = next(row for row in report["rows"] if row["name"] == "distilled student majority@4")
    assert (sampled["n"], sampled["calls_per_question"]) == (48, 4)
    page = (home / "reports" / "test" / "report.md").read_text(encoding="utf-8")
    assert "## Robustness: distilled student greedy" in page
    assert "distilled student, vote of 4 samples, 48 questions: mean confidence" in page

    perturbed = {
        run: list(read_debates(home, fingerprint=run))
        for run in debate_runs(home)
        if "of" in next(read_debates(home, fingerprint=run)).problem.meta
    }
    assert sorted(len(debates) for debates in perturbed.values()) == [48, 48, 48]
    assert all(len(debate.turns) == 1 for debates in perturbed.values() for debate in debates)
    before = {path: path.stat().st_mtime_ns for path in (home / "ledger").rglob("*.parquet")}
    agentark("run", "evaluate-model", config)
    assert before == {path: path.stat().st_mtime_ns for path in (home / "ledger").rglob("*.parquet")}, "nothing again"
