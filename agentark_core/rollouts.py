r"""Samples that go on from the end of a step: how many come to the right answer is a label of the step (Math-Shepherd,
arXiv 2312.08935).

    Begun(question="How many?", text="Step 1: 3 + 4 = 7\n", ..)
    solutions   "Step 1: 3 + 4 = 7\nStep 2: 7 * 2 = 14\nIt is 14.", .., "Step 1: 3 + 4 = 7\nStep 2: 7 * 2 = 15\n.."
    verified    Reached(right=6, decided=8)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from agentark_core import model_files, prompts
from agentark_core.asking import ask_each, engine_of, fitting_prompt
from agentark_core.config import EngineConfig, ModelConfig, RolloutsConfig, SamplingConfig
from agentark_core.discussion import Generates
from agentark_core.engines.base import Request
from agentark_core.engines.endpoint_engine import api_of
from agentark_core.errors import ConfigError
from agentark_core.ledger import request_seed
from agentark_core.types import Message, Reached, VerdictLabel
from agentark_core.verify import Case, Verifier

ROLLOUTS_VERSION = "rollouts-1"
"""Changes with the code below and with the traces that are labelled: part of the rollouts' fingerprint."""

LOST = ("over_context", "engine_poison")
"""Ends of a sample that say nothing about the step."""

Solutions = tuple[str | None, ...]
"""Of one beginning: a whole solution; empty if it came to no end; None if the engine could not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A solution up to the end of one of its steps, and what its samples are verified against."""

    question: str
    wording: prompts.Wording
    gold: str
    task: str
    text: str

    @property
    def key(self) -> str:
        """32 hex digits: names its requests and seeds their samples."""
        return hashlib.sha256(json.dumps(astuple(self)).encode("ascii")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutsSetup:
    """Rollouts as a flow uses them: their config, the engines, and the content hash of the model that goes on."""

    config: RolloutsConfig
    engine: EngineConfig
    revision: str

    @property
    def key(self) -> dict[str, Any]:
        """What makes its samples other samples; part of their fingerprint."""
        return {
            "version": ROLLOUTS_VERSION,
            "model": self.revision,
            "dtype": self.config.model.dtype,
            "max_model_len": self.config.model.max_model_len,
            "wording": self.config.model.prompts,
            "prompt_hash": prompts.prompt_hash(),
            "samples": self.config.samples,
            "sampling": self.config.sampling.model_dump(mode="json"),
        }


def setup(
    config: RolloutsConfig | None, *, engine: EngineConfig | None = None, teacher: ModelConfig | None = None
) -> RolloutsSetup | None:
    """The rollouts of a flow whose section `engine` runs `teacher` (see engine_of); None without any.

    Raises ModelError, and ConfigError for a server that cannot go on from the middle of a turn.
    """
    if config is None:
        return None
    used = engine_of(config.model, config.engine, flow=engine, teacher=teacher)
    model_dir, revision = model_files.source(config.model, used)
    if used.endpoint is not None and api_of(used.endpoint, model_dir=model_dir) == "chat":
        raise ConfigError(
            "examples.rollouts: a chat API starts a new turn and cannot go on from the middle of one; set "
            "engine.endpoint.api: completions with the model's local directory as path, or use engine.kind vllm"
        )
    return RolloutsSetup(config=config, engine=used, revision=revision)


def rolled_out_by(rollouts: RolloutsSetup | None) -> RolloutsConfig | None:
    """The same rollouts on the same engines, for a flow without an engine section."""
    return rollouts.config.model_copy(update={"engine": rollouts.engine}) if rollouts else None


async def go_on(
    begun: Sequence[Begun], *, engine: Generates, samples: int, sampling: SamplingConfig
) -> list[Solutions]:
    """The sampled solutions of each beginning, in order. Whatever the engine raises ends all of it."""

    async def one(each: Begun) -> Solutions:
        return await _samples(each, engine=engine, samples=samples, sampling=sampling)

    return await ask_each(begun, one)


async def _samples(begun: Begun, *, engine: Generates, samples: int, sampling: SamplingConfig) -> Solutions:
    so_far: Message = {"role": "assistant", "content": begun.text}
    messages = [*prompts.first_answer(begun.question, wording=begun.wording), so_far]
    prompt = fitting_prompt(messages, engine=engine, max_tokens=sampling.max_tokens)
    if prompt is None:
        return (None,) * samples
    key = begun.key

    async def one(number: int) -> str | None:
        made = await engine.generate(
            Request(
                prompt=prompt,
                sampling=sampling,
                seed=request_seed(key, round=1, agent=number, base_seed=0),
                work_id=key,
                problem_id=key,
                round=1,
                agent=number,
            )
        )
        if made.finish_reason in LOST:
            return None
        return begun.text + made.text if made.finish_reason == "stop" else ""

    return tuple(await asyncio.gather(*(one(number) for number in range(1, samples + 1))))


def verified(begun: Sequence[Begun], solutions: Sequence[Solutions], *, verifier: Verifier) -> list[Reached]:
    """How far each beginning came, in order. Where the rules leave a sample undecided and none is right, nothing is
    known of the step: a right solution in a form that they cannot read must not make it a wrong one."""
    cases = [
        [Case(response=text, gold=b.gold, task=b.task, question=b.question) for text in texts if text is not None]
        for b, texts in zip(begun, solutions, strict=True)
    ]
    verdicts = iter(verifier.verify_many([case for of_one in cases for case in of_one]))
    labels = [[next(verdicts).label for _ in of_one] for of_one in cases]
    return [_reached(found) for found in labels]


def _reached(labels: Sequence[VerdictLabel]) -> Reached:
    right, undecided = labels.count("correct"), labels.count("undecided")
    return Reached(right=right, decided=len(labels) - undecided if right or not undecided else 0)
