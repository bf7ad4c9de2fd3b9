"""`agentark run FLOW`: load the config, run the flow in this process, print what came out."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentark_core import config as configs
from agentark_core.errors import ConfigError

FLOWS: dict[str, tuple[str, type[BaseModel]]] = {
    "build-traces": ("flows.build_traces:build_traces", configs.BuildTracesConfig),
    "distil": ("flows.distil:distil", configs.DistilConfig),
    "evaluate-model": ("flows.evaluate_model:evaluate_model", configs.EvaluateConfig),
    "full-pipeline": ("flows.full_pipeline:full_pipeline", configs.PipelineConfig),
}


def run_flow(name: str, *, config: Path, overrides: list[str]) -> dict[str, Any]:
    """Validate first (nothing heavy is imported for a wrong config), then run."""
    if name not in FLOWS:
        raise ConfigError(f"unknown flow {name!r}; choose one of {', '.join(FLOWS)}")
    target, model = FLOWS[name]
    resolved = configs.load(model, config, overrides=overrides)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    module, _, attribute = target.partition(":")
    try:
        flow = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(
            f"a package of the pipeline is missing ({error.name}); install the extras: "
            "pip install 'agentark[orchestration,generation,training]'"
        ) from error
    return print_result(flow(resolved))


def print_result(result: dict[str, Any]) -> dict[str, Any]:
    """Print the table of an evaluation, or the totals of a stage."""
    if "evaluation" in result:
        from agentark_core import evaluation, evaluation_report

        print(evaluation_report.render_text(evaluation.from_json(result["evaluation"])))
        version = result["registered"]
        print(f"report: {', '.join(result['report_paths'])}")
        print(f"registered: {version['name']} version {version['version']} (candidate); see `agentark models`")
        if result.get("reused"):
            print("nothing to do: this config already ran; these are its figures")
    else:
        for key, value in result.items():
            print(f"{key}: {value}")
    return result
