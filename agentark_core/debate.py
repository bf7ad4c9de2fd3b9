"""One question's debate as an async function over the `Generate` protocol (method.md section 1).

Round 1: every agent answers alone. Round k > 1: every agent sees the solutions of round k-1 in the configured layout.
The debate ends at the last round, or earlier when at least `quorum` of the agents agree by the verifier's
equivalence. Then the summariser may speak once. A question never waits for another one, so there is no barrier
between rounds; within a question a round waits for its own agents only.

With one agent, one round and no summariser this is a plain single answer; with n agents and one round it is n
independent samples for self-consistency. Evaluation uses exactly these forms, so all figures come from one code path.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agentark_core import answers, prompts
from agentark_core.config import DebateConfig, SamplingConfig
from agentark_core.ledger import request_seed
from agentark_core.types import SUMMARISER, Debate, Generation, Message, Problem, Turn, TurnStatus


class Generate(Protocol):
    """What a debate needs of an engine."""

    @property
    def max_model_len(self) -> int:
        """Context of the model in tokens (prompt and completion)."""
        ...

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of the chat prompt, by the model's own template."""
        ...

    async def generate(
        self, prompt_ids: list[int], *, sampling: SamplingConfig, seed: int, request_id: str
    ) -> Generation:
        """Complete one prompt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How every question of a run is debated; part of the work key."""

    config: DebateConfig
    wording: prompts.Wording
    base_seed: int


async def run(
    problem: Problem,
    *,
    work_id: str,
    plan: Plan,
    engine: Generate,
    recorded: Mapping[tuple[int, int], Turn],
    on_turn: Callable[[Turn], None],
) -> Debate:
    """Debate one question.

    recorded holds turns that an earlier, interrupted run already journaled, by (round, agent); they are not generated
    again. on_turn is called once for each new turn, as soon as it is finished.
    """
    config = plan.config
    turns: list[Turn] = []

    async def speak(messages: list[Message], *, round: int, agent: int) -> Turn:
        known = recorded.get((round, agent))
        if known is not None:
            return known
        turn = await _generate(
            messages, problem=problem, work_id=work_id, plan=plan, engine=engine, round=round, agent=agent
        )
        on_turn(turn)
        return turn

    last: list[Turn] = []
    stop_reason = "rounds"
    for round in range(1, config.num_rounds + 1):
        prompts_A = [
            prompts.first_answer(problem.question, wording=plan.wording)
            if round == 1
            else prompts.debate_turn(
                problem.question,
                _solutions(last),
                answers={turn.agent: turn.answer for turn in last},
                agent=agent,
                layout=config.layout,
                wording=plan.wording,
            )
            for agent in range(1, config.num_agents + 1)
        ]
        last = await asyncio.gather(
            *(speak(messages, round=round, agent=agent) for agent, messages in enumerate(prompts_A, start=1))
        )
        turns += last
        if config.num_agents > 1 and config.quorum > 0 and agreement(last, task=problem.task) >= config.quorum:
            stop_reason = "consensus"
            break
    unanimous = agreement(last, task=problem.task) == 1.0
    if config.summariser == "always" or (config.summariser == "when_split" and not unanimous):
        messages = prompts.summary(
            problem.question,
            _solutions(last),
            answers={turn.agent: turn.answer for turn in last},
            wording=plan.wording,
        )
        turns.append(await speak(messages, round=last[0].round + 1, agent=SUMMARISER))
    if all(turn.answer is None for turn in last):
        stop_reason = "failed"
    return Debate(work_id=work_id, problem=problem, turns=tuple(turns), stop_reason=stop_reason)


def agreement(turns: list[Turn], *, task: str) -> float:
    """Share (0..1) of the agents in the largest group of equivalent answers; agents without an answer disagree."""
    clusters = answers.group([turn.answer for turn in turns], task=task)
    sizes = Counter(cluster for cluster in clusters if cluster is not None)
    return max(sizes.values(), default=0) / len(turns)


def _solutions(turns: list[Turn]) -> dict[int, str | None]:
    """What others may see of a round: complete solutions only (a truncated text would invite continuation)."""
    return {turn.agent: turn.text if turn.status == "ok" else None for turn in turns}


async def _generate(
    messages: list[Message],
    *,
    problem: Problem,
    work_id: str,
    plan: Plan,
    engine: Generate,
    round: int,
    agent: int,
) -> Turn:
    seed = request_seed(work_id, round=round, agent=agent, base_seed=plan.base_seed)
    sampling = plan.config.sampling
    prompt_ids = engine.prompt_ids(messages)
    if len(prompt_ids) + sampling.max_tokens > engine.max_model_len:
        # Planned before the call: a prompt over the context can kill an engine (F29).
        generation = Generation(
            text="",
            prompt_tokens=len(prompt_ids),
            cached_tokens=0,
            completion_tokens=0,
            finish_reason="over_context",
        )
    else:
        generation = await engine.generate(
            prompt_ids, sampling=sampling, seed=seed, request_id=f"{work_id}-{round}-{agent}"
        )
    complete = generation.text and generation.finish_reason != "length"
    answer = answers.extract(generation.text, task=problem.task) if complete else None
    return Turn(
        work_id=work_id,
        problem_id=problem.problem_id,
        round=round,
        agent=agent,
        seed=seed,
        text=generation.text,
        answer=answer,
        prompt_tokens=generation.prompt_tokens,
        cached_tokens=generation.cached_tokens,
        completion_tokens=generation.completion_tokens,
        finish_reason=generation.finish_reason,
        status=_status(generation, answer=answer),
    )


def _status(generation: Generation, *, answer: str | None) -> TurnStatus:
    if generation.finish_reason == "over_context":
        return "over_context"
    if generation.finish_reason == "length":
        return "truncated"
    return "ok" if answer is not None else "no_answer"
