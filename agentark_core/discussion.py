"""One question under discussion: a strategy asks for turns, this makes them and keeps every one.

A strategy (agentark_core/strategies/) is an async function of a Discussion. It decides who speaks when and what each
prompt shows; here is what all strategies share: the context is planned before the call, turns of an interrupted run
are not made again, seeds follow from the key, and every turn ends with a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from agentark_core import answers, prompts
from agentark_core.benchmark_prompts import shot_chat
from agentark_core.config import DebateConfig
from agentark_core.engines.base import Prompt, Request
from agentark_core.ledger import request_seed
from agentark_core.types import Debate, Generation, Message, Problem, Role, Turn, TurnStatus

MIN_SHOWN = 32
"""Characters: solutions are not shortened below this; a prompt that is still too long ends as `over_context`."""

ShowText = Callable[[Turn], str | None]
"""A turn's solution as others may see it: None if it has none, shortened if the context asks for it."""


class Generates(Protocol):
    """What a discussion needs of an engine."""

    @property
    def max_model_len(self) -> int: ...
    def prompt(self, messages: list[Message]) -> Prompt: ...
    async def generate(self, request: Request) -> Generation: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How every question of a run is discussed; part of the work key."""

    config: DebateConfig
    wording: prompts.Wording
    base_seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a strategy returns: why it ended, and its decision (None: it came to none)."""

    stop_reason: str
    answer: str | None


class Discussion:
    """One question and everything that was said about it.

    Attributes: problem; config; wording; turns (every turn so far, in the order in which they were asked for).
    """

    def __init__(
        self,
        problem: Problem,
        *,
        work_id: str,
        plan: Plan,
        engine: Generates,
        recorded: Mapping[tuple[int, int], Turn],
        on_turn: Callable[[Turn], None],
    ) -> None:
        """recorded: turns by (round, agent) that an interrupted run already journaled. on_turn sees each new turn."""
        self.problem = problem
        self.config = plan.config
        self.wording = plan.wording
        self.turns: list[Turn] = []
        self._shots = shot_chat(problem.shots, wording=plan.wording)
        self._work_id = work_id
        self._base_seed = plan.base_seed
        self._engine = engine
        self._recorded = recorded
        self._on_turn = on_turn

    async def ask(
        self,
        build: Callable[[ShowText], Sequence[list[Message]]],
        *,
        round: int,
        agents: Sequence[int],
        role: Role = "agent",
    ) -> list[Turn]:
        """Let agents speak at the same time; returns their turns in the order of agents.

        build makes the chat of each agent from the texts that it is given. If the longest chat does not fit the
        context, all solutions in it are shortened to the same length, the longest that fits (Discussion.fit); so a
        board stays one prefix for all. (round, agent) must be new: it is the turn's key.
        """
        known = [self._recorded.get((round, agent)) for agent in agents]
        if all(turn is not None for turn in known):
            turns = [turn for turn in known if turn is not None]
        else:
            fitted, limit = self._fit(build)
            turns = await _settle(
                [
                    self._speak(prompt, round=round, agent=agent, role=role, limit=limit)
                    for prompt, agent in zip(fitted, agents, strict=True)
                ]
            )
        self.turns += turns
        return turns

    def agreement(self, turns: Sequence[Turn]) -> float:
        """Share (0..1) of the turns in the largest group of equivalent answers; turns without an answer disagree."""
        return answers.agreement([turn.answer for turn in turns], task=self.problem.task)

    def vote(self, turns: Sequence[Turn]) -> str | None:
        """The answer that most turns gave; None if none has one."""
        return answers.majority([turn.answer for turn in turns], task=self.problem.task)

    def same(self, a: str | None, b: str | None) -> bool:
        """Whether two answers are equivalent by the verifier's rules; a missing answer equals nothing."""
        return a is not None and b is not None and answers.equivalent(a, b, task=self.problem.task)

    def _fit(self, build: Callable[[ShowText], Sequence[list[Message]]]) -> tuple[list[Prompt], int]:
        """The prompts, and the number of characters to which their solutions had to be shortened (0: not at all)."""
        room = self._engine.max_model_len - self.config.sampling.max_tokens

        def prompts_with(limit: int) -> list[Prompt]:
            # Tokenising is half of what a discussion costs, so nothing does it again after this.
            return [self._engine.prompt([*self._shots, *chat]) for chat in build(lambda turn: text(turn, limit))]

        def text(turn: Turn, limit: int) -> str | None:
            # A truncated text would invite continuation, so only complete solutions are shown.
            if turn.status != "ok":
                return None
            shown = f"{turn.thinking}\n{turn.text}" if self.config.show_thinking and turn.thinking else turn.text
            return ending(shown, limit) if limit else shown

        best, best_limit = prompts_with(0), 0
        if self.config.long_solutions == "over_context" or all(prompt.length <= room for prompt in best):
            return best, 0
        low, high = MIN_SHOWN, max((len(turn.text) + len(turn.thinking) for turn in self.turns), default=0)
        while low <= high:
            middle = (low + high) // 2
            shortened = prompts_with(middle)
            if all(prompt.length <= room for prompt in shortened):
                best, best_limit, low = shortened, middle, middle + 1
            else:
                high = middle - 1
        return best, best_limit

    async def _speak(self, prompt: Prompt, *, round: int, agent: int, role: Role, limit: int) -> Turn:
        known = self._recorded.get((round, agent))
        if known is not None:
            return known
        seed = request_seed(self._work_id, round=round, agent=agent, base_seed=self._base_seed)
        sampling = self.config.sampling
        if prompt.length + sampling.max_tokens > self._engine.max_model_len:
            # Planned before the call: a prompt over the context can kill an engine (F29).
            generation = Generation(
                text="", prompt_tokens=0, cached_tokens=0, completion_tokens=0, finish_reason="over_context"
            )
        else:
            generation = await self._engine.generate(
                Request(
                    prompt=prompt,
                    sampling=sampling,
                    seed=seed,
                    work_id=self._work_id,
                    problem_id=self.problem.problem_id,
                    round=round,
                    agent=agent,
                )
            )
        finished = generation.text and generation.finish_reason not in ("length", "repetition")
        answer = answers.extract(generation.text, task=self.problem.task) if finished else None
        turn = Turn(
            work_id=self._work_id,
            problem_id=self.problem.problem_id,
            round=round,
            agent=agent,
            seed=seed,
            text=generation.text,
            answer=answer,
            prompt_tokens=generation.prompt_tokens,
            cached_tokens=generation.cached_tokens,
            completion_tokens=generation.completion_tokens,
            finish_reason=generation.finish_reason,
            status=_status(generation, answer=answer, role=role),
            role=role,
            thinking=generation.thinking,
            shown_limit=limit,
        )
        self._on_turn(turn)
        return turn

    def debate(self, outcome: Outcome) -> Debate:
        """Everything that was said, with the outcome. It failed if no solution of the last round has an answer."""
        whole = Debate(
            work_id=self._work_id,
            problem=self.problem,
            turns=tuple(self.turns),
            stop_reason=outcome.stop_reason,
            answer=outcome.answer,
        )
        if outcome.answer is None and all(turn.answer is None for turn in whole.final_turns):
            return Debate(
                work_id=self._work_id, problem=self.problem, turns=whole.turns, stop_reason="failed", answer=None
            )
        return whole


def ending(text: str, limit: int) -> str:
    """The last `limit` characters of a solution, from the next line start if there is one: its answer stands there."""
    if len(text) <= limit:
        return text
    tail = text[-limit:]
    line = tail.find("\n")
    return "..." + (tail[line + 1 :] if 0 <= line < len(tail) - 1 else tail)


LOOP_SHARE = 0.5
MAX_PERIOD = 400


def loops(text: str) -> bool:
    """Whether the last half of a text is one piece of up to MAX_PERIOD characters, said at least four times."""
    tail = text[-max(int(len(text) * LOOP_SHARE), 1) :]
    # The failure function of Knuth, Morris and Pratt on the reversed tail gives its shortest period in linear time.
    tail = tail[-8 * MAX_PERIOD :]
    borders = [0] * len(tail)
    for i in range(1, len(tail)):
        k = borders[i - 1]
        while k and tail[i] != tail[k]:
            k = borders[k - 1]
        borders[i] = k + (tail[i] == tail[k])
    period = len(tail) - borders[-1] if tail else 0
    return 0 < period <= min(MAX_PERIOD, len(tail) // 4)


def _status(generation: Generation, *, answer: str | None, role: Role) -> TurnStatus:
    match generation.finish_reason:
        case "over_context":
            return "over_context"
        case "engine_poison":
            return "engine_poison"
        case "repetition":
            return "repeat_loop"
        case "length":
            return "repeat_loop" if loops(generation.text or generation.thinking) else "truncated"
    # A critic or judge owes a text, a solution owes an answer.
    return "ok" if answer is not None or (role in ("critic", "judge") and generation.text) else "no_answer"


T = TypeVar("T")


async def _settle(turns: Sequence[Awaitable[T]]) -> list[T]:
    """Await all, then raise the first error: when one turn is refused, its siblings still end and are journaled."""
    results: list[Any] = await asyncio.gather(*turns, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
