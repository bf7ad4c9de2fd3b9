"""Extraction in a real ledger: every row accounted for, new shards only, left-out questions, and a resumed kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home, put, verify

from agentark_core import extraction, question_filter
from agentark_core.benchmark_prompts import asked
from agentark_core.config import ExamplesConfig
from agentark_core.errors import CorruptData
from agentark_core.extraction import KINDS, ExtractJob
from agentark_core.ledger import Store
from agentark_core.near_duplicates import contaminated
from agentark_core.records import problems_to_table
from agentark_core.types import Debate, Problem

DEBATES = [
    make_debate(0, [[5, 7, 7], [7, 7, 7]], gold=7),
    make_debate(1, [[1, 2, 3], [1, 1, 4]], gold=4),
    make_debate(2, [[2, 3, 3], [3, 3, None]], gold=2),
    make_debate(3, [[9, 9, 9]], gold=9, stop_reason="consensus"),
]


def question(debate: Debate, text: str) -> Debate:
    return dataclasses.replace(debate, problem=dataclasses.replace(debate.problem, question=text))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = make_home(tmp_path, [d.problem for d in DEBATES[:2]], [d.problem for d in DEBATES[2:]])
    commit_debates(store, "00000", DEBATES[:2])
    verify(tmp_path, "00000", DEBATES[:2])
    return tmp_path


def job(home: Path, *, tests: list[str] | None = None) -> ExtractJob:
    dropped = question_filter.dropped_questions(home, runs=[RUN], tests=tests or [])
    return ExtractJob(home=home, debates=RUN, dropped=dropped.fingerprint, config=ExamplesConfig(), wording="general")


def test_every_candidate_and_question_is_accounted_for_in_each_kind(home: Path) -> None:
    made = job(home)
    assert made.missing() == ["00000"]
    rows = {"rsft": 2, "answer": 2, "augmentation": 1, "process": 5, "trajectories": 2, "prompts": 2}
    assert extraction.extract_shard(made, "00000") == rows
    rsft = extraction.totals(made, "rsft")
    assert rsft["questions"] == {"kept": 2} and rsft["rows"] == 2
    counts = rsft["counts"]
    assert counts == {
        "candidates": 6,
        "kept": 2,
        "corrective": 2,
        "duplicate": 2,
        "near_duplicate": 0,
        "incorrect": 2,
        "over_cap": 0,
    }, "equal texts of a question are learned once; the corrected agents come first"
    flips = extraction.totals(made, "trajectories")["counts"]
    assert flips == {"debates": 2, "followed": 1, "to_right": 2, "to_wrong": 0}
    assert sum(rsft["lengths"].values()) == 2


def test_a_growing_run_extracts_its_new_shards_only(home: Path) -> None:
    made = job(home)
    extraction.extract_shard(made, "00000")
    parts = {kind: made.store(kind).entry("00000") for kind in KINDS}
    commit_debates(Store(home, stage="debates", fingerprint=RUN), "00001", DEBATES[2:])
    assert made.missing() == [], "not verified yet"
    verify(home, "00001", DEBATES[2:])
    assert job(home) == made and made.missing() == ["00001"]
    extraction.extract_shard(made, "00001")
    assert made.missing() == [] and parts == {kind: made.store(kind).entry("00000") for kind in KINDS}
    prompts = made.store("prompts").read().to_pylist()
    assert [(row["correct"], row["decided"]) for row in prompts] == [(2, 3), (0, 3), (1, 3), (3, 3)]


def test_an_interrupted_shard_keeps_the_kinds_that_were_committed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = job(home)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(extraction._BUILD, "trajectories", die)
        with pytest.raises(KeyboardInterrupt):
            extraction.extract_shard(made, "00000")
    first = made.store("rsft").entry("00000")
    assert first is not None and made.store("trajectories").entry("00000") is None and made.missing() == ["00000"]
    extraction.extract_shard(made, "00000")
    assert made.missing() == [] and made.store("rsft").entry("00000") == first


def test_test_questions_and_repeats_are_left_out_and_listed(home: Path) -> None:
    long = "A farmer has twelve cows and seven goats and sells five goats at the market, how many animals are left"
    debates = [question(DEBATES[0], long + "?"), question(DEBATES[1], "Wholly other words about 3 ships and 9 sails.")]
    other = home / "other"
    store = make_home(other, [d.problem for d in debates])
    commit_debates(store, "00000", debates)
    verify(other, "00000", debates)
    tests = Store(other, stage="problems", fingerprint="00000000000000b2", config={"problems": "test"})
    asked = dataclasses.replace(debates[0].problem, problem_id="x-0000000000000001", question=long.upper() + "!")
    put(tests, "00000", problems_to_table([asked]))
    made = job(other, tests=["00000000000000b2"])
    extraction.extract_shard(made, "00000")
    assert extraction.totals(made, "prompts")["questions"] == {"kept": 1, "test question": 1}
    dropped = Store(other, stage=question_filter.STAGE, fingerprint=made.dropped).read().to_pylist()
    assert [(row["matched"], row["reason"], row["rule"]) for row in dropped] == [
        ("x-0000000000000001", "test question", "exact")
    ]
    assert debates[0].problem.problem_id not in made.store("rsft").read()["problem_id"].to_pylist()


def test_other_verdicts_than_those_extracted_from_are_refused(home: Path) -> None:
    made = job(home)
    extraction.extract_shard(made, "00000")
    store = Store(home, stage="debates", fingerprint=RUN)
    (store.root / "manifest" / "00000.json").unlink()
    commit_debates(store, "00000", DEBATES[:1])
    with pytest.raises(CorruptData, match="other debates than the ledger has now"):
        extraction.extract_shard(made, "00000")


def test_a_question_debated_twice_is_no_repeat_and_one_asked_again_under_another_id_is(tmp_path: Path) -> None:
    again = dataclasses.replace(DEBATES[0].problem, problem_id="other-0000000000000001")
    asked = [DEBATES[0].problem, DEBATES[0].problem, DEBATES[1].problem, again]
    make_home(tmp_path, asked)
    dropped = question_filter.dropped_questions(tmp_path, runs=[RUN], tests=[])
    assert question_filter.reasons(dropped) == {"other-0000000000000001": "repeated question"}


def test_questions_that_share_only_a_benchmarks_words_and_a_last_option_are_not_the_same(tmp_path: Path) -> None:
    def problem(number: int, text: str) -> Problem:
        question = asked("medmcqa", question=f"{text}\nC. Not recalled\nD. Not recalled")
        return Problem(problem_id=f"m-{number}", dataset="m", task="medmcqa", question=question, gold="A")

    canals = problem(1, "Multiple canals in mandibular premolars are seen in?\nA. Africans\nB. Caucasians")
    water = problem(2, "Improved drinking water source protects from\nA. Fecal matter\nB. Teratogens")
    again = problem(3, "improved  drinking water source protects from:\nA. Fecal matter\nB. Teratogens")
    assert len(contaminated([canals.question], [water.question])) == 1, "the benchmark's words count as copied"
    make_home(tmp_path, [canals, again])
    tests = Store(tmp_path, stage="problems", fingerprint="00000000000000b3", config={"problems": "test"})
    put(tests, "00000", problems_to_table([water]))
    dropped = question_filter.dropped_questions(tmp_path, runs=[RUN], tests=["00000000000000b3"])
    assert question_filter.reasons(dropped) == {"m-3": "test question"}
