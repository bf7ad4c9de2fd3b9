"""The whole job on the real stack: Prefect, Ray, vLLM, the ledger, the verifier, DeepSpeed and TRL, MLflow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from agentark_core.extraction import KINDS
from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, read_debates, read_verdicts

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Cli = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


def arkling_config(home: Path) -> dict[str, Any]:
    return {
        "run": {"name": "test", "home": str(home)},
        "problems": {"source": "arkling", "split": "distil", "limit": 48},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "student": {"path": "arkling:student", "prompts": "arkling"},
        "debate": {
            "num_agents": 3,
            "num_rounds": 2,
            "summariser": "when_split",
            "sampling": {"temperature": 0.9, "max_tokens": 128},
        },
        "engine": {"shard_size": 24, "kv_cache_gib": 0.125, "max_num_seqs": 128},
        "sft": {"epochs": 1, "learning_rate": 1e-3, "batch_size": 16, "micro_batch_size": 16, "max_length": 512},
        "evaluation": {"problems": {"source": "arkling", "split": "test", "limit": 32}},
    }


def evaluation_of(home: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((home / "reports" / "test" / "evaluation.json").read_text())
    return data


def assert_nothing_lost(home: Path) -> None:
    """Questions in = debates out, turns = verdicts, no key twice, in every debate run."""
    assert debate_runs(home)
    for run in debate_runs(home):
        store = Store(home, stage="debates", fingerprint=run)
        questions = Store(home, stage="problems", fingerprint=store.config["problems"]).read().num_rows
        debates = list(read_debates(home, fingerprint=run))
        turns = [(turn.work_id, turn.round, turn.agent) for debate in debates for turn in debate.turns]
        assert len(debates) == questions
        assert len(turns) == len(set(turns))
        assert set(read_verdicts(home, debates=run)) == set(turns)


def test_questions_in_registered_student_out_and_a_second_run_does_nothing(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = arkling_config(home)
    done = agentark("run", "full-pipeline", config)
    assert "distilled student greedy" in done.stdout and "44,838" in done.stdout
    assert_nothing_lost(home)
    report = (home / "reports" / "test" / "evaluation.md").read_text(encoding="utf-8")
    assert "What the student learned from" in report and "906k" in report
    learned = {row["kind"]: row for row in evaluation_of(home)["yield"]}
    assert set(learned) == set(KINDS) and 0 < learned["rsft"]["rows"] < learned["rsft"]["candidates"]

    rows = {row["name"]: row for row in evaluation_of(home)["rows"]}
    assert {
        "base student greedy",
        "base student sampled",
        "distilled student greedy",
        "distilled student sampled",
        "teacher greedy",
        "teacher single",
        "teacher majority@7",
        "teacher debate",
    } <= set(rows)
    assert all(row["n"] == 32 and row["low"] <= row["accuracy"] <= row["high"] for row in rows.values())
    assert rows["distilled student greedy"]["vs_baseline"]["n"] == 32

    page = (home / "reports" / "test" / "report.html").read_text(encoding="utf-8")
    assert "The student" in page and 'id="pack-0"' in page and "learned from" in page and "Held-out debates" in page
    shown = agentark("report", "test", "--home", home).stdout
    assert "The student" in shown and "reports/test/report.html" in shown
    assert (home / "reports" / "test" / "report.html").read_text(encoding="utf-8") == page

    models = agentark("models", "--home", home).stdout
    assert "agentark-student" in models and "candidate" in models

    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1 and {run.info.run_name for run in children} == {
        "build-traces",
        "distil",
        "evaluate-model",
    }
    assert all(run.inputs.dataset_inputs for run in children)
    evaluated = next(run for run in children if run.info.run_name == "evaluate-model").info.run_id
    assert "report.html" in {artifact.path for artifact in client.list_artifacts(evaluated)}
    assert "agentark report test" in client.get_run(evaluated).data.tags["mlflow.note.content"]
    (version,) = client.search_model_versions("name='agentark-student'")
    traces = version.tags["lineage.debates"]
    assert version.tags["lineage.debate_manifests"] == Store(home, stage="debates", fingerprint=traces).digest()

    again = agentark("run", "full-pipeline", config)
    assert "nothing to do" in again.stdout
    assert evaluation_of(home) == json.loads((home / "reports" / "test" / "evaluation.json").read_text())
    assert len(client.search_model_versions("name='agentark-student'")) == 1

    listed = agentark("debates", "--home", home, "--run", traces).stdout
    question_id = next(word for word in listed.split() if word.startswith("arkling-"))
    shown = agentark("debates", "--home", home, "--show", question_id).stdout
    assert "round 1, agent 1" in shown and "gold:" in shown


def test_forty_gsm8k_questions_go_through_without_those_held_out(agentark: Cli, tmp_path: Path) -> None:
    """The same source for both: the training side drops every held-out question, and says so. The tiny models know
    nothing of GSM8K: near-zero accuracy is fine, lost rows are not."""
    if not SHARED.exists():
        pytest.skip("real data is not here")
    home = tmp_path / "home"
    source = {"source": "gsm8k", "path": str(SHARED / "gsm8k" / "test.jsonl")}
    config = {
        "run": {"name": "test", "home": str(home)},
        "problems": {**source, "limit": 56},
        "held_out": {**source, "split": "test", "limit": 16},
        "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
        "debate": {"num_agents": 2, "num_rounds": 2, "sampling": {"temperature": 0.9, "max_tokens": 96}},
        "engine": {"shard_size": 16, "kv_cache_gib": 0.125, "max_num_seqs": 64},
    }
    done = agentark("run", "build-traces", config)
    assert "questions: 40" in done.stdout and "bad_rows: 16" in done.stdout
    assert_nothing_lost(home)


def test_imported_debates_are_verified_and_learned_from(agentark: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = tmp_path / "debates.jsonl"
    chats = [
        {
            "id": str(number),
            "question": f"What is {number} + {number}?",
            "answer": f"It is {2 * number}.\n#### {2 * number}",
            "agents": [
                [
                    {"role": "user", "content": "Solve it."},
                    {"role": "assistant", "content": f"So the answer is {2 * number + agent * wrong}."},
                    {"role": "user", "content": "Look at the others."},
                    {"role": "assistant", "content": f"Adding gives {2 * number}. The answer is {2 * number}."},
                ]
                for agent, wrong in ((1, 0), (2, 1), (3, 1))
            ],
        }
        for number in range(10, 20)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in chats))
    imported = agentark("import", file, "--format", "llm-multiagent-debate", "--home", home).stdout
    assert "10 debates, 60 turns committed; 0 bad rows" in imported
    run = imported.split("fingerprint ")[1].split()[0]
    assert agentark("import", file, "--format", "llm-multiagent-debate", "--home", home).stdout == imported
    config = {
        "run": {"name": "test", "home": str(home)},
        "traces": [run],
        "student": {"path": "arkling:student"},
        "sft": {"batch_size": 4, "micro_batch_size": 4, "max_length": 1024},
    }
    extraction = {"run": config["run"], "traces": [run]}
    made = agentark("run", "extract", extraction).stdout
    assert "'to_right': 20" in made and "'kept': 10" in made
    (page,) = home.glob(f"cards/{run}-*/card.html")
    assert str(page) in made and "licence of the questions" in page.read_text(encoding="utf-8")
    assert "| imported | imported | rsft | 10 | 0 | 30 |" in agentark("card", run, "--home", home).stdout
    client = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    kept = {file.path for run_ in runs for file in client.list_artifacts(run_.info.run_id, f"card-{run}")}
    assert kept == {f"card-{run}/card.md", f"card-{run}/card.html"}
    parts = sorted(home.glob("ledger/*/part-*.parquet"))
    assert agentark("run", "extract", extraction).stdout == made
    assert "'examples': 10" in agentark("run", "distil", config).stdout, "equal texts of a question are learned once"
    verdicts = read_verdicts(home, debates=run)
    assert [label for key, label in sorted((k, v.label) for k, v in verdicts.items()) if key[1] == 2] == [
        "correct"
    ] * 30
    assert sum(verdict.label == "incorrect" for verdict in verdicts.values()) == 20
    assert sorted(home.glob("ledger/*/part-*.parquet")) == parts, "distil used what extract had committed"
    assert "candidate" in agentark("models", "--home", home).stdout
