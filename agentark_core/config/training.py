"""Sections of the training jobs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from agentark_core.config.base import Section
from agentark_core.config.debates import ModelConfig


class TrainingSection(Section):
    """What every training job has."""

    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="Autocast type.")
    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    offload: Literal["none", "optimizer", "all"] = Field(
        "none",
        description="What DeepSpeed keeps in CPU memory: the optimizer's states and step, or the weights too "
        "(zero_stage 3). Slower.",
    )
    gradient_checkpointing: bool | None = Field(
        None, description="Recompute activations in the backward pass: less memory, a third more time; null: on a GPU."
    )
    num_workers: int = Field(1, ge=1, description="Processes in the DeepSpeed group.")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that Ray reserves for one process.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs for one process; 0 trains on CPU.")
    gpu_memory_gib: float = Field(
        0.0, ge=0, description="Memory of one GPU, to refuse a job that does not fit before it starts; 0: not known."
    )
    save_steps: int = Field(100, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Complete checkpoints kept, of each stage if there are two.")
    seed: int = Field(0, ge=0, description="Seed of shuffling, sampling and new weights.")

    @model_validator(mode="after")
    def _can_offload(self) -> Self:
        least = {"none": 0, "optimizer": 1, "all": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(f"offload {self.offload} needs zero_stage {least} or more, it is {self.zero_stage}")
        return self


class LoRAConfig(Section):
    """Low-rank adapters in every linear layer of the language model; the published model has them merged."""

    rank: int = Field(16, ge=1, description="Rank of the update of each weight matrix.")
    alpha: int = Field(32, ge=1, description="The update is scaled by alpha / rank.")


class SFTConfig(TrainingSection):
    """SFT, R-SFT (Eq. 1) and data augmentation (Eq. 2) with TRL under DeepSpeed; the examples say which."""

    epochs: float = Field(2.0, gt=0, description="Passes over the examples.")
    learning_rate: float = Field(1e-5, gt=0, description="Peak learning rate (cosine decay).")
    batch_size: int = Field(16, ge=1, description="Examples per optimiser step over all processes.")
    micro_batch_size: int = Field(16, ge=1, description="Examples per forward pass in one process.")
    max_length: int = Field(2048, ge=8, description="Tokens of prompt and completion; longer rows are set aside.")
    packing: bool = Field(
        False,
        description="Rows share lines of a batch instead of being padded, so batches are drawn whatever the lengths.",
    )
    attention: Literal["sdpa", "flash_attention_2"] = Field(
        "sdpa", description="flash_attention_2: GPU only, needs the package flash-attn; pays with packing."
    )
    lora: LoRAConfig | None = Field(None, description="Train low-rank adapters; null trains all weights.")
    liger: bool = Field(False, description="Liger's fused kernels: GPU only, needs the package liger-kernel.")

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


PRMHead = Literal["linear", "likelihood"]


class PRMStage(Section):
    """One stage of training a process reward model."""

    epochs: float = Field(1.0, ge=0, description="Passes over the questions; 0 leaves the stage out.")
    learning_rate: float = Field(1e-5, gt=0, description="Peak learning rate (cosine decay).")


class PRMConfig(TrainingSection):
    """A process reward model (Eq. 7) on transformers' Trainer under DeepSpeed."""

    model: ModelConfig | None = Field(None, description="What it starts from, of any size; null: the student.")
    loss: Literal["contrastive", "bce"] = Field(
        "contrastive",
        description="Eq. 7 over right steps and other agents' wrong ones, or cross-entropy on the labels.",
    )
    head: PRMHead = Field(
        "linear",
        description="What scores a step: one linear layer on the last hidden state, or two that also read how likely "
        "the model, as a language model, finds the solution so far.",
    )
    temperature: float = Field(
        0.1, gt=0, description="Divides the scores (0 to 1) before the softmax of Eq. 7; contrastive only."
    )
    stage1: PRMStage = Field(
        default_factory=lambda: PRMStage(learning_rate=1e-3),
        description="The last layer and the linear head learn, or the likelihood head alone.",
    )
    stage2: PRMStage = Field(default_factory=lambda: PRMStage(), description="All weights learn.")
    batch_size: int = Field(16, ge=1, description="Questions per optimiser step over all processes.")
    micro_batch_size: int = Field(4, ge=1, description="Questions per forward pass in one process.")
    max_length: int = Field(2048, ge=8, description="Tokens of prompt and completion; longer traces are set aside.")

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


class GRPOConfig(TrainingSection):
    """GRPO (Eq. 3-5) or PPO (Eq. 8-9: advantage value) with TRL under DeepSpeed: completions are sampled, scored step
    by step, and learned from."""

    epochs: float = Field(1.0, gt=0, description="Passes over the prompts.")
    prompts_per_step: int = Field(8, ge=1, description="Prompts of one rollout batch over all processes.")
    group_size: int = Field(8, ge=2, description="Completions sampled for each prompt (G).")
    iterations: int = Field(1, ge=1, description="Optimiser steps on each rollout batch.")
    micro_batch_size: int = Field(8, ge=1, description="Completions per forward pass in one process.")
    learning_rate: float = Field(1e-6, gt=0, description="Learning rate (constant after the warm-up).")
    epsilon: float = Field(0.2, gt=0, lt=1, description="Clip range of the probability ratio.")
    beta: float = Field(0.04, ge=0, description="Weight of the KL divergence from the base, which stays fixed.")
    advantage: Literal["group", "leave_one_out", "mean_only", "value"] = Field(
        "group",
        description="Group mean and standard deviation (Eq. 5), mean of the others, mean alone, or a learned value "
        "function: PPO (Eq. 8-9).",
    )
    gae_lambda: float = Field(
        1.0,
        ge=0,
        le=1,
        description="advantage value only: lambda of GAE. 1: reward minus value; less trusts the values of later "
        "tokens, which know nothing at the start.",
    )
    value_weight: float = Field(
        0.1, gt=0, description="advantage value only: weight of the squared error of the values in the loss."
    )
    value_learning_rate: float = Field(
        5e-2,
        gt=0,
        description="advantage value only: learning rate of the value head, about how far one step can move a value.",
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
        200,
        ge=0,
        description="Prompts answered greedily at each checkpoint, and learned from by no strategy of the list; 0 "
        "turns the watch off.",
    )
    watch_margin: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="The run stops if reward there has risen since the best checkpoint and accuracy fallen by more "
        "than this (whole 95 % interval).",
    )
    save_steps: int = Field(20, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Complete checkpoints kept, besides the watch's best.")

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
        if self.rollouts == "vllm_colocate" and not self.gpus_per_worker:
            raise ValueError(
                "rollouts vllm_colocate samples on the training process's GPU and gpus_per_worker is 0; set "
                "gpus_per_worker 1, or rollouts transformers"
            )
        return self
