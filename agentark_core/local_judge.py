"""A judge on one engine in this process, for `agentark verify --judge` and `agentark audit --judge`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from agentark_core.config import EngineConfig, JudgeConfig, load, parse
from agentark_core.engines.base import Engine
from agentark_core.errors import ConfigError
from agentark_core.judge import JudgeCase, JudgeSetup, judge, merge, setup, undecided
from agentark_core.types import Verdict
from agentark_core.verify import Case

T = TypeVar("T")

SETTINGS = (".yaml", ".yml", ".json")


class LocalJudge:
    """Starts its engine with the first case that needs it and keeps it until `close`.

    Attributes: decided (cases that it decided so far), setup.
    """

    def __init__(self, setup: JudgeSetup) -> None:
        self.setup = setup
        self.decided = 0
        self._runner = asyncio.Runner()
        self._engine: Engine | None = None

    def __enter__(self) -> LocalJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine, if it ever started."""
        if self._engine is not None:
            self._runner.run(self._engine.close())
            self._engine = None
        self._runner.close()

    def judge(self, cases: Sequence[JudgeCase]) -> list[Verdict]:
        """One verdict a case, in order; see judge.judge. Raises EngineError."""
        if not cases:
            return []
        config = self.setup.config
        verdicts = self.run(lambda engine: judge(cases, engine=engine, votes=config.votes, sampling=config.sampling))
        self.decided += sum(verdict.label != "undecided" for verdict in verdicts)
        return verdicts

    def decide(self, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts, where the judge has taken what the rules left undecided."""
        left = undecided(cases, verdicts)
        return merge(verdicts, dict(zip(left, self.judge(list(left.values())), strict=True)))

    def run(self, ask: Callable[[Engine], Awaitable[T]]) -> T:
        """What ask(engine) returns; the engine starts if it has not yet. Raises EngineError."""

        async def asked() -> T:
            if self._engine is None:
                from agentark_core.engines.opening import open_engine

                self._engine = open_engine(self.setup.config.model, self.setup.engine, home=Path())
            return await ask(self._engine)

        return self._runner.run(asked())


def open_judge(model: str) -> LocalJudge:
    """model: a hub id or model directory with the default settings, or a YAML file with the keys of JudgeConfig.

    Raises ConfigError or ModelError before anything starts.
    """
    if model.endswith(SETTINGS):
        config = load(JudgeConfig, Path(model))
    else:
        config = parse(JudgeConfig, {"model": {"path": model}}, origin="--judge")
    made = setup(config, engine=_default_engine())
    assert made is not None
    if made.engine.num_engines != 1:
        raise ConfigError(f"{model}: engine.num_engines {made.engine.num_engines}: this command runs one; set it to 1")
    return LocalJudge(made)


def _default_engine() -> EngineConfig:
    """On the GPU where there is one that torch can use."""
    import torch

    return EngineConfig(num_gpus=1 if torch.cuda.is_available() else 0)
