"""Parameters of the flows: the sections of each, and those that belong to no other part."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from agentark_core.config.base import Name, Section
from agentark_core.config.debates import (
    DebateConfig,
    EngineConfig,
    ModelConfig,
    ProblemsConfig,
    RolloutsConfig,
    SelectorConfig,
    VerificationConfig,
)
from agentark_core.config.training import GRPOConfig, PRMConfig, SFTConfig


class RunConfig(Section):
    """Where a run keeps its files, and its seed."""

    name: Name = Field("default", description="Name of the run; also the MLflow experiment's run name.")
    home: str = Field("agentark-home", description="Folder for the ledger, models, MLflow database and reports.")
    seed: int = Field(0, ge=0, lt=2**31, description="Base seed; every request's seed is derived from it.")


class ExamplesConfig(Section):
    """Which verified traces become examples to learn from (method.md section 3)."""

    include_summary: bool = Field(True, description="Use the summariser's text when it is correct.")
    max_per_problem: int = Field(0, ge=0, description="Cap of traces per question, corrective first; 0 keeps all.")
    rsft_traces: Literal["all", "first", "corrective", "uncorrected"] = Field(
        "all",
        description="rsft: every correct trace; the correct one of the first agent; those of agents that were wrong in "
        "an earlier round; or, as control, the others.",
    )
    round: Literal["last", "first"] = Field(
        "last", description="rsft: traces of the last round; first: independent answers, rejection sampling as control."
    )
    select: Literal["correct", "majority"] = Field(
        "correct", description="rsft: traces that are verified; majority: those with the vote's answer, as control."
    )
    augmentation_traces: int = Field(
        3, ge=1, le=3, description="Traces per question that differ in structure, for data augmentation."
    )
    step_labels: Literal["evidence", "soft_evidence", "rollouts", "soft_rollouts", "exact"] = Field(
        "evidence",
        description="process: from the other traces of the debate, 0 or 1; the same, but right steps have as label the "
        "share of the other correct traces that state their results; 1 if any sample that goes on from the step comes "
        "to the right answer; the share of them; or checked line by line (arkling only).",
    )
    rollouts: RolloutsConfig | None = Field(
        None, description="The samples of step_labels rollouts and soft_rollouts; else empty."
    )
    negatives: Literal["any_round", "nearest", "first_wrong"] = Field(
        "any_round",
        description="Wrong steps of other agents that a right one is set against (Eq. 7): that at the nearest relative "
        "position of each of their wrong solutions of any round; or of the last round only; or of those the first.",
    )
    selector: SelectorConfig | None = Field(
        None, description="The LLM that selects them; empty: the rules of docs/howto/extract.md, without a model."
    )
    test_sets: list[ProblemsConfig] = Field(
        default_factory=list, description="No question is learned from that one of these asks in other words."
    )

    @model_validator(mode="after")
    def _rollouts_if_asked_for(self) -> Self:
        asked = self.step_labels in ("rollouts", "soft_rollouts")
        if asked and self.rollouts is None:
            raise ValueError(f"step_labels {self.step_labels} needs the model that goes on: name rollouts.model")
        if not asked and self.rollouts is not None:
            raise ValueError(f"step_labels {self.step_labels} uses no rollouts: set it to rollouts, or leave them out")
        return self

    @model_validator(mode="after")
    def _something_to_select(self) -> Self:
        if self.selector is not None and self.augmentation_traces == 1:
            raise ValueError(
                "augmentation_traces 1 leaves a selector nothing to select: set it to 2 or 3, or leave selector empty"
            )
        return self


Perturbed = Literal["renamed", "numbers", "irrelevant", "paraphrase", "typos", "user_hint", "peer_hint", "injection"]
"""Names of robustness.perturbations.PERTURBATIONS."""


class BertScoreConfig(Section):
    """BERTScore of prose answers; needs `pip install 'agentark[bertscore]'`."""

    path: str = Field(
        min_length=1, description="Local directory of an encoder with safetensors, such as roberta-large."
    )
    num_layers: int = Field(
        ge=1, description="Layer whose outputs are compared; bert-score's choice is 17 for roberta-large."
    )


class LoadConfig(Section):
    """Latency and cost under load: the same questions, at the same times, to one engine of each model."""

    queries: int = Field(0, ge=0, description="Queries that count, of each method at each rate; 0 measures nothing.")
    warmup: int = Field(10, ge=0, description="Queries before them that do not count.")
    rates: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=lambda: [],
        description="Offered loads in queries a second: open loop, Poisson arrivals. Empty: closed loop.",
    )
    concurrency: int = Field(1, ge=1, description="Closed loop: queries at a time, the next when one ends.")
    p95_ms: float = Field(0, ge=0, description="Gate: the 95th percentile of latency is to be below this; 0 is none.")
    p99_ms: float = Field(0, ge=0, description="Gate: the 99th percentile of latency is to be below this; 0 is none.")
    timeout_s: float = Field(600, gt=0, description="A query without an end after this long counts as failed.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.rates and self.concurrency != 1:
            raise ValueError("concurrency is of a closed loop and rates are of an open one: give one of them")
        if len(set(self.rates)) < len(self.rates):
            raise ValueError(f"rates {self.rates} has one twice")
        return self


class EvaluationConfig(Section):
    """Evaluation on held-out questions."""

    problems: ProblemsConfig = Field(
        default_factory=lambda: ProblemsConfig(split="test", limit=600), description="Held-out questions."
    )
    max_tokens: int = Field(0, ge=0, description="Completion limit of single answers; 0 takes the debate's.")
    majority_samples: int = Field(0, ge=0, description="Samples of majority vote; 0 = the debate's number of calls.")
    student_samples: int = Field(
        0, ge=0, description="Samples of student and base a question, for their vote and its calibration; 0: none."
    )
    robustness: list[Perturbed] = Field(
        default_factory=lambda: [],
        description="Perturbed questions that the student answers greedily too, against the gate of 1 % failures: "
        "renamed, numbers, irrelevant, paraphrase, typos, user_hint, peer_hint, injection.",
    )
    ood: ProblemsConfig | None = Field(
        None, description="Questions of another distribution: the student's drop in accuracy there."
    )
    load: LoadConfig = Field(default_factory=lambda: LoadConfig(), description="Latency and cost under load.")
    bert_score: BertScoreConfig | None = Field(
        None, description="Adds BERTScore to the scores of questions in prose; empty: the other metrics alone."
    )

    @field_validator("student_samples")
    @classmethod
    def _a_vote(cls, samples: int) -> int:
        if samples == 1:
            raise ValueError(
                "student_samples 1 is no vote, and a sampled answer is there anyway: set it to 2 or more, or to 0"
            )
        return samples


def _check_load(evaluation: EvaluationConfig, *, teacher: ModelConfig | None, engine: EngineConfig) -> None:
    """Refuse what has no latency."""
    if evaluation.load.queries and teacher is not None and engine.kind == "replay":
        raise ValueError(
            "recorded generations have no latency: set evaluation.load.queries to 0 or engine.kind to vllm"
        )


class TrackingConfig(Section):
    """MLflow."""

    uri: str = Field("", description="Tracking URI; empty: MLFLOW_TRACKING_URI, else sqlite in the run's home.")
    experiment: Name = Field("agentark", description="MLflow experiment.")
    registered_model: Name = Field("agentark-student", description="Name in the model registry.")

    def of_reward_model(self) -> TrackingConfig:
        """The same with the name under which process reward models are registered: the student's with `-prm`."""
        return self.model_copy(update={"registered_model": f"{self.registered_model}-prm"})


class BuildTracesConfig(Section):
    """Parameters of `build-traces`: questions in, committed and verified debates out."""

    run: RunConfig = Field(default_factory=lambda: RunConfig())
    problems: ProblemsConfig = Field(default_factory=lambda: ProblemsConfig(split="distil", limit=200))
    held_out: ProblemsConfig | None = Field(
        None, description="Test questions: any question that is also among them is dropped; full-pipeline sets it."
    )
    teacher: ModelConfig
    debate: DebateConfig = Field(default_factory=lambda: DebateConfig())
    engine: EngineConfig = Field(default_factory=lambda: EngineConfig())
    verification: VerificationConfig = Field(default_factory=lambda: VerificationConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())


Strategy = Literal["sft_answer", "rsft", "da", "pad"]
"""sft_answer: final answers alone; rsft: Eq. 1; da: Eq. 2; pad: a process reward model (Eq. 7), then GRPO (Eq. 3-5)."""

STRATEGIES: Any = Field(
    default_factory=lambda: ["rsft"],
    min_length=1,
    description="Run in order, each on the student that the one before made: sft_answer (final answers alone), rsft "
    "(Eq. 1), da (Eq. 2), pad (process reward model, then GRPO).",
)


class DistilConfig(Section):
    """Parameters of `distil`: verified debates in, a registered student out."""

    run: RunConfig = Field(default_factory=lambda: RunConfig())
    traces: list[str] = Field(min_length=1, description="Fingerprints of the debates to learn from.")
    student: ModelConfig
    examples: ExamplesConfig = Field(default_factory=lambda: ExamplesConfig())
    strategies: list[Strategy] = STRATEGIES
    sft: SFTConfig = Field(default_factory=lambda: SFTConfig())
    prm: PRMConfig = Field(default_factory=lambda: PRMConfig())
    grpo: GRPOConfig = Field(default_factory=lambda: GRPOConfig())
    verification: VerificationConfig = Field(default_factory=lambda: VerificationConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())


class ExtractConfig(Section):
    """Parameters of `extract`: verified debates in, everything that can be learned from them out."""

    run: RunConfig = Field(default_factory=lambda: RunConfig())
    traces: list[str] = Field(min_length=1, description="Fingerprints of the debates, in the order of learning.")
    prompts: Literal["general", "arkling"] = Field("general", description="Wording in which the student is asked.")
    examples: ExamplesConfig = Field(default_factory=lambda: ExamplesConfig())
    workers: int = Field(0, ge=0, description="Processes; 0: one a core.")
    verification: VerificationConfig = Field(default_factory=lambda: VerificationConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())


class EvaluateConfig(Section):
    """Parameters of `evaluate-model`: models in, a table with intervals and paired tests out."""

    run: RunConfig = Field(default_factory=lambda: RunConfig())
    student: ModelConfig = Field(description="The model under test.")
    base: ModelConfig | None = Field(None, description="Paired comparison; empty evaluates the student alone.")
    teacher: ModelConfig | None = Field(None, description="Adds teacher greedy, sampled, majority vote and debate.")
    debate: DebateConfig = Field(default_factory=lambda: DebateConfig())
    engine: EngineConfig = Field(default_factory=lambda: EngineConfig())
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig())
    verification: VerificationConfig = Field(default_factory=lambda: VerificationConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())

    @model_validator(mode="after")
    def _load_can_be_measured(self) -> Self:
        _check_load(self.evaluation, teacher=self.teacher, engine=self.engine)
        return self


class PipelineConfig(Section):
    """Parameters of `full-pipeline`: questions in; a distilled, evaluated, registered student out."""

    run: RunConfig = Field(default_factory=lambda: RunConfig())
    problems: ProblemsConfig = Field(default_factory=lambda: ProblemsConfig(split="distil", limit=200))
    teacher: ModelConfig
    student: ModelConfig
    debate: DebateConfig = Field(default_factory=lambda: DebateConfig())
    engine: EngineConfig = Field(default_factory=lambda: EngineConfig())
    examples: ExamplesConfig = Field(default_factory=lambda: ExamplesConfig())
    strategies: list[Strategy] = STRATEGIES
    sft: SFTConfig = Field(default_factory=lambda: SFTConfig())
    prm: PRMConfig = Field(default_factory=lambda: PRMConfig())
    grpo: GRPOConfig = Field(default_factory=lambda: GRPOConfig())
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig())
    verification: VerificationConfig = Field(default_factory=lambda: VerificationConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())

    @model_validator(mode="after")
    def _load_can_be_measured(self) -> Self:
        _check_load(self.evaluation, teacher=self.teacher, engine=self.engine)
        return self

    @property
    def traces(self) -> BuildTracesConfig:
        """The part that `build-traces` runs."""
        return BuildTracesConfig(
            run=self.run,
            problems=self.problems,
            held_out=self.evaluation.problems,
            teacher=self.teacher,
            debate=self.debate,
            engine=self.engine,
            verification=self.verification,
            tracking=self.tracking,
        )
