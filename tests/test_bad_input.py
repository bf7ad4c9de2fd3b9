"""Each bad input ends in one clear line with the remedy, a non-zero exit code, and no engine started."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentark_core import arkling

Cli = Callable[..., subprocess.CompletedProcess[str]]


def config(home: Path, **changes: Any) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": 4},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        **changes,
    }


def rows(path: Path, *rows: object) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"source": "file", "path": str(path), "task": "number", "id_column": "id"}


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("agentark: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-3000:]
    return lines[0]


def test_mistakes_in_the_config_are_found_before_anything_starts(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    unknown = last_line(agentark("run", "build-traces", config(home, debat={}), expect=2))
    assert "debat: unknown key" in unknown
    wrong = last_line(agentark("run", "build-traces", config(home), "--set", "debate.num_agents=x", expect=2))
    assert "debate.num_agents" in wrong
    name = last_line(agentark("run", "build-traces", config(home), "--set", "run.name=../x", expect=2))
    assert "run.name" in name and "invalid name" in name
    batch = {"batch_size": 10, "micro_batch_size": 4}
    student = {"path": "arkling:student", "prompts": "arkling"}
    sft = last_line(agentark("run", "full-pipeline", config(home, student=student, sft=batch), expect=2))
    assert "batch_size 10 is not a multiple" in sft
    assert "no such config file" in last_line(agentark("run", "distil", "--config", "none.yaml", expect=2))
    assert "choose one of" in last_line(agentark("run", "distill", config(home), expect=2))
    assert not home.exists()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ["questions.jsonl"]),
        (
            [{"id": "a", "question": "x?", "answer": "1"}, {"id": "b", "question": None, "answer": "1"}],
            ["row 2", "max_bad_row_share"],
        ),
        ([{"id": "a", "question": "x?", "answer": "1"}, {"id": "a", "question": "y?", "answer": "2"}], ["row 2"]),
        ([{"id": "../x", "question": "x?", "answer": "1"}], ["row 1"]),
        ([{"id": "a", "frage": "x?", "answer": "1"}], ["question"]),
    ],
)
def test_bad_questions_name_file_and_row_and_start_no_engine(
    agentark: Cli, tmp_path: Path, lines: list[object], words: list[str]
) -> None:
    home = tmp_path / "home"
    problems = rows(tmp_path / "questions.jsonl", *lines)
    line = last_line(agentark("run", "build-traces", config(home, problems=problems), expect=2))
    assert all(word in line for word in words), line
    assert not list(home.glob("ledger/debates-*"))


def test_missing_question_file_is_named(agentark: Cli, tmp_path: Path) -> None:
    problems = {"source": "gsm8k", "path": str(tmp_path / "none.jsonl")}
    assert "none.jsonl" in last_line(
        agentark("run", "build-traces", config(tmp_path / "h", problems=problems), expect=2)
    )


@pytest.mark.parametrize(("name", "content"), [("modeling_x.py", "print()"), ("pytorch_model.bin", "x")])
def test_model_folder_with_code_or_pickles_is_refused(agentark: Cli, tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(arkling.model_path("student"), folder)
    (folder / name).write_text(content)
    line = last_line(agentark("run", "build-traces", config(tmp_path / "h", teacher={"path": str(folder)}), expect=2))
    assert name in line


def test_unwritable_home_is_named(agentark: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = last_line(agentark("run", "build-traces", config(tmp_path / "file" / "home"), expect=2))
    assert "run.home" in line


def test_distil_of_unknown_traces_says_where_to_get_them(agentark: Cli, tmp_path: Path) -> None:
    data = {"run": {"home": str(tmp_path / "h")}, "traces": ["0" * 16], "student": {"path": "arkling:student"}}
    assert "build-traces" in last_line(agentark("run", "distil", data, expect=2))


def test_other_commands_end_in_one_line_too(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "none.jsonl" in last_line(agentark("verify", "none.jsonl", "--out", tmp_path / "o.parquet", expect=2))
    assert "--run" in last_line(agentark("debates", "--home", home, "--run", "x", expect=2))
    missing = agentark("import", "none.jsonl", "--format", "maslab", "--home", home, expect=2)
    assert "none.jsonl" in last_line(missing)
    (tmp_path / "one.jsonl").write_text('{"query": "1+1?", "gt": "2", "response": "2"}\n')
    for option, value in (("--format", "nope"), ("--dataset", "../x")):
        words = ["import", tmp_path / "one.jsonl", "--format", "maslab", "--home", home]
        words += [option, value]
        assert value in last_line(agentark(*words, expect=2))
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.slow
def test_engines_that_do_not_fit_the_cluster_are_refused_with_what_is_free(agentark: Cli, tmp_path: Path) -> None:
    line = last_line(agentark("run", "build-traces", config(tmp_path / "home", engine={"num_cpus": 999}), expect=5))
    assert "did not fit the cluster" in line and "num_cpus" in line and "free: {'CPU'" in line
