"""The engine that a config names; each kind is imported only where it is used."""

from __future__ import annotations

from pathlib import Path

from agentark_core import model_files
from agentark_core.config import EngineConfig, ModelConfig
from agentark_core.engines.base import Engine


def open_engine(model: ModelConfig, config: EngineConfig, *, home: Path) -> Engine:
    """Start it; call where an event loop runs. home: where recorded generations are found (kind replay).

    Raises ModelError, ConfigError or EngineError.
    """
    model_dir, _ = model_files.source(model, config)
    if config.endpoint is not None:
        from agentark_core.engines.endpoint_engine import EndpointEngine

        return EndpointEngine(config.endpoint, model=model, model_dir=model_dir)
    if config.replay:
        from agentark_core.engines.replay_engine import ReplayEngine

        return ReplayEngine(home, fingerprint=config.replay)
    from agentark_core.engines.vllm_engine import VllmEngine

    assert model_dir is not None
    return VllmEngine(model_dir, model=model, engine=config)
