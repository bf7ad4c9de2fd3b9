"""Strategies one after the other on the real stack: SFT, a process reward model, GRPO, with their lineage."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest

from agentark_core import model_files
from agentark_core.arkling import generator
from agentark_core.arkling.corruption import wrong_solution
from agentark_core.config import DistilConfig, GRPOConfig, ModelConfig
from agentark_core.import_debates import import_file
from flows.distil import jobs_of, needed

Cli = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1200)
def test_each_strategy_starts_from_the_student_that_the_one_before_made(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = rsft_then_pad(home) | {
        "examples": {"step_labels": "exact"},
        "sft": {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 8, "max_length": 512},
        "prm": {"batch_size": 4, "micro_batch_size": 4, "max_length": 512},
        "grpo": {
            "epochs": 0.25,
            "prompts_per_step": 2,
            "group_size": 4,
            "micro_batch_size": 8,
            "max_tokens": 96,
            "watch_prompts": 4,
        },
    }
    agentark("run", "distil", config)

    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    versions = sorted(client.search_model_versions("name='agentark-student'"), key=lambda v: int(v.version))
    (reward_model,) = client.search_model_versions("name='agentark-student-prm'")
    lineages = [version.tags for version in versions]
    assert [tags["lineage.strategy"] for tags in lineages] == ["rsft", "grpo"]
    revisions = [model_files.revision(home / "models" / path) for path in made(home, "rsft", "grpo")]
    assert lineages[0]["lineage.base_revision"] == model_files.revision(
        model_files.resolve(ModelConfig(path="arkling:student"))
    )
    assert lineages[1]["lineage.base_revision"] == revisions[0]
    assert reward_model.tags["lineage.base_revision"] == revisions[0]
    (rewards,) = made(home, "prm")
    assert_watched_questions_are_learned_by_nothing(home)
    assert lineages[1]["lineage.reward_model"] == model_files.revision(home / "models" / rewards)
    assert all("lineage.reward_model" not in tags for tags in (lineages[0], reward_model.tags))

    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = {run.info.run_name: run for run in client.search_runs(experiments)}
    parents = {runs[name].data.tags["mlflow.parentRunId"] for name in ("1 rsft", "2 prm", "3 grpo")}
    assert parents == {runs["distil"].info.run_id}
    times = {path: path.stat().st_mtime_ns for path in home.glob("models/*/model/model.safetensors")}
    agentark("run", "distil", config)
    assert times == {path: path.stat().st_mtime_ns for path in home.glob("models/*/model/model.safetensors")}
    assert len(client.search_model_versions("name='agentark-student'")) == 2


def assert_watched_questions_are_learned_by_nothing(home: Path) -> None:
    (looks,) = home.glob("models/grpo-*/watch.jsonl")
    watched = sorted(json.loads(looks.read_text().splitlines()[0])["outcomes"])
    assert len(watched) == 4
    for name, count in (("rsft", "examples"), ("prm", "traces")):
        (folder,) = home.glob(f"models/{name}-*")
        resolved = json.loads((folder / "resolved.json").read_text())
        asked = [row["problem_id"] for path in resolved["examples"] for row in pq.read_table(path).to_pylist()]
        assert resolved["held_out"] == watched and set(watched) <= set(asked)
        stages = json.loads((home / "runs" / "test" / "student.json").read_text())["stages"]
        (training,) = [stage["training"] for stage in stages if stage["strategy"] == name]
        assert training["held_out"] == sum(problem_id in watched for problem_id in asked) > 0
        assert training[count] == len(asked) - training["held_out"]


def test_too_few_prompts_for_the_watch_end_the_run_before_any_training(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = rsft_then_pad(home) | {"grpo": {"watch_prompts": 23, "prompts_per_step": 2}}
    failed = agentark("run", "distil", config, expect=2)
    assert "24 prompts are fewer than grpo.watch_prompts 23 + prompts_per_step 2" in failed.stdout + failed.stderr
    assert not list(home.glob("models/*"))


def test_pad_is_recorded_by_what_trains_the_policy() -> None:
    student = {"path": "arkling:student", "prompts": "arkling"}
    config = DistilConfig.model_validate(
        {"traces": ["0123456789abcdef"], "student": student, "strategies": ["pad", "da"]}
    )
    assert list(jobs_of(config)) == ["prm", "grpo", "da"]
    ppo = config.model_copy(update={"grpo": GRPOConfig(advantage="value", scorer="exact")})
    assert list(jobs_of(ppo)) == ["ppo", "da"]
    by_outcome = config.model_copy(update={"grpo": GRPOConfig(process_weight=0, outcome_weight=1)})
    assert list(jobs_of(by_outcome)) == ["grpo", "da"]


def test_steps_are_sampled_from_only_for_a_reward_model() -> None:
    rollouts = {"step_labels": "rollouts", "rollouts": {"model": {"path": "arkling:teacher"}}}
    given = {"traces": ["0" * 16], "student": {"path": "m"}, "examples": rollouts}
    with_pad = DistilConfig.model_validate(given | {"strategies": ["rsft", "pad"]})
    without = DistilConfig.model_validate(given | {"strategies": ["rsft", "da"]})
    assert needed(with_pad) == with_pad.examples
    assert needed(without) == without.examples.model_copy(update={"step_labels": "evidence", "rollouts": None})


def rsft_then_pad(home: Path) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "traces": [imported(home, home.parent / "debates.jsonl")],
        "student": {"path": "arkling:student", "prompts": "arkling"},
        "strategies": ["rsft", "pad"],
    }


def imported(home: Path, file: Path) -> str:
    """Debates of two agents on 24 questions: a right path, and one with a wrong step."""
    rows = []
    for problem in generator.problems("distil", limit=24):
        spec = generator.parse_question(problem.question)
        texts = (generator.solutions(spec)[0], wrong_solution(spec, random.Random(problem.problem_id)))
        solutions = [{"id": number, "text": text} for number, text in enumerate(texts, start=1)]
        rows.append({"query": problem.question, "gt": problem.gold, "solutions": solutions})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_file(file, format="agentark", task="number", dataset="arkling", home=home).fingerprint


def made(home: Path, *strategies: str) -> list[str]:
    """The one model of each strategy, below models/."""
    return [f"{folder.name}/model" for name in strategies for folder in (home / "models").glob(f"{name}-*")]
