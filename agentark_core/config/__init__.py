"""Every knob of the pipeline: frozen pydantic models that refuse unknown keys.

The same models are the parameters of the Prefect flows, so their descriptions are what the UI shows. `load` reads YAML
or JSON, applies `--set a.b=value` overrides and turns each pydantic complaint into one line that names the file, the
key and the remedy. The resolved config is written as JSON beside each run.
"""

from agentark_core.config.base import Name, Section, check_name, deployment_parameters, load, parse, read, to_json
from agentark_core.config.debates import (
    DebateConfig,
    EndpointConfig,
    EngineConfig,
    JudgeConfig,
    ModelConfig,
    ProblemsConfig,
    RolloutsConfig,
    SamplingConfig,
    SelectorConfig,
    VerificationConfig,
)
from agentark_core.config.flows import (
    BertScoreConfig,
    BuildTracesConfig,
    DistilConfig,
    EvaluateConfig,
    EvaluationConfig,
    ExamplesConfig,
    ExtractConfig,
    LoadConfig,
    PipelineConfig,
    RunConfig,
    TrackingConfig,
)
from agentark_core.config.sweep import Cell, SweepConfig, SweepLimits, SweepStudent, SweepTeacher
from agentark_core.config.training import GRPOConfig, LoRAConfig, PRMConfig, PRMHead, PRMStage, SFTConfig

__all__ = [
    "BuildTracesConfig",
    "Cell",
    "DebateConfig",
    "DistilConfig",
    "EndpointConfig",
    "EngineConfig",
    "EvaluateConfig",
    "BertScoreConfig",
    "EvaluationConfig",
    "ExamplesConfig",
    "ExtractConfig",
    "GRPOConfig",
    "JudgeConfig",
    "LoadConfig",
    "LoRAConfig",
    "ModelConfig",
    "Name",
    "PRMConfig",
    "PRMHead",
    "PRMStage",
    "PipelineConfig",
    "ProblemsConfig",
    "RolloutsConfig",
    "RunConfig",
    "SFTConfig",
    "SamplingConfig",
    "Section",
    "SelectorConfig",
    "SweepConfig",
    "SweepLimits",
    "SweepStudent",
    "SweepTeacher",
    "TrackingConfig",
    "VerificationConfig",
    "check_name",
    "deployment_parameters",
    "load",
    "parse",
    "read",
    "to_json",
]
