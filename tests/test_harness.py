"""lm-evaluation-harness beside our own evaluation: its real environment, task, run and sample files."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import command_line
from debate_helpers import QUESTIONS, RUN, commit_debates, make_debate, make_home, put

from agentark_core import text_scores
from agentark_core.answers import extract
from agentark_core.arkling import model_path
from agentark_core.arkling.generator import problems
from agentark_core.config import TrackingConfig
from agentark_core.errors import ConfigError, DataError, EmptyDataset, ModelError
from agentark_core.harness import environment
from agentark_core.harness.agreement import agreement, render
from agentark_core.harness.export import evaluated
from agentark_core.harness.run import summary
from agentark_core.harness.samples import Sample, read_samples, write_samples
from agentark_core.harness.task import write_task
from agentark_core.named_model import find_model
from agentark_core.records import verdicts_to_table
from agentark_core.registry_view import find_version, register_student
from agentark_core.statistics import wilson
from agentark_core.stored import verdict_store
from agentark_core.tracking import pipeline_run
from agentark_core.types import Problem, Turn, Verdict, VerdictLabel
from tasks.evaluation_tasks import score_prose

Cli = Callable[..., subprocess.CompletedProcess[str]]


def sample(number: int, score: float, *, answer: str = "7", filter: str = "last-box", **more: float) -> Sample:
    return Sample(
        doc_id=number,
        doc={"question": f"What is {number}?"},
        target="7",
        arguments={"gen_args_0": {"arg_0": "p", "arg_1": {}}},
        resps=[[f"\\boxed{{{answer}}}"]],
        filtered_resps=[answer],
        filter=filter,
        metrics=["exact_match", *more],
        doc_hash="d",
        prompt_hash="p",
        target_hash="t",
        exact_match=score,
        **more,
    )


def test_agreement_counts_by_question_and_leaves_out_what_is_undecided_or_not_in_both() -> None:
    ours = [sample(n, score) for n, score in enumerate([1.0, 1.0, 0.0, 0.0])]
    ours += [sample(4, 0.0, undecided=1.0), sample(9, 1.0)]
    theirs = [sample(n, score, answer=answer) for n, score, answer in
              [(4, 1.0, "7"), (3, 1.0, "8"), (2, 0.0, "7"), (1, 1.0, "7"), (0, 1.0, "7")]]  # fmt: skip
    found = agreement(ours, theirs)
    assert (found.n, found.only_in_one, found.same_text) == (5, 1, 4)
    assert (found.correct_a, found.correct_b) == (2, 4)
    assert (found.test.n, found.test.only_a, found.test.only_b, found.test.difference) == (4, 0, 1, -25.0)
    assert [(x.doc_id, y.doc_id) for x, y in found.differ] == [(3, 3), (4, 4)]
    text = render(found, names=("ours", "theirs"))
    assert "same verdict on 3 of 5" in text and "doc 3, gold 7: ours ['7'], theirs ['8']" in text
    low, high = wilson(2, 5)
    assert f"ours: 2 correct, 40.0 [{100 * low:.1f}, {100 * high:.1f}] %" in text


def test_files_that_cannot_be_compared_say_why() -> None:
    with pytest.raises(DataError, match="no question in common"):
        agreement([sample(1, 1.0)], [sample(2, 1.0)])
    with pytest.raises(DataError, match="no metric 'acc', only exact_match"):
        agreement([sample(1, 1.0)], [sample(1, 1.0)], metric="acc")
    with pytest.raises(DataError, match="doc 3 has no text `question`"):
        agreement([sample(3, 1.0).model_copy(update={"doc": {"q": "x"}})], [sample(1, 1.0)])


def test_samples_are_read_back_as_written_and_a_wrong_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples_t_1.jsonl"
    rows = [sample(0, 1.0, answer="é\u2028"), sample(1, 0.0)]
    write_samples(path, rows)
    assert read_samples(path) == rows
    assert "exact_match (last-box): 1 of 2, 50.0" in summary(path)
    for change, message in (
        ({"doc_hash": None}, "row 2: doc_hash: "),
        ({"metrics": ["acc"]}, "row 2: metrics: .*'acc', which has no score"),
        ({"resps": "text"}, "row 2: resps: "),
        ({"doc_id": "1"}, "row 2: doc_id: "),
    ):
        broken = [json.dumps(row.model_dump() | (change if row.doc_id else {})) for row in rows]
        path.write_text("\n".join(broken))
        with pytest.raises(DataError, match=message):
            read_samples(path)
    parts = [row.model_dump() | {"metrics": ["exact_match", "nll"], "nll": [-1.5, 3]} for row in rows]
    path.write_text("\n".join(map(json.dumps, parts)))
    assert "exact_match (last-box): 1 of 2" in summary(path) and "nll" not in summary(path)
    path.write_text("\n")
    with pytest.raises(EmptyDataset, match="no samples"):
        read_samples(path)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="row 1: .*lm_eval --log_samples"):
        read_samples(path)


def test_the_task_asks_the_questions_of_our_evaluation_with_the_same_seed(tmp_path: Path) -> None:
    path = write_task(tmp_path / 'a "folder"', split="ood", limit=3, seed=5)
    (named,) = re.findall(r"test: (\".*\")$", path.read_text(), re.MULTILINE)
    rows = [json.loads(line) for line in Path(json.loads(named)).read_text().splitlines()]
    assert rows == [
        {"problem_id": p.problem_id, "question": p.question, "gold": p.gold} for p in problems("ood", limit=3, seed=5)
    ]


def test_a_version_of_the_registry_is_found_by_name_alias_and_number() -> None:
    rows = [
        {"name": "s", "version": 10, "aliases": ["candidate"]},
        {"name": "s", "version": 9, "aliases": ["best"]},
        {"name": "s-prm", "version": 11, "aliases": []},
    ]
    for wanted, number in (("s", 10), ("s@best", 9), ("s/9", 9), ("models:/s@candidate", 10), ("s-prm", 11)):
        assert find_version(rows, wanted)["version"] == number
    for wanted in ("t", "s@none", "s/8", "@best", ""):
        with pytest.raises(ConfigError, match=r"there are: s/10 @candidate, s/9 @best, s-prm/11\. Give NAME"):
            find_version(rows, wanted)


def registered(home: Path, folder: Path) -> Path:
    """A copy of the shipped student, registered as agentark-student@candidate."""
    folder.mkdir()
    for file in model_path("student").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with pipeline_run(TrackingConfig(), home=home, name="t", resolved=TrackingConfig(), tags={}) as run:
        register_student(run, name="agentark-student", model_dir=folder, lineage={}, metrics={})
    return folder


@pytest.mark.slow
def test_a_registered_student_whose_files_changed_is_not_evaluated_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "home"
    folder = registered(home, tmp_path / "a student, v=1")
    found = find_model("agentark-student@candidate", home=home)
    assert (found.label, found.folder) == ("agentark-student-1", folder)
    assert find_model(str(folder), home=home).folder == folder
    assert find_model("arkling:student", home=home).label == "arkling-student"
    with (folder / "config.json").open("a") as stream:
        stream.write("\n")
    with pytest.raises(ModelError, match="agentark-student 1 was registered with .* the files were changed"):
        find_model("agentark-student", home=home)
    (folder / "model.py").write_text("")
    with pytest.raises(ModelError, match="code in a model directory"):
        find_model("agentark-student", home=home)


def label(turn: Turn, problem: Problem) -> VerdictLabel:
    return "undecided" if turn.answer == "2" else "correct" if turn.answer == problem.gold else "incorrect"


@pytest.fixture
def voted(tmp_path: Path) -> Path:
    """A home with a run `t`: debates of three agents, evaluated by vote, and the verdict on 2 is undecided."""
    home = tmp_path / "home"
    debates = [
        make_debate(0, [[7, 4, 7]], gold=7),
        make_debate(1, [[1, 2, 2]], gold=1),
        make_debate(2, [[None, None, None]], gold=3),
        make_debate(3, [[9, 9, 9]], gold=9),
    ]
    store = make_home(home, [debate.problem for debate in debates], num_rounds=1)
    commit_debates(store, "00000", debates)
    verdicts = {
        turn.key: Verdict(label=label(turn, debate.problem), method="number", extracted=turn.answer)
        for debate in debates
        for turn in debate.turns
    }
    put(verdict_store(home, debates=RUN), "00000", verdicts_to_table(verdicts))
    methods = {"vote of 3": {"debates": RUN, "answer": "vote"}}
    stated = {
        "questions": {"dataset": "t", "fingerprint": QUESTIONS},
        "made_from": methods,
        "rows": [{"name": name, "model": "served-elsewhere"} for name in methods],
    }
    folder = home / "reports" / "t"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(stated))
    return home


def test_a_vote_is_exported_with_all_its_samples_and_what_is_undecided_says_so(voted: Path) -> None:
    rows = evaluated(voted, "t", method="vote of 3")
    assert [row.metric("exact_match") for row in rows] == [1.0, 0.0, 0.0, 1.0]
    assert [row.metric("undecided") for row in rows] == [0.0, 1.0, 0.0, 0.0]
    assert all(row.metrics == ["exact_match", "undecided"] for row in rows)
    assert [row.filtered_resps for row in rows] == [["7"], ["2"], ["[invalid]"], ["9"]]
    assert rows[0].resps == [["So it is \\boxed{7}.", "So it is \\boxed{4}.", "So it is \\boxed{7}."]]
    assert [row.doc_id for row in rows] == [0, 1, 2, 3] and [row.target for row in rows] == ["7", "1", "3", "9"]
    asked, how = rows[0].arguments["gen_args_0"].values()
    assert json.loads(asked)[0]["content"].startswith("What is [bold]7[/] * 1?\n\nReason step by step")
    assert how["do_sample"] is True and {"temperature", "top_p", "max_gen_toks", "until"} < set(how)


@pytest.mark.parametrize("task", ["hotpotqa", "truthfulqa"])
def test_prose_is_exported_with_its_recorded_scores_in_the_harness_scales(task: str, tmp_path: Path) -> None:
    home, reports = tmp_path / "home", tmp_path / "home" / "reports" / "t"
    debates = []
    for number, text in enumerate(("So it is \\boxed{the cat sat}", "It is \\boxed{a cat}", "")):
        debate = make_debate(number, [[None]], gold=number)
        problem = replace(debate.problem, task=task, gold="cat.", references=("cat.",), wrong_references=("sat.",))
        turn = replace(debate.turns[0], text=text, answer=extract(text, task=task))
        debates.append(replace(debate, problem=problem, turns=(turn,)))
    asked = [debate.problem for debate in debates]
    commit_debates(make_home(home, asked, num_rounds=1), "00000", debates)
    stated = {
        "questions": {"dataset": "t", "fingerprint": QUESTIONS},
        "made_from": {"student": {"debates": RUN, "answer": "vote"}},
        "rows": [{"name": "student", "model": "served-elsewhere"}],
    }
    reports.mkdir(parents=True)
    (reports / "evaluation.json").write_text(json.dumps(stated))
    with pytest.raises(DataError, match=r"scores.json: no scores of 'student'; start `agentark run evaluate-model`"):
        evaluated(home, "t", method="student")
    spec: Any = SimpleNamespace(fingerprint=RUN)
    text_scores.write({"student": score_prose.fn("student", spec=spec, answer="vote", home=home)},
                      questions=asked, folder=reports)  # fmt: skip
    rows = evaluated(home, "t", method="student")
    write_samples(tmp_path / "samples.jsonl", rows)
    assert read_samples(tmp_path / "samples.jsonl") == rows
    assert [row.filtered_resps for row in rows] == [["the cat sat"], ["a cat"], ["[invalid]"]]
    if task == "hotpotqa":
        assert {"em", "f1", "rougeL"} < set(rows[0].metrics)
        assert [row.metric("em") for row in rows] == [0, 1, 0]
        assert [row.metric("f1") for row in rows] == pytest.approx([2 / 3, 1, 0])
        assert [row.metric("rougeL") for row in rows] == pytest.approx([1 / 2, 2 / 3, 0])
        assert "em (last-box): 1 of 3" in summary(tmp_path / "samples.jsonl")
        assert agreement(rows, rows, metric="em").correct_a == 1
    else:
        assert {"bleu_max", "bleu_acc", "bleu_diff", "rouge1_max", "rougeL_acc", "rougeL_diff"} < set(rows[0].metrics)
        assert [row.metric("rouge1_acc") for row in rows] == [0, 1, 0]
        assert [row.metric("rouge1_max") for row in rows] == pytest.approx([50, 200 / 3, 0])
        assert [row.metric("rougeL_diff") for row in rows] == pytest.approx([0, 200 / 3, 0])


def test_an_unknown_run_or_method_names_those_there_are(voted: Path) -> None:
    with pytest.raises(ConfigError, match="no evaluated run of this name .*there are: t"):
        evaluated(voted, "other", method="vote of 3")
    with pytest.raises(ConfigError, match="t has no method 'vote'; use one of: vote of 3"):
        evaluated(voted, "t", method="vote")


ACCEPTS = """
import json, sys
import datasets
from importlib.metadata import requires, version
from packaging.requirements import Requirement
from pydantic import TypeAdapter
from lm_eval.result_schema import SampleResult
from lm_eval.utils import get_file_task_name, get_sample_results_filenames

ours, theirs = sys.argv[1:]
for line in requires("lm_eval"):
    needed = Requirement(line)
    if needed.marker is None or needed.marker.evaluate({"extra": "hf"}):
        assert needed.specifier.contains(version(needed.name), prereleases=True), line
for line in open(ours, encoding="utf-8"):
    TypeAdapter(SampleResult).validate_json(line, strict=True)
load = lambda path: datasets.load_dataset("json", data_files=path, split="train").features
assert load(ours) == load(theirs), (load(ours), load(theirs))
assert get_sample_results_filenames([ours]) == [ours]
print(json.dumps({"task": get_file_task_name(ours.rpartition("/")[2]), "lm_eval": version("lm_eval")}))
"""


@pytest.mark.slow
def test_the_harness_and_our_evaluation_agree_on_every_question(
    agentark: Cli, flow_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped student, greedy in float32, on 50 questions: transformers under lm_eval, and vLLM under our flow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "home"
    folder = registered(home, tmp_path / "a student, v=1")
    words = ("lm-eval", "agentark-student@candidate", "--limit", 50, "--dtype", "float32", "--home", home)
    with (tmp_path / "lm-eval.log").open("wb") as log:
        command = command_line((*words, "--", "--batch_size", "25"), folder=tmp_path)
        harness = subprocess.Popen(
            command, env={**flow_environment, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, cwd=tmp_path
        )
    config = {
        "run": {"name": "test", "home": str(home)},
        "student": {"path": str(folder), "prompts": "arkling", "dtype": "float32"},
        "debate": {"sampling": {"max_tokens": 256}},
        "evaluation": {"problems": {"source": "arkling", "split": "test", "limit": 50}},
    }
    agentark("run", "evaluate-model", config)
    assert harness.wait(timeout=600) == 0, (tmp_path / "lm-eval.log").read_text()[-4000:]
    (theirs,) = home.glob("lm-eval/agentark-student-1/*/samples_arkling_*.jsonl")
    said = (tmp_path / "lm-eval.log").read_text()
    told = agentark("export-samples", "test", "--home", home, "--against", theirs).stdout
    (ours,) = home.glob("reports/test/samples/distilled-student-greedy/samples_arkling_*.jsonl")

    a, b = read_samples(ours), sorted(read_samples(theirs), key=lambda sample: sample.doc_id)
    assert len(a) == len(b) == 50
    # Another processor may round a tie the other way; the same response has the same verdict.
    assert sum(x.resps == y.resps for x, y in zip(a, b, strict=True)) >= 48
    for x, y in zip(a, b, strict=True):
        assert set(x.model_dump()) == set(y.model_dump()) and x.metrics == y.metrics and x.filter == y.filter
        assert (x.doc_id, x.doc, x.target) == (y.doc_id, y.doc, y.target)
        assert (x.doc_hash, x.prompt_hash, x.target_hash) == (y.doc_hash, y.prompt_hash, y.target_hash)
        assert x.arguments["gen_args_0"] == y.arguments["gen_args_0"]
        if x.resps == y.resps:
            assert x.filtered_resps == y.filtered_resps and x.metric("exact_match") == y.metric("exact_match")
    row = json.loads((home / "reports" / "test" / "evaluation.json").read_text())["rows"][0]
    right = sum(sample.metric("exact_match") == 1 for sample in b)
    assert row["correct"] == sum(sample.metric("exact_match") == 1 for sample in a) > 0
    assert f"exact_match (last-box): {right} of 50" in said
    assert "50 questions in both (0 in one alone)" in told and f"lm_eval: {right} correct" in told

    python = environment.ensure()
    done = subprocess.run([python, "-P", "-c", ACCEPTS, ours, theirs], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    pins = (environment.ROOT / environment.LOCK).read_text()
    accepted = json.loads(done.stdout.splitlines()[-1])
    assert accepted["task"] == "arkling" and f"\nlm-eval=={accepted['lm_eval']}\n" in pins
    with pytest.raises(PackageNotFoundError):
        version("lm_eval")
