"""`agentark run FLOW`: load the config, run the flow in this process, print what came out."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentark_core import config as configs
from agentark_core import estimate_compare, estimate_view, heavy
from agentark_core.errors import ConfigError
from agentark_core.estimate import estimate_path
from agentark_core.ledger import atomic_write_json

FLOWS: dict[str, tuple[str, type[BaseModel]]] = {
    "build-traces": ("flows.build_traces:build_traces", configs.BuildTracesConfig),
    "extract": ("flows.extract:extract", configs.ExtractConfig),
    "distil": ("flows.distil:distil", configs.DistilConfig),
    "evaluate-model": ("flows.evaluate_model:evaluate_model", configs.EvaluateConfig),
    "full-pipeline": ("flows.full_pipeline:full_pipeline", configs.PipelineConfig),
    "sweep": ("flows.sweep:sweep", configs.SweepConfig),
}


def run_flow(name: str, *, config: Path, overrides: list[str]) -> dict[str, Any]:
    """Validate first (nothing heavy is imported for a wrong config), then run."""
    if name not in FLOWS:
        raise ConfigError(f"unknown flow {name!r}; choose one of {', '.join(FLOWS)}")
    target, model = FLOWS[name]
    resolved = configs.load(model, config, overrides=overrides)
    result = print_result(_flow(target)(resolved))
    traces = result.get("traces", result)
    if "home" in traces and estimate_path(Path(traces["home"]), traces["fingerprint"]).exists():
        compare_estimate(Path(traces["home"]), traces["fingerprint"])
    return result


def run_estimate(
    config: Path, *, overrides: list[str], questions: int, fill: bool, out: Path | None = None
) -> dict[str, Any]:
    """Predict the bill of the debates of a build-traces or full-pipeline config; print it, and write it to out."""
    if "student" in configs.read(config):
        resolved = configs.load(configs.PipelineConfig, config, overrides=overrides).traces
    else:
        resolved = configs.load(configs.BuildTracesConfig, config, overrides=overrides)
    estimate: dict[str, Any] = _flow("flows.estimate_run:estimate_run")(resolved, questions=questions, fill=fill)
    print(estimate_view.render(estimate))
    print(f"{estimate['kept_turns']} turns were kept for the run; afterwards: agentark estimate", end=" ")
    print(f"--compare {estimate['run']} --home {resolved.run.home}")
    if out is not None:
        atomic_write_json(out, estimate)
    return estimate


def compare_estimate(home: Path, run: str, *, out: Path | None = None) -> dict[str, Any]:
    """Print, and write to out, how a finished run and its estimate differ."""
    comparison = estimate_compare.compare(home, run)
    print(estimate_view.render_comparison(comparison))
    if out is not None:
        atomic_write_json(out, comparison)
    return comparison


def _flow(target: str) -> Any:
    """The flow named module:function, imported only now."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    module, _, attribute = target.partition(":")
    try:
        with heavy.imports():
            return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(
            f"a package of the pipeline is missing ({error.name}); install the extras: "
            "pip install 'agentark[orchestration,generation,training]'"
        ) from error


def print_result(result: dict[str, Any]) -> dict[str, Any]:
    """Print the table of an evaluation, or the totals of a stage."""
    if "evaluation" in result:
        from agentark_core import evaluation, evaluation_report, yields

        print(evaluation_report.render_text(evaluation.from_json(result["evaluation"])))
        if learned := result["student"].get("yield"):  # a record of an older version has none
            print(yields.render_text(learned))
        version = result["registered"]
        print(f"report: {', '.join(result['report_paths'])}")
        print(f"registered: {version['name']} version {version['version']} (candidate); see `agentark models`")
        if result.get("reused"):
            print("nothing to do: this config already ran; these are its figures")
    else:
        for key, value in result.items():
            print(f"{key}: {value}")
    return result
