"""Reports of prose scores and of samples: figures by hand, what is said where no answer was judged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from debate_helpers import make_home
from report_home import VOTE, VOTES, commit_votes, evaluated, state_evaluation
from test_text_scores import problem
from typer.testing import CliRunner

from agentark_core import evaluation, text_scores
from agentark_core.cli import app
from agentark_core.evaluation import BASE, STUDENT
from agentark_core.page import Section
from agentark_core.report import write
from agentark_core.report.gather import Facts, gather
from agentark_core.report.sections import sections
from agentark_core.report.verdict import verdict
from agentark_core.types import MethodResult
from flows import evaluate_model

F1 = {BASE: (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 0.0), STUDENT: (40.0, 60.0, 50.0, 100.0, 60.0, 80.0, 100.0)}


def write_scores(home: Path, run: str, f1: dict[str, tuple[float, ...]] = F1) -> Path:
    """Seven questions; an exact match is an F1 of 100."""
    folder = home / "reports" / run
    folder.mkdir(parents=True, exist_ok=True)
    questions = [dataclasses.replace(problem(number), task="hotpotqa") for number in range(7)]
    scores = {
        name: {
            question.problem_id: {"em": 100.0 * (value == 100), "f1": value}
            for question, value in zip(questions, values, strict=True)
        }
        for name, values in f1.items()
    }
    text_scores.write(scores, questions=questions, folder=folder)
    return folder


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    """An evaluation of seven questions in prose, none of them judged."""
    folder = write_scores(tmp_path, "prose")
    outcomes: dict[str, bool | None] = dict.fromkeys(f"q{number}" for number in range(7))
    results = [
        MethodResult(name=name, model="m", outcomes=outcomes, completion_tokens=70, prompt_tokens=7, calls=7)
        for name in F1
    ]
    data = evaluation.to_json(evaluation.compare(results, baseline=BASE))
    (folder / "evaluation.json").write_text(json.dumps(data))
    return tmp_path


def only(facts: Facts, title: str) -> Section:
    (section,) = [one for one in sections(facts) if one.title == title]
    return section


def column(section: Section, header: str) -> Sequence[str]:
    table = section.tables[0]
    return [row[table.headers.index(header)] for row in table.rows]


def test_scores_of_prose_have_a_section_with_tests_over_all_metrics(prose: Path) -> None:
    section = only(gather(prose, "prose"), "Scores of prose")
    assert column(section, "metric") == ["em", "em", "f1", "f1"]
    # F1 rises on all seven questions: 2 / 2^7; two exact matches more: 2 * 1 / 2^2.
    assert column(section, "p") == ["", "0.500", "", "0.016"]
    assert column(section, "p (Holm)") == ["", "0.500", "", "0.031"]
    # em: differences 100, 100 and five 0, deviation 48.795; t(1 - 0.05 / 4, 6) = 2.969, t(0.8, 6) = 0.906.
    assert column(section, "MDD") == ["", "71.5", "", ""]
    assert column(section, "minus the first method [95 %]")[3].startswith("+40.0 [")
    assert section.points == ["Drawn: f1, the leading metric of these questions."]
    assert "Chart of f1: base student greedy: 30.0 [" in section.figures[0]


def test_the_verdict_on_answers_without_verdicts_names_the_leading_metric(prose: Path) -> None:
    facts = gather(prose, "prose")
    said = verdict(facts)
    assert said.headline.startswith(
        "No accuracy: all 7 answers of every method are undecided. By f1 the student scores 70.0 ["
    )
    assert "better than base student greedy: +40.0 [" in said.headline and "p (Holm) 0.031" in said.headline
    assert said.reasons[0].startswith("base student greedy: f1 30.0 [")
    assert said.reasons[0].endswith("of 100, n = 7, 10 completion tokens and 1 call a question")
    assert only(facts, "Accuracy against tokens").figures == [], "0 % of nothing judged is no accuracy"
    unscored = verdict(dataclasses.replace(facts, prose=None))
    assert unscored.headline.endswith("undecided; verification.judge gives them a verdict.") and not unscored.reasons


def test_both_files_of_the_report_hold_the_scores(prose: Path) -> None:
    page, markdown = write.write(gather(prose, "prose"))
    assert "Scores of prose" in page.read_text() and 'aria-label="Chart of f1' in page.read_text()
    assert (
        "## Scores of prose" in markdown.read_text() and "| f1 | distilled student greedy | 7 |" in markdown.read_text()
    )


def test_judged_prose_has_its_leading_metric_beside_the_accuracy(prose: Path) -> None:
    facts = dataclasses.replace(gather(prose, "prose"), evaluation=evaluated())
    said = verdict(facts)
    assert said.headline.startswith("The student gained +30.0 points")
    assert said.reasons[-1].startswith("By f1 the student scores 70.0 [")


def test_scores_of_an_older_version_are_shown_without_tests(prose: Path) -> None:
    path = prose / "reports" / "prose" / "scores.json"
    data = json.loads(path.read_text())
    del data["leading"]
    for row in data["rows"]:
        for name in ("p_value", "p_holm", "detectable"):
            del row[name]
    path.write_text(json.dumps(data))
    facts = gather(prose, "prose")
    assert column(only(facts, "Scores of prose"), "p (Holm)") == [""] * 4
    assert "By f1" in verdict(facts).headline and "p (Holm)" not in verdict(facts).headline


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    """Four questions with four samples each: answers 7, 4, 4, 4; golds 7, 4, 4, 9."""
    make_home(tmp_path, *([debate.problem for debate in VOTES[first : first + 2]] for first in (0, 2)))
    commit_votes(tmp_path)
    state_evaluation(tmp_path, "votes", made_from={"distilled student majority@4": {"debates": VOTE, "answer": "vote"}})
    return tmp_path


def test_samples_of_votes_give_pass_at_k_and_maj_at_k(sampled: Path) -> None:
    section = only(gather(sampled, "votes"), "Samples: pass@k and maj@k")
    assert column(section, "model") == ["distilled student"] * 3 and column(section, "k") == ["1", "2", "4"]
    # One, three, three and none of four are right.
    passed = [cell.split()[0] for cell in column(section, "pass@k, % [95 %]")]
    assert passed == [f"{100 * value:.1f}" for value in (7 / 16, (1 / 2 + 1 + 1 + 0) / 4, 3 / 4)]
    # Of two samples 7 and 4 tie in three of six, 4 and 4 agree in three: 1/4, 3/4, 3/4, 0. Of four 4 wins.
    voted = [cell.split()[0] for cell in column(section, "maj@k, % [95 %]")]
    assert voted == [f"{100 * value:.1f}" for value in (7 / 16, 7 / 16, 2 / 4)]
    assert "distilled student: k = 1: 43.8 [" in section.figures[0] and section.points == []
    assert "Samples: pass@k and maj@k" in write.write(gather(sampled, "votes"))[1].read_text()


def test_undecided_samples_are_counted_and_samples_without_verdicts_left_out(sampled: Path) -> None:
    facts = gather(sampled, "votes")
    (votes,) = facts.votes
    some = dataclasses.replace(votes, samples=[dataclasses.replace(one, undecided=1) for one in votes.samples])
    section = only(dataclasses.replace(facts, votes=[some]), "Samples: pass@k and maj@k")
    assert section.points == ["distilled student: 4 of 16 samples undecided."]
    none = dataclasses.replace(votes, right=[], confidence=[])
    titles = [one.title for one in sections(dataclasses.replace(facts, votes=[none]))]
    assert not [title for title in titles if title.startswith(("Samples", "Scaling", "Calibration of answers"))]


def test_undecided_answers_of_students_have_a_column(sampled: Path) -> None:
    facts = gather(sampled, "votes")
    rows = [dataclasses.replace(one, row=dataclasses.replace(one.row, undecided=3)) for one in facts.students]
    assert column(only(dataclasses.replace(facts, students=rows), "Strategies compared"), "undecided") == ["3", "3"]


def test_the_report_is_opened_if_asked(prose: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(typer, "launch", opened.append)
    command = ["report", "prose", "--home", str(prose)]
    assert CliRunner().invoke(app, command).exit_code == 0 and opened == []
    assert CliRunner().invoke(app, [*command, "--open"]).exit_code == 0
    assert opened == [str(prose / "reports" / "prose" / "report.html")] and Path(opened[0]).is_file()


def test_scores_of_an_earlier_evaluation_can_be_taken_away(prose: Path) -> None:
    text_scores.remove(prose / "reports" / "prose")
    text_scores.remove(prose / "reports" / "prose")
    assert gather(prose, "prose").prose is None


def test_prefect_links_to_the_page_in_mlflow_where_that_has_an_address(
    prose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[str] = []
    texts: list[str] = []
    monkeypatch.setattr(evaluate_model, "create_link_artifact", lambda link, **_: links.append(link))
    monkeypatch.setattr(evaluate_model, "create_markdown_artifact", lambda text, **_: texts.append(text))
    at = "http://127.0.0.1:5000/#/experiments/1/runs/2"
    for url in (at, "mlflow ui --backend-store-uri sqlite:///x"):
        run: Any = SimpleNamespace(url=url, set_tags=lambda tags: None)
        page, *_ = evaluate_model.write_report("prose", home=prose, run=run)
    assert links == [f"{at}/artifacts/report.html"]
    assert all(str(page) in text and "--open" in text for text in texts) and len(texts) == 2
