"""`agentark seeds`: evaluated runs of a home as arms, and what cannot be one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from debate_helpers import QUESTIONS, make_debate, make_home, put
from typer.testing import CliRunner

from agentark_core import seed_runs
from agentark_core.cli import app
from agentark_core.errors import ConfigError, DataError
from agentark_core.evaluation import BASE, STUDENT
from agentark_core.ledger import Store
from agentark_core.records import debates_to_table, verdicts_to_table
from agentark_core.seeds import difference_over_seeds, mean_over_seeds
from agentark_core.shards import shard_meta
from agentark_core.stored import verdict_store
from agentark_core.types import Verdict

ANSWERS = {"base": "0010000100", "a0": "1101010100", "a1": "0111010110", "b0": "1111010100", "b1": "1111110110"}
"""Of ten questions: 1 where the answer is right."""


def commit(home: Path, name: str, marks: str) -> str:
    """A run of one answer to each question, with its verdicts; returns its fingerprint."""
    fingerprint = f"{sum(name.encode()):016x}"
    store = Store(home, stage="debates", fingerprint=fingerprint, config={"problems": QUESTIONS, "dataset": "t"})
    debates = [
        make_debate(number, [[number + (mark == "0")]], gold=number) for number, mark in enumerate(marks, start=1)
    ]
    verdicts = {
        debate.turns[0].key: Verdict(
            label="correct" if mark == "1" else "incorrect", method="number", extracted=debate.turns[0].answer
        )
        for debate, mark in zip(debates, marks, strict=True)
    }
    put(store, "00000", debates_to_table(debates), shard_meta(debates, replayed=0, seconds=1.0, plan=None))
    put(verdict_store(home, debates=fingerprint), "00000", verdicts_to_table(verdicts), {})
    return fingerprint


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    make_home(home, [make_debate(number, [[1]], gold=number).problem for number in range(1, 11)])
    made = {name: commit(home, name, marks) for name, marks in {**ANSWERS, "few": "10110"}.items()}
    for run in ("a0", "a1", "b0", "b1", "few"):
        state(home, run, {BASE: made["base"], STUDENT: made[run]})
    return home


def state(home: Path, run: str, methods: dict[str, str]) -> None:
    folder = home / "reports" / run
    folder.mkdir(parents=True)
    made_from = {method: {"debates": debates, "answer": "vote"} for method, debates in methods.items()}
    (folder / "evaluation.json").write_text(json.dumps({"made_from": made_from}))


def test_runs_are_combined_and_set_against_the_base_and_another_arm(home: Path, tmp_path: Path) -> None:
    arms = seed_runs.arms_of(home, ["a0", "a1"], against=["b0", "b1"])
    assert {arm: outcomes.shape for arm, outcomes in arms.items()} == {
        "base": (1, 10),
        "runs": (2, 10),
        "against": (2, 10),
    }
    # Questions are in the order of their ids, not of the file, so sums are compared.
    assert [int(row.sum()) for several in arms.values() for row in several] == [2, 5, 6, 6, 8]

    out = tmp_path / "seeds.md"
    words = ["seeds", "a0", "a1", "--against", "b0", "--against", "b1", "--home", str(home), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    mean, gain = mean_over_seeds(arms["runs"]), difference_over_seeds(arms["runs"], arms["against"])
    text = out.read_text()
    assert (
        f"| runs | questions, n = 10 | 2 | {100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]" in text
    )
    assert f"| runs - against | questions | 2 - 2 | {100 * gain.value:+.1f} [{100 * gain.low:+.1f}," in text
    assert "against - base" in text


def test_runs_that_cannot_be_combined_are_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="gone: no evaluation under .*; runs with one: a0, a1, b0, b1, few"):
        seed_runs.arms_of(home, ["a0", "gone"])
    with pytest.raises(
        ConfigError, match="a0: its evaluation has no method 'x'; there are: base student greedy, distilled"
    ):
        seed_runs.arms_of(home, ["a0"], method="x")
    with pytest.raises(DataError, match="few: asked 5 questions, 5 of them those of a0"):
        seed_runs.arms_of(home, ["a0", "few"])
