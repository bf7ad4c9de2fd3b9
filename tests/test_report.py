"""Reports of real ledgers: figures by hand, hostile text that stays text, the page as readers use it in a browser."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import re
from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_home
from report_home import DEBATES, VOTE, evaluated, make_report_home, state_evaluation, unpack
from test_card import HOSTILE

from agentark_core import evaluation
from agentark_core.cli import app
from agentark_core.errors import ConfigError, DataError
from agentark_core.evaluation import EqualTokens
from agentark_core.paired_tests import ScoreTest
from agentark_core.report import step_scores, viewer_data, write
from agentark_core.report.charts import _apart
from agentark_core.report.gather import gather
from agentark_core.report.sections import sections
from agentark_core.report.verdict import verdict
from agentark_core.statistics import Estimate
from agentark_core.terminal import safe


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report_home(tmp_path_factory.mktemp("home"))


# ---- figures


def test_the_verdict_says_what_the_intervals_show(home: Path) -> None:
    facts = gather(home, "first")
    said = verdict(facts)
    assert said.headline == (
        "The student gained +30.0 points [+20.5, +38.7] over its base; at 10 % of the teacher debate's completion "
        "tokens it has 62 % of its accuracy."
    )
    assert "teacher debate against teacher greedy: better, +10.0 points [+3.8, +16.5], n = 100" in said.reasons
    for right, words in (
        (10, "The student lost -10.0 points"),
        (21, "is not shown to have gained anything: +1.0 points"),
    ):
        other = verdict(dataclasses.replace(facts, evaluation=evaluated(student=right)))
        assert words in other.headline


def test_what_is_not_there_is_said_to_be_missing(home: Path) -> None:
    facts = gather(home, "first")
    bare = dataclasses.replace(
        facts, evaluation=None, stated={}, methods=[], held_out=[], votes=[], students=[], step_scores={}, reasoning={}
    )
    assert [part.split(":")[0].split(",")[0] for part in verdict(bare).missing] == [
        "No evaluation",
        "No process reward model was trained in this run",
    ]
    words = ("Accuracy", "Strategies", "Calibration", "Robustness", "reason")
    titles = [section.title for section in sections(bare)]
    assert not [title for title in titles if any(word in title for word in words)]
    untested = dataclasses.replace(facts, stated={}, votes=[], reasoning={})
    missing = " ".join(verdict(untested).missing)
    for remedy in ("evaluation.robustness", "evaluation.student_samples", "agentark perplexity first", "--judge"):
        assert remedy in missing


def test_failures_stand_against_the_gate_and_the_drop_beside_them(home: Path) -> None:
    (section,) = [section for section in sections(gather(home, "first")) if section.title.startswith("Robustness")]
    # 5 of 50 break: Wilson 4.3 to 21.4 %; 0 of 50: at most 7.1 %
    assert [row[4:6] for row in section.tables[0].rows] == [
        ("10.0 [4.3, 21.4]", "fail"),
        ("0.0 [0.0, 7.1]", "not shown"),
        ("-", "not shown"),
    ]
    assert section.points[0] == "Failure rate below 1 %, fail: renamed."
    assert section.points[1] == "Failure rate below 1 %, not shown: irrelevant, typos."
    assert any("100 not asked" in point for point in section.points)
    assert section.points[-1].startswith("Out of distribution: -25.0 points [")
    assert "renamed: 10.0 [4.3, 21.4] %, fail." in section.figures[0] and "typos" not in section.figures[0]


def test_confidence_by_vote_is_held_against_the_verdicts(home: Path) -> None:
    (section,) = [section for section in sections(gather(home, "first")) if section.title == "Calibration of answers"]
    # Four votes of 3 in 4, two of them right: error |0.5 - 0.75|, Brier (2 * 0.25^2 + 2 * 0.75^2) / 4.
    assert (
        "teacher, vote of 4 samples, 4 questions: mean confidence 75.0 %, right 50.0 [15.0, 85.0] %"
        in section.points[0]
    )
    assert "expected calibration error 25.0 [" in section.points[0] and "Brier score 0.312 [" in section.points[0]
    assert section.tables[0].rows == [("teacher", "75", "4", "75.0", "50.0 [15.0, 85.0]")]
    assert "teacher: at 75 % 50.0 [15.0, 85.0] of 4 questions right" in section.figures[0]


def test_what_was_measured_of_first_answers_is_in_the_report(home: Path) -> None:
    (section,) = [section for section in sections(gather(home, "first")) if section.title == "How solutions reason"]
    judged, perplexity = section.tables
    assert judged.rows[3][2:] == ("coherence", "4.50 [-]", "3 of 4", "67 %", "0.50", "")
    assert perplexity.rows == [("teacher majority@4", HOSTILE, "3.500 [3.000, 4.000]", "4", "99", "1 / 0 / 2")]
    assert judged.rows[2][-1] == "-", "one side does not vary"
    assert [section.title for section in sections(gather(home, RUN))].count("How solutions reason") == 0


def test_the_verdict_says_what_equal_tokens_buy(home: Path) -> None:
    facts = gather(home, "first")
    equal = EqualTokens(
        k=9,
        tokens_per_question=446.0,
        accuracy=Estimate(value=0.86, low=0.83, high=0.88, n=600),
        difference=ScoreTest(value=-0.02, low=-0.05, high=0.01, n=600, p_value=0.1, p_holm=0.2, detectable=0.044),
        student=ScoreTest(value=-0.45, low=-0.5, high=-0.4, n=600, p_value=2e-4, p_holm=6e-4),
        affordable=12,
    )
    report = dataclasses.replace(evaluated(), reference="teacher debate", equal_tokens=equal)
    said = verdict(dataclasses.replace(facts, evaluation=report)).reasons[-1]
    assert "majority@9, 446 completion tokens a question, accuracy 86.0 [83.0, 88.0] %" in said
    assert "teacher debate minus it -2.0 [-5.0, +1.0] points, p (Holm) 0.200, MDD 4.4," in said
    assert "distilled student greedy minus it -45.0 [-50.0, -40.0] points, p (Holm) 6e-04 (" in said
    assert said.endswith("those tokens would buy 12 samples, and only 9 were drawn.")


def test_a_run_of_debates_alone_says_what_its_rounds_did(home: Path) -> None:
    facts = gather(home, RUN)
    # Votes of round 1 and of the last: 7 right, 7 right; 4 right, 1 wrong; 3 wrong, 3 wrong; 9 right, 9 right.
    assert facts.learned[0].gain is not None and facts.learned[0].gain.difference == -25.0
    assert verdict(facts).headline.startswith(
        "The vote of 4 debates is right in 50.0 [15.0, 85.0] %; the rounds are not shown"
    )
    assert [(point.at, point.correct, point.n) for point in facts.learned[0].by_round] == [(1, 3, 4), (2, 2, 4)]
    # Tokens of make_turn: 10 * round + agent. Round 1: 36 in each of 4; round 2: 66 in each of 3.
    assert [point.tokens for point in facts.learned[0].by_round] == [36.0, 36.0 + 3 * 66 / 4]


def test_the_vote_curve_is_that_of_the_first_k_samples(home: Path) -> None:
    (votes,) = gather(home, "first").votes
    # Answers 7, 4, 4, 4: the first sample is 7, a tie of two goes to the first, then 4 wins. Golds 7, 4, 4, 9.
    assert [point.correct for point in votes.curve] == [1, 1, 2, 2]
    assert [point.tokens for point in votes.curve] == [11.0, 23.0, 36.0, 50.0]
    assert votes.title == "teacher" and votes.confidence == [0.75] * 4 and votes.right == [False, True, True, False]


def test_a_held_out_debate_is_told_from_votes_and_costs_are_the_manifests(home: Path) -> None:
    facts = gather(home, "first")
    assert [one.fingerprint for one in facts.held_out] == [RUN]
    assert {method.name: method.cost["completion_tokens"] for method in facts.methods} == {
        "teacher majority@4": 200,
        "teacher debate": 4 * 36 + 3 * 66,
    }


def test_students_of_other_runs_stand_beside_only_on_the_same_questions(home: Path) -> None:
    assert [one.run for one in gather(home, "first").students] == ["first", "first", "second"]
    state_evaluation(home, "elsewhere", questions={"dataset": "t", "fingerprint": "0" * 16})
    assert [one.run for one in gather(home, "first").students] == ["first", "first", "second"]


@pytest.fixture
def two_runs(home: Path, tmp_path: Path) -> Path:
    """Evaluations whose student and debate swap their debates."""
    (tmp_path / "ledger").symlink_to(home / "ledger")
    names = ("distilled student greedy", "teacher debate")
    for run, debates in (("mine", (RUN, VOTE)), ("theirs", (VOTE, RUN))):
        made_from = {name: {"debates": of, "answer": "vote"} for name, of in zip(names, debates, strict=True)}
        made_from["teacher majority@4"] = {"debates": VOTE, "answer": "vote"}
        state_evaluation(tmp_path, run, made_from=made_from)
    return tmp_path


def test_students_of_other_runs_are_paired_with_this_ones(two_runs: Path) -> None:
    # Votes: right, wrong, wrong, right in RUN; wrong, right, right, wrong in VOTE.
    students = gather(two_runs, "mine").students
    assert [one.run for one in students] == ["mine", "mine", "theirs"] and students[0].test is students[1].test is None
    test = students[2].test
    assert test is not None and (test.n, test.only_a, test.only_b, test.difference, test.p_holm) == (4, 2, 2, 0.0, 1.0)
    # Wilson of 2 in 4 is 0.5 -+ 0.35; at phi = -1 both spreads add up.
    (section,) = [one for one in sections(gather(two_runs, "mine")) if one.title == "Strategies compared"]
    assert [row[6:] for row in section.tables[0].rows] == [
        ("", "", ""),
        ("", "", ""),
        ("+0.0 [-70.0, +70.0]", "1.000", ""),
    ]


def test_two_evaluations_are_paired_method_by_method(two_runs: Path) -> None:
    (section,) = [s for s in sections(gather(two_runs, "mine", against="theirs")) if s.title == "Against another run"]
    student, debate = section.tables[0].rows
    assert student[:7] == (*("distilled student greedy", "4", "50.0 [15.0, 85.0]", "50.0 [15.0, 85.0]", "4", "2", "2"),)
    assert debate[0] == "teacher debate" and len(student) == len(section.tables[0].headers)
    assert "2nd: theirs" in section.points[0] and section.points[1].endswith("same debates: teacher majority@4.")
    assert not [s for s in sections(gather(two_runs, "mine")) if s.title == "Against another run"]


def test_runs_that_cannot_be_paired_are_refused(two_runs: Path) -> None:
    with pytest.raises(
        ConfigError, match="--against nothing: both runs need an evaluation; runs with one: mine, theirs"
    ):
        gather(two_runs, "mine", against="nothing")
    state_evaluation(two_runs, "other", made_from={"another method": {"debates": RUN, "answer": "vote"}})
    with pytest.raises(DataError, match="other: its evaluation and this one share no method"):
        gather(two_runs, "mine", against="other")


def test_an_evaluation_of_an_earlier_version_has_a_report_too(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "old"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(evaluation.to_json(evaluated())))
    paths = write.write(gather(tmp_path, "old"))
    assert "did not note its debates" in paths[1].read_text()
    assert "<script" not in paths[0].read_text()  # no debates, so nothing to run


def test_an_unknown_run_names_those_that_there_are(home: Path) -> None:
    with pytest.raises(ConfigError, match=rf"nothing: no such run .*first, second.*{RUN}"):
        gather(home, "nothing")


def test_debates_that_are_not_verified_are_named(tmp_path: Path) -> None:
    commit_debates(make_home(tmp_path, [DEBATES[3].problem]), "00000", DEBATES[3:])
    with pytest.raises(DataError, match=f"debates {RUN}: none is committed and verified yet"):
        gather(tmp_path, RUN)


def test_names_at_points_keep_a_line_apart_and_near_their_points() -> None:
    heights = [10.0, 11.0, 12.0, 60.0]
    moved = _apart(heights)
    assert all(b - a >= 5.2 - 1e-9 for a, b in zip(moved, moved[1:], strict=False))
    assert moved[3] == 60.0 and sum(moved[:3]) == pytest.approx(33.0)


# ---- the data of the page


def test_every_debate_and_flip_is_in_the_packs(home: Path) -> None:
    (data,) = viewer_data.pages(gather(home, RUN))
    debates = [debate for packed in data.packs for debate in unpack(packed)]
    assert [debate["i"] for debate in debates] == [safe(debate.problem.problem_id) for debate in DEBATES]
    for shown, debate in zip(debates, DEBATES, strict=True):
        assert shown["q"] == safe(debate.problem.question)
        assert [turn[8] for turn in shown["t"]] == [safe(turn.text) for turn in debate.turns]
    # Agent 1 of the first debate turns right as agents 2 and 3 were: 5 -> 7; of 2 peers 2 are right.
    assert [flip[:5] + flip[6:] for flip in debates[0]["f"]] == [[1, 1, 2, 1, 2, 2, 2]]
    assert [row[4:10] for row in data.index] == [
        ["c", 1, 0, 0.67, 1.0, 2],
        ["i", 0, 1, 0.67, 0.67, 2],
        ["i", 0, 1, 0.67, 0.67, 2],
        ["c", 0, 0, 1.0, 1.0, 1],
    ]


def test_scores_stand_at_the_steps_of_their_trace(home: Path) -> None:
    (data,) = viewer_data.pages(gather(home, "first"))
    turn = unpack(data.packs[0])[0]["t"][0]
    assert "".join(piece[0] for piece in turn[8]) == safe(DEBATES[0].turns[0].text)
    assert {piece[2] for piece in turn[8]} == {0.25}


def test_debates_beyond_the_limit_go_to_further_pages_and_old_pages_go(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_data, "PACK_BYTES", 1)
    monkeypatch.setattr(viewer_data, "PAGE_BYTES", 1)
    facts = gather(home, RUN)
    paths = write.write(facts)
    assert [path.name for path in paths] == [
        "report.html",
        "report.md",
        "report-2.html",
        "report-3.html",
        "report-4.html",
    ]
    texts = [path.read_text() for path in paths if path.suffix == ".html"]
    indices = [unpack(re.findall(r'id="index">([^<]+)<', text)[0])["index"] for text in texts]
    assert [row[1] for index in indices for row in index] == [debate.work_id for debate in DEBATES]
    assert 'href="report-2.html"' in texts[0] and 'href="report-4.html"' in texts[2] and "of 4." in texts[3]
    monkeypatch.undo()
    assert [path.name for path in write.write(facts)] == ["report.html", "report.md"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["report.html", "report.md"]


def test_a_page_stays_below_fifteen_megabytes_whatever_the_traces_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    trace = json.dumps({"q": base64.b85encode(rng.randbytes(1_500)).decode()})  # nothing to compress
    row = [0, "f" * 32, "q" * viewer_data.SNIPPET, "9", "c", 1, 1, 0.5, 0.5, 3]
    monkeypatch.setattr(viewer_data, "_debates", lambda facts: ((row, trace) for _ in range(10_000)))
    sizes = [sum(map(len, page.packs)) + len(page.packed_index) for page in viewer_data.pages(None)]  # type: ignore[arg-type]
    assert max(sizes) < 14_900_000 and sum(sizes) > 0


def test_the_same_home_gives_the_same_report(home: Path) -> None:
    first = [path.read_bytes() for path in write.write(gather(home, "first"))]
    assert [path.read_bytes() for path in write.write(gather(home, "first"))] == first


# ---- commands and scores


def test_the_command_prints_the_verdict_and_the_files(home: Path) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["report", "first", "--home", str(home)])
    assert done.exit_code == 0, done.output
    assert "The student gained +30.0 points" in done.output and "reports/first/report.html" in done.output


def test_no_reward_model_no_scores(home: Path) -> None:
    with pytest.raises(ConfigError, match="first: no process reward model was trained"):
        step_scores.score(home, "first", questions=2)
