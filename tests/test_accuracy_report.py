"""The accuracy benchmark's report: rounds, votes and their costs come from the committed debates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from debate_helpers import QUESTIONS, Answers, make_debate, make_home, put

from agentark_core.ledger import Store
from agentark_core.records import debates_to_table, verdicts_to_table
from agentark_core.stored import verdict_store
from agentark_core.types import Debate
from agentark_core.verify import Case, Verifier
from benchmarks.debate import accuracy_report

GOLDS = (7, 8)


def commit(home: Path, run: str, debates: list[Debate]) -> str:
    """Debates and their verdicts as one committed run of the questions that make_home wrote; every run has its keys."""
    debates = [
        replace(debate, turns=tuple(replace(turn, work_id=f"{run}-{turn.work_id}") for turn in debate.turns))
        for debate in debates
    ]
    put(
        Store(home, stage="debates", fingerprint=run, config={"problems": QUESTIONS}),
        "00000",
        debates_to_table(debates),
    )
    turns = [(debate, turn) for debate in debates for turn in debate.turns]
    cases = [Case(response=t.text, gold=d.problem.gold, task="number", question=d.problem.question) for d, t in turns]
    with Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many(cases)
    keys = [(turn.work_id, turn.round, turn.agent) for _, turn in turns]
    put(verdict_store(home, debates=run), "00000", verdicts_to_table(dict(zip(keys, verdicts, strict=True))))
    return run


def debates(rounds: tuple[Answers, Answers]) -> list[Debate]:
    return [make_debate(k, answers, gold=gold) for k, (answers, gold) in enumerate(zip(rounds, GOLDS, strict=True))]


def test_prefixes_of_rounds_and_votes_of_samples_are_scored_at_their_own_cost(tmp_path: Path) -> None:
    make_home(tmp_path, [d.problem for d in debates(([[7]], [[8]]))])
    five = debates(([[7, 7, 7, 1, 1], [7, 7, 7, 7, 7]], [[8, 8, 1, 1, 1], [8, 8, 8, 1, 1]]))
    alone = debates(([[1], [7]], [[8], [8]]))
    samples = debates(([[1, 7, 7, 7]], [[8, 8, 1, None]]))
    runs = {
        "board n=1": commit(tmp_path, "00000000000000b1", alone),
        "board n=5": commit(tmp_path, "00000000000000b5", five),
        "samples": commit(tmp_path, "00000000000000c0", samples),
    }
    found = accuracy_report.read(tmp_path, runs=runs)
    rows = {row.name: row for row in found.report.rows}
    assert [rows[f"board n=5 K={k}"].correct for k in (1, 2)] == [1, 2]
    assert [rows[f"board n=1 K={k}"].calls_per_question for k in (1, 2)] == [1, 2]
    assert rows["board n=5 K=1"].tokens_per_question == sum(10 + agent for agent in range(1, 6))
    assert rows["majority@1"].correct == 1
    assert ("board n=1 K=2", "majority@2") in found.equal_calls
    # Four samples and round 1 of the largest debate: nine. Ten calls cannot be matched, so nothing is claimed.
    assert not [pair for pair in found.equal_calls if pair[0] == "board n=5 K=2"]

    accuracy_report.write(found, docs=tmp_path / "docs", out=tmp_path)
    page = (tmp_path / "docs" / "debate_accuracy.md").read_text()
    assert "| board n=5 | 20 | 0 (0.0 %) | 0 | 100 |" in page
    assert (tmp_path / "docs" / "debate_accuracy.png").stat().st_size > 10_000
