"""The judge in flows: which verdict store, when its engines start, and a real judge in a Ray actor."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from debate_helpers import RUN, Submitted, commit_debates, make_debate, make_home

from agentark_core.cluster import ray_pool
from agentark_core.config import EngineConfig, JudgeConfig, PipelineConfig
from agentark_core.judge import JudgeSetup, judged_by
from agentark_core.ledger import fingerprint
from agentark_core.stored import latest_verdict_store, verdict_store
from agentark_core.types import Debate
from agentark_core.verify import VERIFIER_VERSION
from flows import debate_stage
from tasks import trace_tasks

JUDGE = JudgeSetup(config=JudgeConfig.model_validate({"model": {"path": "m"}}), engine=EngineConfig(), revision="r")
QUESTION = "Which one?\nA. Liver\nB. Heart"


def run_stage(monkeypatch: pytest.MonkeyPatch, home: Path, *shards: str) -> None:
    monkeypatch.setattr(debate_stage, "verify_shard", Submitted(trace_tasks.verify_shard.fn))
    monkeypatch.setattr(debate_stage, "judge_shard", Submitted(trace_tasks.judge_shard.fn))
    monkeypatch.setattr(debate_stage, "as_completed", iter)
    debate_stage.verify_all({RUN: shards}, home=home, judge=JUDGE)


def unclear(debate: Debate) -> Debate:
    """The same debate about a choice, where the first turn names no option."""
    problem = dataclasses.replace(debate.problem, task="choice", question=QUESTION, gold="B")
    first = dataclasses.replace(debate.turns[0], text="The answer is none of them.")
    others = tuple(dataclasses.replace(turn, text="The answer is (B).") for turn in debate.turns[1:])
    return dataclasses.replace(debate, problem=problem, turns=(first, *others))


def test_without_a_judge_the_verdicts_keep_their_fingerprint(tmp_path: Path) -> None:
    plain = verdict_store(tmp_path, debates=RUN)
    assert plain.fingerprint == fingerprint("verdicts", debates=RUN, verifier=VERIFIER_VERSION)
    assert plain.config == {"debates": RUN, "verifier": VERIFIER_VERSION}
    keys = [JUDGE.key, dataclasses.replace(JUDGE, revision="s").key]
    assert len({plain.fingerprint, *(verdict_store(tmp_path, debates=RUN, judge=key).fingerprint for key in keys)}) == 3


def test_no_engine_starts_where_the_rules_left_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    debate = make_debate(1, [[1, 9]], gold=1)
    commit_debates(make_home(tmp_path, [debate.problem]), "00000", [debate])

    def refuse(**_: Any) -> None:
        raise AssertionError("an engine started")

    monkeypatch.setattr(ray_pool, "engine_pool", refuse)
    run_stage(monkeypatch, tmp_path, "00000")
    judged = verdict_store(tmp_path, debates=RUN, judge=JUDGE.key)
    assert judged.read().to_pylist() == verdict_store(tmp_path, debates=RUN).read().to_pylist()
    assert judged.entries()["00000"].meta == {"correct": 1, "incorrect": 1}
    assert latest_verdict_store(tmp_path, debates=RUN).root == judged.root
    run_stage(monkeypatch, tmp_path, "00000")


def test_an_undecided_turn_needs_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    debate = unclear(make_debate(1, [[1, 9]], gold=1))
    commit_debates(make_home(tmp_path, [debate.problem]), "00000", [debate])

    def refuse(**_: Any) -> None:
        raise AssertionError("an engine started")

    monkeypatch.setattr(ray_pool, "engine_pool", refuse)
    with pytest.raises(AssertionError, match="an engine started"):
        run_stage(monkeypatch, tmp_path, "00000")
    assert not verdict_store(tmp_path, debates=RUN, judge=JUDGE.key).entries()


def test_the_pipelines_stages_share_one_judge() -> None:
    config = PipelineConfig.model_validate(
        {
            "teacher": {"path": "t"},
            "student": {"path": "s"},
            "engine": {"num_cpus": 2},
            "verification": {"judge": {"model": {"path": "m"}}},
        }
    )
    assert config.traces.verification == config.verification
    resolved = judged_by(dataclasses.replace(JUDGE, engine=config.engine)).judge
    assert resolved is not None and resolved.engine == config.engine
    assert judged_by(None).judge is None


@pytest.mark.slow
def test_a_real_judge_decides_only_what_the_rules_left(tmp_path: Path, flow_environment: dict[str, str]) -> None:
    from tiny_models import make

    make("qwen3", tmp_path / "model")
    home = tmp_path / "home"
    first, second = unclear(make_debate(1, [[1, 9]], gold=1)), make_debate(2, [[2, 9]], gold=2)
    store = make_home(home, [first.problem], [second.problem])
    commit_debates(store, "00000", [first])
    commit_debates(store, "00001", [second])
    script = Path(__file__).with_name("judge_stage_run.py")
    done = subprocess.run(
        [sys.executable, str(script), str(home), str(tmp_path / "model")],
        env={**flow_environment, "PYTHONPATH": f"{script.parent.parent}:{script.parent}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["starts"], result["votes"]) == (1, 3)
    pairs = list(zip(result["rules"], result["judged"], strict=True))
    changed = [(rule, judged) for rule, judged in pairs if rule != judged]
    assert [(rule["label"], rule["method"]) for rule, _ in changed] == [("undecided", "choice")]
    (_, judged) = changed[0]
    assert judged["method"] == "judge" and judged["label"] in ("correct", "incorrect")
    assert judged["reason"].endswith("of 3 votes; rules: choice")
