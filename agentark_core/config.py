"""Every knob of the pipeline: frozen pydantic models that refuse unknown keys.

The same models are the parameters of the Prefect flows, so the descriptions below are what the UI shows.
`load` reads YAML or JSON, applies `--set a.b=value` overrides and turns each pydantic complaint into one line
that names the file, the key and the remedy. The resolved config is written as JSON beside each run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from agentark_core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def check_name(name: str) -> str:
    """Return name if it can safely name a folder, else raise ValueError (F22: no separators, dots-only, NUL, RTL)."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"invalid name {name[:80]!r}: use 1 to 80 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class RunConfig(Section):
    """Where a run keeps its files, and its seed."""

    name: Name = Field("default", description="Name of the run; also the MLflow experiment's run name.")
    home: str = Field("agentark-home", description="Folder for the ledger, models, MLflow database and reports.")
    seed: int = Field(0, ge=0, lt=2**31, description="Base seed; every request's seed is derived from it.")


class ProblemsConfig(Section):
    """Which questions, and how to read them."""

    source: Literal["arkling", "gsm8k", "math", "medmcqa", "metamath", "file"] = Field(
        "arkling", description="Benchmark, the embedded arkling task, or `file` for your own JSONL/CSV/Parquet."
    )
    path: str = Field("", description="File to read (.jsonl, .json, .csv, .parquet, also .gz). Not used by arkling.")
    dataset: Name | None = Field(None, description="Name of the data set in ids and reports; default: the source.")
    split: Literal["train", "distil", "test", "ood"] = Field("train", description="Split; arkling generates by split.")
    limit: int = Field(0, ge=0, description="Take at most this many questions; 0 takes all (arkling needs a number).")
    offset: int = Field(0, ge=0, description="Skip this many questions first.")
    question_column: str = Field("question", description="`file` only: column with the question.")
    answer_column: str = Field("answer", description="`file` only: column with the gold answer.")
    id_column: str = Field("", description="`file` only: column with ids; empty derives the id from the content.")
    task: Literal["gsm8k", "math", "medmcqa", "number", "choice", "text"] = Field(
        "math", description="`file` only: the verifier's rules for this data."
    )
    max_bad_row_share: float = Field(
        0.01, ge=0, le=1, description="Stop before any engine starts if more than this share of the rows is bad."
    )
    license: str = Field(
        "", description="Licence of the questions, for data cards; empty: the benchmark's own, or not stated."
    )


class ModelConfig(Section):
    """A model in hub layout: a hub id or a local directory with safetensors, tokenizer and chat template."""

    path: str = Field(description="Hub id, local directory, or arkling:teacher / arkling:student (shipped).")
    revision: str = Field("", description="Hub revision (commit); empty takes the default branch.")
    prompts: Literal["general", "arkling"] = Field(
        "general", description="Prompt wording: `general` for instruction-tuned LLMs, `arkling` for the tiny models."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Weights in the engine.")
    max_model_len: int = Field(0, ge=0, description="Context in tokens; 0 takes the model's own.")


class SamplingConfig(Section):
    """How one generation is sampled."""

    temperature: float = Field(0.9, ge=0, le=5, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus mass; 1 keeps all.")
    max_tokens: int = Field(1024, ge=1, description="Completion limit in tokens; longer turns end as `truncated`.")


class DebateConfig(Section):
    """How a question is discussed. The strategy `debate` is that of method.md section 1: num_agents * num_rounds + 1
    generations a question at most."""

    strategy: str = Field(
        "debate",
        description="debate | single | self_consistency | mad | mav | dylan | agentverse, or your own as "
        "package.module:function (see docs/howto/own-strategy.md).",
    )
    num_agents: int = Field(5, ge=1, le=64, description="Agents sharing the teacher (paper: 5).")
    num_rounds: int = Field(3, ge=1, le=16, description="Rounds, counting the independent first answers (paper: 3).")
    layout: Literal["peers", "history", "board"] = Field(
        "board", description="What an agent sees: the others' last solutions, its whole chat, or one shared board."
    )
    quorum: float = Field(
        1.0, ge=0, le=1, description="Share of agents that must agree to stop early; 1 is unanimity, 0 never stops."
    )
    show_thinking: bool = Field(False, description="Show peers the thinking text too, not only the final solution.")
    long_solutions: Literal["shorten", "over_context"] = Field(
        "shorten",
        description="When the shown solutions do not fit the context: keep an equally long end of each, or give up.",
    )
    summariser: Literal["always", "when_split", "never"] = Field(
        "always", description="Whether a summariser speaks last; when_split only if the agents disagree."
    )
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig(), description="Sampling of all turns.")


class EndpointConfig(Section):
    """An OpenAI-compatible server: vLLM, SGLang or a provider."""

    base_url: str = Field(description="For example http://127.0.0.1:8000/v1.")
    model: str = Field("", description="The server's name of the model; empty: the model's path.")
    api: Literal["auto", "chat", "completions"] = Field(
        "auto",
        description="completions: token ids by the local tokenizer (vLLM, SGLang), so prompts are exactly those of an "
        "in-process engine. chat: the server applies its template; what looks like a special token is broken up. "
        "auto: completions if the model is a local directory.",
    )
    api_key_env: Name | None = Field(None, description="Environment variable that holds the key; never the key itself.")
    max_model_len: int = Field(8192, ge=8, description="Context of the served model in tokens.")
    requests_per_minute: float = Field(0, ge=0, description="Limit of one engine actor; 0 is none.")
    tokens_per_minute: float = Field(0, ge=0, description="Limit of one engine actor (prompt + max_tokens); 0 is none.")
    timeout_s: float = Field(600, gt=0, description="Time limit of one request.")
    retry_s: float = Field(
        600, ge=0, description="How long a request is repeated after 408, 409, 429, 5xx or a lost connection."
    )
    price_prompt: float = Field(0, ge=0, description="Price of 1 M prompt tokens, in your currency.")
    price_cached: float = Field(0, ge=0, description="Price of 1 M cached prompt tokens.")
    price_completion: float = Field(0, ge=0, description="Price of 1 M completion tokens.")


class EngineConfig(Section):
    """Engines in Ray actors."""

    kind: Literal["vllm", "openai", "replay"] = Field(
        "vllm", description="In-process vLLM, an OpenAI-compatible endpoint, or recorded generations of the ledger."
    )
    endpoint: EndpointConfig | None = Field(None, description="The endpoint of kind openai.")
    replay: str = Field("", description="Fingerprint of the debates to replay (kind replay).")
    num_engines: int = Field(1, ge=1, le=128, description="Engine actors (data parallel).")
    num_cpus: float = Field(1.0, ge=0, description="CPUs that Ray reserves for one engine actor.")
    num_gpus: float = Field(0.0, ge=0, description="GPUs that Ray reserves for one engine actor; 0 runs on CPU.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that one engine's weights are split over.")
    max_num_seqs: int = Field(256, ge=1, description="Requests that one engine runs at once.")
    kv_cache_gib: int = Field(1, ge=1, description="CPU only: key-value cache in whole GiB.")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="GPU only: share of memory vLLM may take.")
    enforce_eager: bool = Field(True, description="Skip compilation: faster start, slower tokens.")
    shard_size: int = Field(256, ge=1, description="Questions per shard (unit of lease, journal and commit).")
    lease_timeout_s: float = Field(60.0, gt=0, description="A lease whose heartbeat stood still this long is taken.")
    max_restarts: int = Field(10, ge=0, description="Times a dead engine actor is restarted in one run.")
    stall_timeout_s: float = Field(
        30.0, gt=0, description="An engine with requests but without a new token for this long is killed and restarted."
    )
    max_tokens_total: int = Field(
        0,
        ge=0,
        description="Hard cap of prompt and completion tokens of one debate run over all its starts; 0 is none. "
        "Requests that a killed engine left unfinished are not counted.",
    )
    max_engine_hours: float = Field(
        0.0, ge=0, description="Hard cap of engine hours of one debate run over all its starts; 0 is none."
    )

    @model_validator(mode="after")
    def _source_named(self) -> Self:
        if (self.kind == "openai") != (self.endpoint is not None):
            raise ValueError("kind openai needs the section endpoint, and no other kind takes one")
        if (self.kind == "replay") != bool(self.replay):
            raise ValueError("kind replay needs the fingerprint in replay, and no other kind takes one")
        if 0 < self.num_gpus < self.tensor_parallel_size:
            raise ValueError(
                f"num_gpus {self.num_gpus:g} is less than tensor_parallel_size {self.tensor_parallel_size}"
            )
        return self

    def in_process(self) -> EngineConfig:
        """The same engine settings for a model that runs here whatever the teacher runs on."""
        return self.model_copy(update={"kind": "vllm", "endpoint": None, "replay": ""})


class JudgeConfig(Section):
    """An LLM that decides what the rules leave undecided. It sees question, gold answer and extracted answer."""

    model: ModelConfig = Field(description="The judge; the paper's is Qwen/Qwen2.5-72B-Instruct.")
    engine: EngineConfig | None = Field(
        None,
        description="Engines of the judge; empty: those of the flow's `engine` section, in this process unless the "
        "judge is the teacher.",
    )
    votes: int = Field(3, ge=1, le=15, description="Samples a case (odd); the majority of them decides.")
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.7, max_tokens=64), description="Sampling of each vote."
    )

    @model_validator(mode="after")
    def _can_judge(self) -> Self:
        if self.votes % 2 == 0:
            raise ValueError(f"votes {self.votes} is even, so there can be a tie; take an odd number")
        if self.votes > 1 and self.sampling.temperature == 0:
            raise ValueError("at temperature 0 all votes are the same: set votes to 1 or raise sampling.temperature")
        if self.model.prompts == "arkling" or self.model.path.startswith("arkling:"):
            raise ValueError("the tiny arkling models cannot judge; name an instruction-tuned model")
        if self.engine is not None and self.engine.kind == "replay":
            raise ValueError("recorded generations cannot judge; use engine.kind vllm or openai")
        return self


class VerificationConfig(Section):
    """How turns are verified: by rules first; what these leave undecided goes to the judge, if there is one."""

    judge: JudgeConfig | None = Field(None, description="Empty: rules alone.")


class SelectorConfig(Section):
    """An LLM that selects which correct traces of a question differ in structure. It sees the question and them."""

    model: ModelConfig = Field(description="The selector; the paper's is of the teacher's size.")
    engine: EngineConfig | None = Field(
        None,
        description="Engines of the selector; empty: those of the flow's `engine` section, in this process unless the "
        "selector is the teacher.",
    )
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.7, max_tokens=64), description="Sampling of each reply."
    )

    @model_validator(mode="after")
    def _can_select(self) -> Self:
        if self.sampling.temperature == 0:
            raise ValueError("at temperature 0 the second try repeats the first reply: raise sampling.temperature")
        if self.model.prompts == "arkling" or self.model.path.startswith("arkling:"):
            raise ValueError("the tiny arkling models cannot select; name an instruction-tuned model")
        if self.engine is not None and self.engine.kind == "replay":
            raise ValueError("recorded generations cannot select; use engine.kind vllm or openai")
        return self


class ExamplesConfig(Section):
    """Which verified traces become examples to learn from (method.md section 3)."""

    include_summary: bool = Field(True, description="Use the summariser's text when it is correct.")
    max_per_problem: int = Field(0, ge=0, description="Cap of traces per question, corrective first; 0 keeps all.")
    include_corrective: bool = Field(
        True, description="rsft: use traces of agents that were wrong in an earlier round; false is the control."
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
    step_labels: Literal["evidence", "exact"] = Field(
        "evidence", description="From the other traces of the debate, or checked line by line (arkling only)."
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
    def _something_to_select(self) -> Self:
        if self.selector is not None and self.augmentation_traces == 1:
            raise ValueError(
                "augmentation_traces 1 leaves a selector nothing to select: set it to 2 or 3, or leave selector empty"
            )
        return self


class LoRAConfig(Section):
    """Low-rank adapters in every linear layer of the language model; the published model has them merged."""

    rank: int = Field(16, ge=1, description="Rank of the update of each weight matrix.")
    alpha: int = Field(32, ge=1, description="The update is scaled by alpha / rank.")


class SFTConfig(Section):
    """SFT, R-SFT (Eq. 1) and data augmentation (Eq. 2) with TRL under DeepSpeed; the examples say which."""

    epochs: float = Field(2.0, gt=0, description="Passes over the examples.")
    learning_rate: float = Field(1e-5, gt=0, description="Peak learning rate (cosine decay).")
    batch_size: int = Field(16, ge=1, description="Examples per optimiser step over all processes.")
    micro_batch_size: int = Field(16, ge=1, description="Examples per forward pass in one process.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    max_length: int = Field(2048, ge=8, description="Tokens of prompt and completion; longer rows are set aside.")
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="Autocast type.")
    packing: bool = Field(
        False,
        description="Rows share lines of a batch instead of being padded, so batches are drawn whatever the lengths.",
    )
    attention: Literal["sdpa", "flash_attention_2"] = Field(
        "sdpa", description="flash_attention_2: GPU only, needs the package flash-attn; pays with packing."
    )
    gradient_checkpointing: bool | None = Field(
        None, description="Recompute activations in the backward pass: less memory, a third more time; null: on a GPU."
    )
    lora: LoRAConfig | None = Field(None, description="Train low-rank adapters; null trains all weights.")
    liger: bool = Field(False, description="Liger's fused kernels: GPU only, needs the package liger-kernel.")
    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    num_workers: int = Field(1, ge=1, description="Processes in the DeepSpeed group.")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that Ray reserves for one process.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs for one process; 0 trains on CPU.")
    gpu_memory_gib: float = Field(
        0.0, ge=0, description="Memory of one GPU, to refuse a job that does not fit before it starts; 0: not known."
    )
    save_steps: int = Field(100, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Complete checkpoints kept.")
    seed: int = Field(0, ge=0, description="Seed of shuffling and initialisation.")

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        # Found here, not after hours of debates.
        rows = self.micro_batch_size * self.num_workers
        if self.batch_size % rows:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size x num_workers = {rows}; "
                "change one of them"
            )
        return self

    @model_validator(mode="after")
    def _on_a_gpu(self) -> Self:
        wanted = [name for name, on in (("liger", self.liger), ("attention flash_attention_2", self._flash)) if on]
        if wanted and not self.gpus_per_worker:
            raise ValueError(f"{' and '.join(wanted)}: GPU only; set gpus_per_worker 1, or leave it at its default")
        if self._flash and self.dtype != "bfloat16":
            raise ValueError("attention flash_attention_2 computes in bfloat16: set dtype bfloat16 or attention sdpa")
        return self

    @property
    def _flash(self) -> bool:
        return self.attention == "flash_attention_2"


class PRMStage(Section):
    """One stage of training a process reward model."""

    epochs: float = Field(1.0, ge=0, description="Passes over the questions; 0 leaves the stage out.")
    learning_rate: float = Field(1e-5, gt=0, description="Peak learning rate (cosine decay).")


class PRMConfig(Section):
    """A process reward model (Eq. 7) on transformers' Trainer under DeepSpeed."""

    model: ModelConfig | None = Field(None, description="What it starts from, of any size; null: the student.")
    loss: Literal["contrastive", "bce"] = Field(
        "contrastive",
        description="Eq. 7 over right steps and other agents' wrong ones, or cross-entropy on the labels.",
    )
    temperature: float = Field(
        0.1, gt=0, description="Divides the scores (0 to 1) before the softmax of Eq. 7; contrastive only."
    )
    stage1: PRMStage = Field(
        default_factory=lambda: PRMStage(learning_rate=1e-3), description="The last layer and the reward head learn."
    )
    stage2: PRMStage = Field(default_factory=lambda: PRMStage(), description="All weights learn.")
    batch_size: int = Field(16, ge=1, description="Questions per optimiser step over all processes.")
    micro_batch_size: int = Field(4, ge=1, description="Questions per forward pass in one process.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of a stage's steps with a rising learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    max_length: int = Field(2048, ge=8, description="Tokens of prompt and completion; longer traces are set aside.")
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="Autocast type.")
    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    num_workers: int = Field(1, ge=1, description="Processes in the DeepSpeed group.")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that Ray reserves for one process.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs for one process; 0 trains on CPU.")
    save_steps: int = Field(100, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Complete checkpoints kept of each stage.")
    seed: int = Field(0, ge=0, description="Seed of shuffling and of the new head.")

    @model_validator(mode="after")
    def _trains(self) -> Self:
        questions = self.micro_batch_size * self.num_workers
        if self.batch_size % questions:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size x num_workers = {questions}; "
                "change one of them"
            )
        if not self.stage1.epochs and not self.stage2.epochs:
            raise ValueError("stage1.epochs and stage2.epochs are both 0: nothing would be trained; raise one of them")
        return self


class GRPOConfig(Section):
    """GRPO (Eq. 3-5) with TRL under DeepSpeed: completions are sampled, scored step by step, and learned from."""

    epochs: float = Field(1.0, gt=0, description="Passes over the prompts.")
    prompts_per_step: int = Field(8, ge=1, description="Prompts of one rollout batch over all processes.")
    group_size: int = Field(8, ge=2, description="Completions sampled for each prompt (G).")
    iterations: int = Field(1, ge=1, description="Optimiser steps on each rollout batch.")
    micro_batch_size: int = Field(8, ge=1, description="Completions per forward pass in one process.")
    learning_rate: float = Field(1e-6, gt=0, description="Learning rate (constant after the warm-up).")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    epsilon: float = Field(0.2, gt=0, lt=1, description="Clip range of the probability ratio.")
    beta: float = Field(0.04, ge=0, description="Weight of the KL divergence from the base, which stays fixed.")
    advantage: Literal["group", "leave_one_out", "mean_only"] = Field(
        "group", description="Group mean and standard deviation (Eq. 5), mean of the others, or mean alone."
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    max_tokens: int = Field(1024, ge=1, description="Completion limit; what reaches it is not learned from.")
    max_prompt_tokens: int = Field(1024, ge=1, description="Longer prompts are set aside.")
    scorer: Literal["prm", "exact"] = Field(
        "prm", description="Steps are scored by a process reward model, or checked exactly (arkling only)."
    )
    aggregate: Literal["mean", "min", "last", "product"] = Field(
        "mean", description="How the scores of the steps make the reward of a completion."
    )
    process_weight: float = Field(1.0, ge=0, description="Weight of that reward; 0 loads no scorer.")
    outcome_weight: float = Field(0.0, ge=0, description="Weight of a correct answer (verified by rules).")
    format_weight: float = Field(0.0, ge=0, description="Weight of any final answer that the rules can find.")
    rollouts: Literal["transformers", "vllm_colocate", "vllm_server"] = Field(
        "transformers", description="What samples: the training process, vLLM on its GPU, or a `trl vllm-serve`."
    )
    vllm_memory: float = Field(0.3, gt=0, le=1, description="vllm_colocate only: share of GPU memory for vLLM.")
    vllm_url: str = Field("", description="vllm_server only: its address, as http://host:8000.")
    engine_difference: float = Field(
        0.1,
        gt=0,
        description="vLLM only: mean difference of trainer's and engine's log-probabilities that stops the run.",
    )
    watch_prompts: int = Field(
        200, ge=0, description="Prompts held out and answered greedily at each checkpoint; 0 turns the watch off."
    )
    watch_margin: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="The run stops if reward there has risen since the best checkpoint and accuracy fallen by more "
        "than this (whole 95 % interval).",
    )
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="Autocast type.")
    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    num_workers: int = Field(1, ge=1, description="Processes in the DeepSpeed group.")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that Ray reserves for one process.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs for one process; 0 trains on CPU.")
    save_steps: int = Field(20, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Complete checkpoints kept, besides the watch's best.")
    seed: int = Field(0, ge=0, description="Seed of order and sampling.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rows = self.prompts_per_step * self.group_size
        if self.prompts_per_step % self.num_workers or rows % (self.micro_batch_size * self.num_workers):
            raise ValueError(
                f"prompts_per_step {self.prompts_per_step} x group_size {self.group_size} completions do not divide "
                f"into whole groups and micro batches of {self.micro_batch_size} on {self.num_workers} processes; "
                "change one of them"
            )
        if self.save_steps % self.iterations:
            raise ValueError(
                f"save_steps {self.save_steps} is not a multiple of iterations {self.iterations}; "
                "a checkpoint within a rollout batch could not be resumed"
            )
        if not self.process_weight + self.outcome_weight + self.format_weight:
            raise ValueError("all reward weights are 0; set process_weight, outcome_weight or format_weight")
        if (self.rollouts == "vllm_server") != bool(self.vllm_url):
            raise ValueError("rollouts vllm_server needs vllm_url, and no other rollouts take one")
        return self


class EvaluationConfig(Section):
    """Evaluation on held-out questions."""

    problems: ProblemsConfig = Field(
        default_factory=lambda: ProblemsConfig(split="test", limit=600), description="Held-out questions."
    )
    max_tokens: int = Field(0, ge=0, description="Completion limit of single answers; 0 takes the debate's.")
    majority_samples: int = Field(0, ge=0, description="Samples of majority vote; 0 = the debate's number of calls.")


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


T = TypeVar("T", bound=BaseModel)


def load(model: type[T], path: Path, *, overrides: list[str] | None = None) -> T:
    """Read a YAML or JSON config file, apply `a.b=value` overrides, validate.

    Raises ConfigError with one line per problem: file, key, what is wrong, what to do.
    """
    data = read(path)
    for override in overrides or []:
        _apply(data, override)
    return parse(model, data, origin=str(path))


def read(path: Path) -> dict[str, Any]:
    """The sections of a YAML or JSON config file, not yet validated. ConfigError if it holds none."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; see deployments/ for examples") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML or JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top level, found {type(data).__name__}")
    return data


def parse(model: type[T], data: dict[str, Any], *, origin: str) -> T:
    """Validate plain data; ConfigError names origin and key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "(top level)"
            message = "unknown key; remove it or fix its spelling" if item["type"] == "extra_forbidden" else item["msg"]
            lines.append(f"{origin}: {key}: {message}")
        raise ConfigError("\n".join(lines)) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    node = data
    *parents, leaf = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {parent} is not a section")
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        node[leaf] = value


def deployment_parameters(path: str) -> dict[str, Any]:
    """Build step of prefect.yaml: the parameters of a deployment from its file in deployments/."""
    return {"config": yaml.safe_load(Path(path).read_text(encoding="utf-8"))}


def to_json(config: BaseModel) -> str:
    """The resolved config as canonical JSON (sorted keys), the form that is hashed and written beside a run."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=True, indent=2)
