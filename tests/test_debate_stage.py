"""Which shards a stage debates, and how it ends: control flow alone, the real runs are in test_engine_faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentark_core.config import DebateConfig, ModelConfig
from agentark_core.errors import EngineError, Stopped
from flows import debate_stage
from tasks.trace_tasks import DebateSpec, ProblemSet

PROBLEMS = ProblemSet(fingerprint="p", dataset="d", revision="r", shards=("00000", "00001"), rows=2, bad_rows=0)


def spec(name: str, **debate: Any) -> DebateSpec:
    return DebateSpec(
        name=name,
        problems=PROBLEMS,
        model=ModelConfig(path="m"),
        model_revision="1",
        debate=DebateConfig.model_validate(debate),
        seed=0,
    )


def test_the_same_work_under_two_names_is_debated_once(tmp_path: Path) -> None:
    specs = [spec("greedy"), spec("sampled"), spec("five", num_agents=4)]
    missing = debate_stage._missing(specs, home=tmp_path)
    assert len(missing) == len({(one.fingerprint, shard) for one, shard in missing}) == 4


class Future:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, False

    def result(self) -> None:
        self.asked = True
        if self.error:
            raise self.error


def wait_for(futures: list[Future], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stops: list[str] = []
    monkeypatch.setattr(debate_stage, "as_completed", iter)
    try:
        debate_stage.wait_for(futures, stop=stops.append)  # type: ignore[arg-type]
    except Stopped as error:
        stops.append(f"raised {error}")
    return stops


def test_a_stopped_shard_lets_the_others_end_and_then_ends_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    futures = [Future(), Future(Stopped("cap")), Future(), Future(Stopped("asked"))]
    assert wait_for(futures, monkeypatch) == ["cap", "raised cap"]
    assert all(future.asked for future in futures)


def test_another_error_ends_the_stage_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    futures = [Future(EngineError("gone")), Future()]
    with pytest.raises(EngineError, match="gone"):
        wait_for(futures, monkeypatch)
    assert not futures[1].asked
