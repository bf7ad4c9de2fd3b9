"""TRL's GRPOTrainer under DeepSpeed: our rewards and advantages, guards, the watch, sampling that can be resumed.

Imports TRL at the top: import this module only inside a training process.

The loss is Eq. 3 as TRL has it (`loss_type="grpo"`: mean over tokens, then over completions), with its estimate of
the KL divergence (k3, weighted by the ratio so that its gradient is unbiased). What TRL does not have: advantages other
than Eq. 5's, groups that failed, prompts whose text cannot become special tokens (chat.py), the thinking of a reasoning
model kept apart from the solution that is scored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import gather_object
from transformers import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from agentark_core.chat import ChatFormat
from agentark_core.config import GRPOConfig
from agentark_core.training import TrainingError, group, student_model, watch
from agentark_core.training.grpo_plan import Plan
from agentark_core.training.guarded import Guarded
from agentark_core.training.rewards import Asked, Reward, Rewarder, advantages, no_variance

LOGGED = {
    "reward": "reward",
    "reward_std": "reward_std",
    "process": "process",
    "outcome": "outcome",
    "format": "format",
    "kl": "kl",
    "entropy": "entropy",
    "clipped": "clip_ratio/region_mean",
    "completion_tokens": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "zero_variance_groups": "zero_variance_groups",
    "unscored": "unscored",
    "engine_difference": "engine_difference",
    "value_loss": "value_loss",
    "value_explained": "value_explained",
}
"""Columns of metrics.jsonl and what the trainer calls them. Counts are of one rollout batch over all processes."""


def build_trainer(
    job: Plan,
    prompts: Sequence[Asked],
    held_out: Sequence[Asked],
    *,
    order: list[int],
    chat: ChatFormat,
    rewarder: Rewarder,
    on_gpu: bool,
    metrics: TrainerCallback,
    kind: type[PolicyTrainer],
) -> PolicyTrainer:
    """The trainer of one job, of the given class. order: of prompts, one rollout batch after the other
    (grpo_data.rollout_order)."""
    disable_progress_bar()
    config = job.config
    steps = len(order) // config.prompts_per_step * config.iterations
    arguments = trl_arguments(job, steps=steps, stop_ids=chat.stop_ids, on_gpu=on_gpu)
    # After TRLConfig, which announces ZeRO-3 to from_pretrained.
    model = student_model.load(job.base)
    rows = datasets.Dataset.from_list([{**asdict(asked), "row": number} for number, asked in enumerate(prompts)])
    trainer = kind(
        config=config,
        prompts=prompts,
        held_out=held_out,
        chat=chat,
        rewarder=rewarder,
        looks=job.output / "watch.jsonl",
        run=job.run,
        keep_checkpoints=config.keep_checkpoints,
        section="grpo",
        model=model,
        args=arguments,
        train_dataset=rows.select(order),
        processing_class=chat.tokenizer,
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)  # metrics.jsonl has every step
    return trainer


def trl_arguments(job: Plan, *, steps: int, stop_ids: list[int], on_gpu: bool) -> TRLConfig:
    """What TRL's trainer is told. stop_ids: tokens that end a completion."""
    config = job.config
    return TRLConfig(
        **group.trainer_arguments(
            config,
            output=job.output / "checkpoints",
            steps=steps,
            accumulation=job.accumulation,
            learning_rate=config.learning_rate,
            on_gpu=on_gpu,
        ),
        lr_scheduler_type="constant_with_warmup",
        num_generations=config.group_size,
        num_iterations=config.iterations,
        shuffle_dataset=False,  # order is the order
        loss_type="grpo",
        epsilon=config.epsilon,
        beta=config.beta,
        temperature=config.temperature,
        max_completion_length=config.max_tokens,
        mask_truncated_completions=True,
        disable_dropout=True,
        **_engine(config, stop_ids=stop_ids),
    )


def _engine(config: GRPOConfig, *, stop_ids: list[int]) -> dict[str, Any]:
    """TRL's arguments for what samples."""
    if config.rollouts == "transformers":
        return {}
    # An engine knows the stop tokens of the model's configs alone, which may lack the chat template's end of turn.
    shared = {"use_vllm": True, "generation_kwargs": {"stop_token_ids": stop_ids}}
    if config.rollouts == "vllm_server":
        return {**shared, "vllm_mode": "server", "vllm_server_base_url": config.vllm_url}
    return {
        **shared,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": config.vllm_memory,
        "vllm_max_model_length": config.max_prompt_tokens + config.max_tokens,
    }


def engine_difference(trainer_logps: Any, engine_logps: Any, mask: Any) -> float:
    """Mean |difference| of two models' log-probabilities of the same tokens, in nats.

    Shapes (completions, tokens); tokens outside mask, and those that the engine could not score (NaN), do not count.
    """
    known = mask.bool() & ~torch.isnan(engine_logps)
    return float((trainer_logps - engine_logps).abs()[known].mean()) if known.any() else 0.0


class PolicyTrainer(Guarded, GRPOTrainer):
    """Arguments beyond Guarded's: prompts (by row number), held_out, looks (file of the watch)."""

    generation_config: Any
    generation_kwargs: dict[str, Any]

    def __init__(
        self,
        *,
        config: GRPOConfig,
        prompts: Sequence[Asked],
        held_out: Sequence[Asked],
        chat: ChatFormat,
        rewarder: Rewarder,
        looks: Path,
        **kwargs: Any,
    ) -> None:
        self._config = config
        self._prompts = prompts
        self._held_out = held_out
        self._chat = chat
        self._rewarder = rewarder
        self._looks_file = looks
        self.looks: list[watch.Look] = []
        self.stopped: str | None = None
        """Why the watch ended the run."""
        self._totals: list[float | None] = []
        """Rewards of the rollout batch of this process."""
        self._asked: list[Asked] = []
        """What the rollout batch of this process answers."""
        self._scoring = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")
        self._rewarded: Future[list[Reward]] | None = None
        self._rollout_rewards: list[float] = []
        """Mean rewards of the rollout batches since the last look."""
        super().__init__(reward_funcs=[self._rewards], **kwargs)
        self.eos_token_ids = chat.stop_ids
        if not self.use_vllm:
            self.generation_config.eos_token_id = chat.stop_ids

    def restore_looks(self, *, resume_step: int) -> None:
        """Take up the looks of the run that is resumed."""
        self.looks = watch.read(self._looks_file, until=resume_step) if resume_step else []

    # ---- Rollouts

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._chat.prompt_ids(prompt) for prompt in prompts], None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        # A resumed run samples (with transformers) what the unbroken one would have.
        name = f"{self.args.seed} {self.state.global_step} {self.args.process_index}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
        self._asked = [self._prompts[row["row"]] for row in inputs]
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            ids = list(dict.fromkeys(row["problem_id"] for row in inputs))
            raise self.diverged("the probabilities to sample from are not finite", ids) from None
        self._add_advantages(output)
        output["rows"] = torch.tensor([row["row"] for row in inputs])
        if "sampling_per_token_logps" in output:
            self._check_engine(output)
        self._rollout_rewards.append(self._metrics["train"]["reward"][-1])
        if self._held_out and not self.looks:  # the base, before the first step
            self._look()
        return output

    def _generate(self, prompts: list[Any]) -> Any:
        found = super()._generate(prompts)
        # The reward model and the verifier work while this thread computes log-probabilities.
        self._rewarded = self._scoring.submit(self._reward, self._asked, found[1], group_size=self._config.group_size)
        return found

    def _add_advantages(self, output: dict[str, Any]) -> None:
        """Put the advantages of the rollout batch into it: one of a completion, (B,), or of each token, (B, T)."""
        how = self._config.advantage
        assert how != "value", "ppo_trainer.py"
        found = [a for rewards_G in self._groups() for a in advantages(rewards_G, how=how)]
        output["advantages"] = torch.tensor(found, device=output["advantages"].device)

    def _groups(self) -> list[list[float | None]]:
        size = self._config.group_size
        return [self._totals[start : start + size] for start in range(0, len(self._totals), size)]

    def _check_engine(self, output: dict[str, Any]) -> None:
        """Refuse an engine that samples from other weights than the trainer's: a sync was lost, or is wrong (F36)."""
        found = engine_difference(
            output["old_per_token_logps"], output["sampling_per_token_logps"], output["completion_mask"]
        )
        self._metrics["train"]["engine_difference"].append(found)
        if found > self._config.engine_difference:
            raise TrainingError(
                f"step {self.state.global_step + 1}: log-probabilities of trainer and engine differ by {found:.3f} on "
                f"average, grpo.engine_difference allows {self._config.engine_difference}; the engine has other "
                "weights than the trainer (a sync was lost), or its number format is too coarse"
            )

    def _rewards(self, *, log_metric: Callable[[str, float], None], **columns: Any) -> list[float | None]:
        """TRL's reward function: what was begun for the whole rollout batch of this process. Groups lie whole in it."""
        assert self._rewarded is not None
        rewards = self._rewarded.result()
        self._totals = [reward.total for reward in rewards]
        counts = torch.tensor(
            [sum(map(no_variance, self._groups())), self._totals.count(None)],
            device=self.accelerator.device,
            dtype=torch.float32,
        )
        same, unknown = self.accelerator.reduce(counts, reduction="sum").tolist()
        self._metrics["train"]["zero_variance_groups"].append(same)
        self._metrics["train"]["unscored"].append(unknown)
        for term in ("process", "outcome", "format"):
            for reward in rewards:
                if (value := getattr(reward, term)) is not None:
                    log_metric(term, value)
        return self._totals

    def _reward(self, asked: Sequence[Asked], completion_ids: list[list[int]], *, group_size: int) -> list[Reward]:
        texts = [self._chat.decode(ids)[1] for ids in completion_ids]
        try:
            return self._rewarder(asked, texts, group_size=group_size)
        except TrainingError as error:
            raise TrainingError(f"step {self.state.global_step + 1}: {error}") from error

    def _ids_of(self, inputs: Any) -> list[str]:
        # A micro batch, or the prompts of the rollout batch as the data loader gives them.
        rows = [row["row"] for row in inputs] if isinstance(inputs, list) else inputs["rows"].tolist()
        return list(dict.fromkeys(self._prompts[row].problem_id for row in rows))

    # ---- The watch

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Look first: a checkpoint that the watch refuses is not written, and training ends."""
        if self._held_out:
            self._look()
            self.stopped = watch.hacked(self.looks, margin=self._config.watch_margin)
            if self.stopped:
                self.control.should_training_stop = True
                return
            self.kept_steps = {watch.best(self.looks).step}
        super()._save_checkpoint(model, trial)

    def _look(self) -> None:
        """Answer the held-out prompts greedily, each process its share; reward, verify and record."""
        share = self._held_out[self.args.process_index :: self.args.world_size]
        batch = self._config.micro_batch_size
        found = []
        with self._greedily():
            # as many batches on every process: under ZeRO-3 all must take part in each forward pass
            for start in range(0, math.ceil(len(self._held_out) / self.args.world_size), batch):
                asked = list(share[start : start + batch]) or [self._held_out[0]]
                ids, _ = self._generate_single_turn([self._chat.prompt_ids(a.prompt) for a in asked], None, {}, 1)
                rewards = self._reward(asked, ids, group_size=1)
                outcomes = self._rewarder.outcomes(asked, [self._chat.decode(row)[1] for row in ids])
                if start < len(share):
                    found += [
                        (a.problem_id, reward.total, None if outcome is None else outcome == 1.0)
                        for a, reward, outcome in zip(asked, rewards, outcomes, strict=True)
                    ]
        found = sorted(gather_object(found))
        rewarded = [reward for _, reward, _ in found if reward is not None]
        look = watch.Look(
            step=self.state.global_step,
            reward=math.fsum(rewarded) / max(1, len(rewarded)),
            rollout_reward=math.fsum(self._rollout_rewards) / len(self._rollout_rewards),
            outcomes={problem_id: outcome for problem_id, _, outcome in found},
        )
        self.looks.append(look)
        if look.step:  # the first rollout batch is learned from only after the look at the base
            self._rollout_rewards = []
        if self.args.should_save:
            watch.write(self._looks_file, self.looks)

    @contextmanager
    def _greedily(self) -> Iterator[None]:
        """Generation without sampling, whatever generates."""
        if self.use_vllm:
            engine, temperature = self.vllm_generation, self.vllm_generation.temperature
            engine.temperature = 0.0
            try:
                yield
            finally:
                engine.temperature = temperature
            return
        sampling, arguments = self.generation_config, self.generation_kwargs
        greedy = {"do_sample": False, "temperature": 1.0}
        self.generation_config = type(sampling).from_dict({**sampling.to_dict(), **greedy})
        self.generation_kwargs = {**arguments, **greedy}
        try:
            yield
        finally:
            self.generation_config, self.generation_kwargs = sampling, arguments
