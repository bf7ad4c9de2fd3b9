"""Rewards of whole completions: process scores of steps, aggregated, plus an optional outcome and format term.

    R(o) = w_process * aggregate(scores of the steps of o) + w_outcome * [answer correct] + w_format * [an answer found]

The paper rewards by the process reward model alone (PAD); outcome and format weigh 0 by default. Missing is not zero:
a completion whose outcome is undecided, or whose scoring failed, has the reward None and no part in its group.

Shape suffixes: _B completions of one call, _G of one group, _S steps. Nothing heavy is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from agentark_core.answers import extract
from agentark_core.config import GRPOConfig
from agentark_core.errors import ConfigError
from agentark_core.step_labels import exact_labels
from agentark_core.training import TrainingError
from agentark_core.types import Message
from agentark_core.verify import Case, Verifier

Aggregate = Literal["mean", "min", "last", "product"]
Advantage = Literal["group", "leave_one_out", "mean_only"]

STD_EPSILON = 1e-4
"""Added to a group's standard deviation, as TRL does."""
EXACT_RIGHT, EXACT_WRONG = 0.999, 0.001


class StepScorer(Protocol):
    """Scores each step of each completion: a process reward model, or an exact checker."""

    def scores(self, prompts: list[list[Message]], completions: list[str]) -> list[list[float]]:
        """One score in (0, 1) for each step of steps.split(completion), for each completion."""
        ...


class ExactScorer:
    """The checker of arkling's own questions: an upper bound that no learned scorer has, and possible only there."""

    def scores(self, prompts: list[list[Message]], completions: list[str]) -> list[list[float]]:
        """Raises DataError if a prompt is not a question of arkling's own."""
        return [
            [EXACT_RIGHT if step.label else EXACT_WRONG for step in exact_labels(text, question=prompt[-1]["content"])]
            for prompt, text in zip(prompts, completions, strict=True)
        ]


def open_scorer(config: GRPOConfig, *, prm: Path | None) -> StepScorer | None:
    """The scorer that the config names, None if it has no weight; prm: directory of the process reward model."""
    if not config.process_weight:
        return None
    if config.scorer == "exact":
        return ExactScorer()
    if prm is None:
        raise ConfigError("grpo.scorer is prm but no model is named: set `prm` to the directory of a trained one")
    from agentark_core.training.prm_model import PRM

    return PRM.load(prm)


def aggregate(scores_S: Sequence[float], *, how: Aggregate) -> float:
    """R(o) from the scores of o's steps, in [0, 1]; 0 for no steps: who writes nothing has earned nothing."""
    if not scores_S:
        return 0.0
    match how:
        case "mean":
            return math.fsum(scores_S) / len(scores_S)
        case "min":
            return min(scores_S)
        case "last":
            return scores_S[-1]
        case "product":
            return math.prod(scores_S)


def advantages(rewards_G: Sequence[float | None], *, how: Advantage) -> list[float]:
    """The advantages within one group, 0 where the reward is None or no other is known.

    group (Eq. 5): (R_i - mean) / (std + 1e-4), std with n - 1 as TRL has it; mean_only: R_i - mean;
    leave_one_out: R_i - mean of the others = n / (n - 1) (R_i - mean), whose expectation is unbiased.
    """
    known = [reward for reward in rewards_G if reward is not None]
    if len(known) < 2:
        return [0.0] * len(rewards_G)
    mean = math.fsum(known) / len(known)
    match how:
        case "group":
            std = math.sqrt(math.fsum((reward - mean) ** 2 for reward in known) / (len(known) - 1))
            scale = 1 / (std + STD_EPSILON)
        case "leave_one_out":
            scale = len(known) / (len(known) - 1)
        case "mean_only":
            scale = 1.0
    return [0.0 if reward is None else (reward - mean) * scale for reward in rewards_G]


def no_variance(rewards_G: Sequence[float | None]) -> bool:
    """Whether a group teaches nothing: its known rewards are all equal."""
    known = [reward for reward in rewards_G if reward is not None]
    return not known or max(known) - min(known) < 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt with what its answers are checked against."""

    problem_id: str
    prompt: list[Message]
    gold: str
    task: str

    def case(self, completion: str) -> Case:
        """What the verifier sees."""
        return Case(response=completion, gold=self.gold, task=self.task, question=self.prompt[-1]["content"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The reward of one completion and its terms; None: not known (failed, undecided) or, of a term, not asked for."""

    total: float | None
    process: float | None
    outcome: float | None
    format: float | None


class Rewarder:
    """Rewards of completions, one call for a whole batch."""

    def __init__(self, config: GRPOConfig, *, scorer: StepScorer | None, verifier: Verifier) -> None:
        self._config = config
        self._scorer = scorer
        self._verifier = verifier

    def __call__(self, asked_B: Sequence[Asked], completions_B: Sequence[str], *, group_size: int) -> list[Reward]:
        """The reward of each completion; neighbours of group_size form a group.

        When the scorer raises, groups are scored one by one, and one that raises again is failed: None, never 0.
        Raises TrainingError if all fail, naming the questions, and for a score that is no number in [0, 1].
        """
        config = self._config
        blank: list[float | None] = [None] * len(asked_B)
        process = self._process(asked_B, completions_B, group_size=group_size) if self._scorer else blank
        outcome = self.outcomes(asked_B, completions_B) if config.outcome_weight else blank
        answered = blank
        if config.format_weight:
            answered = [
                float(extract(text, task=asked.task) is not None)
                for asked, text in zip(asked_B, completions_B, strict=True)
            ]
        weights = (config.process_weight, config.outcome_weight, config.format_weight)
        rewards = []
        for terms in zip(process, outcome, answered, strict=True):
            used = [(weight, term) for weight, term in zip(weights, terms, strict=True) if weight]
            known = [weight * term for weight, term in used if term is not None]
            total = math.fsum(known) if len(known) == len(used) else None
            rewards.append(Reward(total=total, process=terms[0], outcome=terms[1], format=terms[2]))
        return rewards

    def outcomes(self, asked_B: Sequence[Asked], completions_B: Sequence[str]) -> list[float | None]:
        """1 correct, 0 incorrect, None undecided."""
        cases = [asked.case(text) for asked, text in zip(asked_B, completions_B, strict=True)]
        known = {"correct": 1.0, "incorrect": 0.0, "undecided": None}
        return [known[verdict.label] for verdict in self._verifier.verify_many(cases)]

    def _process(
        self, asked_B: Sequence[Asked], completions_B: Sequence[str], *, group_size: int
    ) -> list[float | None]:
        try:
            return self._scored(asked_B, completions_B)
        except TrainingError:
            raise
        except Exception as first:
            found: list[float | None] = []
            failed = 0
            for start in range(0, len(asked_B), group_size):
                part = slice(start, start + group_size)
                try:
                    found += self._scored(asked_B[part], completions_B[part])
                except TrainingError:
                    raise
                except Exception:
                    failed += 1
                    found += [None] * len(asked_B[part])
            if failed * group_size >= len(asked_B):
                raise TrainingError(
                    f"the scorer failed on every group ({type(first).__name__}: {first}); questions: {_ids(asked_B)}"
                ) from first
            return found

    def _scored(self, asked_B: Sequence[Asked], completions_B: Sequence[str]) -> list[float | None]:
        assert self._scorer is not None
        scores_B_S = self._scorer.scores([asked.prompt for asked in asked_B], list(completions_B))
        wrong = [
            asked
            for asked, scores in zip(asked_B, scores_B_S, strict=True)
            if not all(math.isfinite(score) and 0 <= score <= 1 for score in scores)
        ]
        if wrong:
            raise TrainingError(
                f"the scorer gave a score that is no number in [0, 1]; questions: {_ids(wrong)}; "
                "the process reward model is broken, or runs in too small a number format"
            )
        return [aggregate(scores, how=self._config.aggregate) for scores in scores_B_S]


def _ids(asked_B: Sequence[Asked]) -> str:
    return ", ".join(dict.fromkeys(asked.problem_id for asked in asked_B))
