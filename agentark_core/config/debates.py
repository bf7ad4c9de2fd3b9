"""Sections of what debates: questions, models, sampling, the debate itself, engines, judge, selector and rollouts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from agentark_core.config.base import Name, Section

Source = Literal[
    "arkling",
    "gsm8k",
    "math",
    "math500",
    "medmcqa",
    "metamath",
    "hotpotqa",
    "qasper",
    "qmsum",
    "truthfulqa",
    "truthfulqa_mc",
    "file",
]


class ProblemsConfig(Section):
    """Which questions, and how to read them."""

    source: Source = Field(
        "arkling", description="Benchmark, the embedded arkling task, or `file` for your own JSONL/CSV/Parquet."
    )
    path: str = Field(
        "",
        description="File to read (.jsonl, .json, .csv, .parquet, also .gz), folder as on the hub (shards of the split "
        "by their names), or glob. Not used by arkling.",
    )
    dataset: Name | None = Field(None, description="Name of the data set in ids and reports; default: the source.")
    split: Literal["train", "distil", "test", "ood", "longer", "unseen"] = Field(
        "train",
        description="Split; arkling generates by split: ood has parameter values, longer one step and unseen families "
        "that no training has.",
    )
    limit: int = Field(0, ge=0, description="Take at most this many questions; 0 takes all (arkling needs a number).")
    offset: int = Field(0, ge=0, description="Skip this many questions first.")
    question_column: str = Field("question", description="`file` only: column with the question.")
    answer_column: str = Field("answer", description="`file` only: column with the gold answer.")
    id_column: str = Field("", description="`file` only: column with ids; empty derives the id from the content.")
    task: Literal["gsm8k", "math", "medmcqa", "number", "choice", "text", "free_text"] = Field(
        "math", description="`file` only: the verifier's rules for this data; free_text is scored, not verified."
    )
    context_column: str = Field("", description="`file` with task free_text: column with what a question is about.")
    max_context_tokens: int = Field(
        0,
        ge=0,
        description="A longer context loses its middle, and the number of tokens left out is kept and reported; 0 "
        "never cuts, so that a prompt over the model's context ends as over_context.",
    )
    tokenizer: str = Field("", description="Model (hub id, directory) in whose tokens max_context_tokens counts.")
    few_shot: int = Field(0, ge=0, le=64, description="Worked examples before each question; 0 is zero-shot.")
    few_shot_path: str = Field(
        "",
        description="File, folder or glob of the same format with examples; empty: the benchmark's training split on "
        "the hub.",
    )
    max_bad_row_share: float = Field(
        0.01, ge=0, le=1, description="Stop before any engine starts if more than this share of the rows is bad."
    )
    license: str = Field(
        "", description="Licence of the questions, for data cards; empty: the benchmark's own, or not stated."
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.max_context_tokens and not self.tokenizer:
            raise ValueError("max_context_tokens counts tokens of a model: name it in tokenizer (hub id or directory)")
        if self.few_shot_path and not self.few_shot:
            raise ValueError("few_shot_path is not used: set few_shot to a number of examples, or leave it empty")
        if self.few_shot and self.source == "arkling":
            raise ValueError("the arkling models know their own prompts only: leave few_shot at 0")
        if self.context_column and (self.source, self.task) != ("file", "free_text"):
            raise ValueError("context_column needs source file and task free_text")
        return self


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
    kv_cache_gib: float = Field(1.0, gt=0, description="CPU only: key-value cache in GiB.")
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


def _check_follows_instructions(model: ModelConfig, engine: EngineConfig | None, *, to: str) -> None:
    """Refuse what cannot answer the prompts of a judge or a selector."""
    if model.prompts == "arkling" or model.path.startswith("arkling:"):
        raise ValueError(f"the tiny arkling models cannot {to}; name an instruction-tuned model")
    if engine is not None and engine.kind == "replay":
        raise ValueError(f"recorded generations cannot {to}; use engine.kind vllm or openai")


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
        _check_follows_instructions(self.model, self.engine, to="judge")
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
        _check_follows_instructions(self.model, self.engine, to="select")
        return self


class RolloutsConfig(Section):
    """Samples that go on from the end of a step: whether they come to the right answer says whether the step is right
    (Math-Shepherd, arXiv 2312.08935)."""

    model: ModelConfig = Field(description="The model that goes on; the one that wrote the solutions, or a better one.")
    engine: EngineConfig | None = Field(
        None,
        description="Engines of that model; empty: those of the flow's `engine` section, in this process unless it is "
        "the teacher.",
    )
    samples: int = Field(8, ge=1, le=64, description="Samples from the end of each step.")
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.7), description="Sampling of each."
    )

    @model_validator(mode="after")
    def _can_go_on(self) -> Self:
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError("at temperature 0 all samples are alike: set samples to 1 or raise sampling.temperature")
        if self.engine is not None and self.engine.kind == "replay":
            raise ValueError("recorded generations cannot go on from a step; use engine.kind vllm or openai")
        return self
