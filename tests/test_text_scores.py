"""Tables of prose scores: means, paired differences, what was cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentark_core import text_scores
from agentark_core.config import BertScoreConfig
from agentark_core.mean_interval import mean_interval
from agentark_core.types import Problem

BASE = {"q1": {"f1": 0.0, "em": 0.0}, "q2": {"f1": 50.0, "em": 0.0}, "q3": {"f1": 100.0, "em": 100.0}}
BETTER = {"q3": {"f1": 100.0, "em": 100.0}, "q1": {"f1": 30.0, "em": 0.0}, "q2": {"f1": 80.0, "em": 0.0}}


def problem(number: int, **meta: str) -> Problem:
    return Problem(problem_id=f"q{number}", dataset="t", task="qmsum", question="q", gold="a", meta=meta)


def test_differences_are_paired_by_question() -> None:
    rows = {(row.method, row.metric): row for row in text_scores.summarise({"base": BASE, "student": BETTER})}
    assert rows["base", "f1"].mean == 50 and rows["base", "f1"].difference is None
    student = rows["student", "f1"]
    assert (student.n, student.mean, student.difference) == (3, 70, pytest.approx(20))
    # of the differences 30, 30 and 0 every resample has a mean between 0 and 30
    assert student.difference_interval == (0, 30)
    same = rows["student", "em"]
    assert same.difference == 0 and same.difference_interval is None
    # one of three right: a share, with Wilson's interval
    assert same.interval == pytest.approx((6.149, 79.234), abs=1e-2)


def test_the_interval_of_a_mean_is_that_of_resampled_means() -> None:
    made = mean_interval([0.0] * 50 + [100.0] * 50)
    assert made is not None
    low, high = made
    # normal approximation: 50 -+ 1.96 * 50 / sqrt(100)
    assert low == pytest.approx(40.2, abs=1.5) and high == pytest.approx(59.8, abs=1.5)
    assert mean_interval([7.0, 7.0]) is None and mean_interval([1.0]) is None


def test_a_cut_context_is_told_in_the_report(tmp_path: Path) -> None:
    asked = [problem(1), problem(2, context_tokens="900", context_tokens_cut="400"), problem(3, context_tokens="20")]
    assert text_scores.cut_note(asked[:1]) == ""
    paths, text = text_scores.write({"base": BASE, "student": BETTER}, questions=asked, folder=tmp_path)
    assert "1 of 3 contexts were longer than the budget" in text and "400 of their 900 tokens" in text
    assert "| f1 | student | 3 | 70.0 [" in text and "+20.0 [+0.0, +30.0]" in text
    data = json.loads(paths[0].read_text())
    assert "bertscore" not in data and "bertscore" not in text
    _, text = text_scores.write(
        {"base": BASE}, questions=asked, folder=tmp_path, bert_score=BertScoreConfig(path="/models/x", num_layers=17)
    )
    assert "lost their middle" in text and "bertscore: F1, layer 17 of x, no idf" in text
    assert data["questions"]["base"] == BASE and len(data["rows"]) == 4 and "400" in data["contexts"]
