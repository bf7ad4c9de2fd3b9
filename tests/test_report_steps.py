"""Step scores in reports, by a reward model trained here."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_home, make_turn, verify
from prm_helpers import resolved, write_process

from agentark_core.arkling import generator
from agentark_core.arkling.corruption import wrong_solution
from agentark_core.report import step_scores
from agentark_core.report.gather import gather
from agentark_core.report.sections import sections
from agentark_core.report.verdict import verdict
from agentark_core.types import Debate


@pytest.mark.slow
def test_a_reward_model_scores_the_steps_and_its_calibration_is_shown(tmp_path: Path) -> None:
    config = tmp_path / "resolved.json"
    config.write_text(json.dumps(resolved(write_process(tmp_path / "process.parquet"), tmp_path / "prm")))
    command = [sys.executable, "-m", "agentark_core.training.prm", "--config", str(config)]
    trained = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    problems = generator.problems("test", limit=6)
    debates = []
    for problem in problems:
        spec = generator.parse_question(problem.question)
        texts = [generator.solutions(spec)[0], wrong_solution(spec, random.Random(0))]
        turns = tuple(
            make_turn(problem, round=1, agent=n, answer=1, text=text) for n, text in enumerate(texts, start=1)
        )
        debates.append(Debate(work_id=turns[0].work_id, problem=problem, turns=turns, stop_reason="rounds"))
    home = tmp_path / "home"
    commit_debates(make_home(home, problems), "00000", debates)
    verify(home, "00000", debates)
    stage = {"strategy": "prm", "model": trained["model"], "revision": "r", "examples": 48, "training": trained}
    for name, data in (("distil", {"traces": [RUN]}), ("student", {"stages": [stage]})):
        path = home / "runs" / "r" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
    assert "--scores" in verdict(gather(home, "r")).missing[-1]
    step_scores.score(home, "r", questions=4)
    facts = gather(home, "r")
    assert len(facts.step_scores) == 8
    assert all(0 <= value <= 1 for scores in facts.step_scores.values() for value in scores)
    measured = step_scores.measure(facts)
    assert measured is not None
    table, error, area = measured
    labelled = sum(len(scores) for scores in facts.step_scores.values())
    assert sum(row.right.n for row in table) == error.n == area.n == labelled
    (section,) = [section for section in sections(facts) if section.title.startswith("Calibration")]
    assert "<svg" in section.figures[0] and len(section.tables[0].rows) == len(table)
