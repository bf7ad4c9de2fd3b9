"""The measurements of the step splitter and of the step labels count what they say."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from agentark_core.arkling import generator
from agentark_core.types import Debate, Problem, Turn, Verdict
from benchmarks import step_label_agreement, steps_agreement

PROCESS = Path(__file__).resolve().parents[2] / "shared" / "data" / "process"
STEPS = ["Ann has 3.", "She finds 4:\n\\[ 3 + 4 = 7 \\]", "\\boxed{7}"]


def rows_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict:
    monkeypatch.setattr(sys, "argv", ["steps_agreement.py", *arguments])
    steps_agreement.main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_boundaries_are_counted_in_the_joined_text() -> None:
    assert steps_agreement.counts(STEPS, "\n", steps_agreement.ours) == (2, 0, 0)
    assert steps_agreement.counts(STEPS, "\n", steps_agreement.SPLITTERS["all lines"]) == (2, 1, 0)
    assert steps_agreement.counts(STEPS, " ", steps_agreement.ours) == (0, 0, 2)
    report = steps_agreement.agreement([STEPS] * 3, "\n", steps_agreement.SPLITTERS["all lines"])
    assert report["boundaries"] == 6 and report["precision"][0] == 0.6667 and report["recall"] == [1, 1, 1]


def test_splitter_report_reads_both_forms_of_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = json.dumps({"steps": [*STEPS, " "]})
    (tmp_path / steps_agreement.FILES["gsm8k"]).write_text(f"[{row}]")
    (tmp_path / steps_agreement.FILES["math"]).write_bytes(gzip.compress(f"{row}\n{row}\n".encode()))
    report = rows_of(capsys, monkeypatch, "--data", str(tmp_path))
    found = {(r["set"], r["separator"]): r["f1"][0] for r in report["rows"] if r["splitter"] == "ours"}
    assert found["both", "\n\n"] == found["both", "\n"] == 1 and found["both", " "] == 0
    assert {r["problems"] for r in report["rows"]} == {1, 2, 3}


def test_splitter_report_is_skipped_without_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["steps_agreement.py", "--data", str(tmp_path)])
    steps_agreement.main()
    assert capsys.readouterr().out.startswith("skipped")


@pytest.mark.skipif(not PROCESS.is_dir(), reason="shared data absent")
def test_splitter_gives_the_steps_of_processbench_back() -> None:
    problems = [steps for name in steps_agreement.FILES.values() for steps in steps_agreement.read(PROCESS / name)]
    assert len(problems) == 1400
    for separator, least in (("\n\n", 0.99), ("\n", 0.945)):
        assert steps_agreement.agreement(problems, separator, steps_agreement.ours)["f1"][0] > least


def test_label_report_counts_precision_and_recall() -> None:
    problem: Problem = generator.problems("distil", limit=1)[0]
    right = generator.solutions(generator.parse_question(problem.question))[0]
    wrong = right.replace(f"boxed{{{problem.gold}}}", f"boxed{{{int(problem.gold) + 1}}}")
    turns = tuple(
        Turn(
            work_id="w", problem_id=problem.problem_id, round=1, agent=agent, seed=0, text=text, answer=None,
            prompt_tokens=1, cached_tokens=0, completion_tokens=1, finish_reason="stop", status="ok",
        )
        for agent, text in enumerate((right, right, wrong), 1)
    )  # fmt: skip
    debate = Debate(work_id="w", problem=problem, turns=turns, stop_reason="rounds")
    verdicts = {
        ("w", 1, agent): Verdict(label="incorrect" if agent == 3 else "correct", method="number", extracted=None)
        for agent in (1, 2, 3)
    }
    rows = step_label_agreement.agreement(step_label_agreement.count([debate], verdicts))
    steps = right.count("\n") + 1
    shares = {(row["labels"], row["label"]): (row["precision"], row["recall"]) for row in rows}
    precision, recall = shares["evidence", "positive"]
    assert (precision["value"], precision["n"]) == (1, 2 * steps)
    assert recall["n"] == 3 * steps - 1 and recall["value"] == 2 * steps / (3 * steps - 1)
    assert [share["value"] for share in shares["evidence", "negative"]] == [1, 1]
    assert [share["value"] for share in shares["trace", "negative"]] == [1 / steps, 1]
