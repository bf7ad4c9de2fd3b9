"""Control flow of a debate, against a scripted engine that records what each agent was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentark_core import debate
from agentark_core.config import DebateConfig, SamplingConfig
from agentark_core.types import SUMMARISER, Debate, Generation, Message, Problem, Turn

PROBLEM = Problem(problem_id="p-1", dataset="t", task="number", question="What is 6 * 7?", gold="42")


class Scripted:
    """Answers by (round, agent); keeps the prompts. One token per character."""

    max_model_len = 100_000

    def __init__(self, answer: Callable[[int, int], str], *, finish: str = "stop") -> None:
        self.answer, self.finish = answer, finish
        self.shown: dict[tuple[int, int], str] = {}

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        return [ord(character) for character in messages[-1]["content"]]

    async def generate(
        self, prompt_ids: list[int], *, sampling: SamplingConfig, seed: int, request_id: str
    ) -> Generation:
        _, round, agent = request_id.split("-")
        key = (int(round), int(agent))
        self.shown[key] = "".join(map(chr, prompt_ids))
        await asyncio.sleep(0.001 * (10 - key[1]))  # later agents finish first
        text = self.answer(*key)
        return Generation(
            text=text,
            prompt_tokens=len(prompt_ids),
            cached_tokens=0,
            completion_tokens=len(text),
            finish_reason=self.finish,
        )


def run(engine: Scripted, *, recorded: dict[tuple[int, int], Turn] | None = None, **config: object) -> Debate:
    new: list[Turn] = []
    plan = debate.Plan(config=DebateConfig.model_validate(config), wording="general", base_seed=0)
    result = asyncio.run(
        debate.run(PROBLEM, work_id="w", plan=plan, engine=engine, recorded=recorded or {}, on_turn=new.append)
    )
    assert {(t.round, t.agent) for t in new} == {(t.round, t.agent) for t in result.turns} - set(recorded or {})
    return result


def boxed(value: object) -> str:
    return f"So it is \\boxed{{{value}}}."


def split(round: int, agent: int) -> str:
    return boxed(agent)


def test_every_agent_speaks_every_round_and_the_summariser_once() -> None:
    result = run(Scripted(split), num_agents=3, num_rounds=2)
    assert [(t.round, t.agent) for t in result.turns] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 0)]
    assert result.stop_reason == "rounds"
    assert result.final_round == 2


def test_unanimity_ends_the_debate_early() -> None:
    result = run(Scripted(lambda round, agent: boxed(agent if round == 1 else 42)), num_agents=3, num_rounds=5)
    assert (result.final_round, result.stop_reason) == (2, "consensus")


def test_equivalent_answers_are_a_consensus() -> None:
    result = run(Scripted(lambda round, agent: boxed(["1,200", "1200", "1200.0"][agent - 1])), num_agents=3)
    assert (result.final_round, result.stop_reason) == (1, "consensus")


def test_quorum_counts_agents_without_an_answer_as_disagreeing() -> None:
    def answer(round: int, agent: int) -> str:
        return boxed(42) if agent <= 3 else "I do not know"

    assert run(Scripted(answer), num_agents=4, quorum=0.75).stop_reason == "consensus"
    assert run(Scripted(answer), num_agents=4, quorum=0.8).stop_reason == "rounds"
    assert run(Scripted(answer), num_agents=4, quorum=0).stop_reason == "rounds"


def test_summariser_when_split_is_silent_after_unanimity() -> None:
    agreed = run(Scripted(lambda round, agent: boxed(42)), num_agents=3, summariser="when_split")
    assert agreed.summary is None
    assert run(Scripted(split), num_agents=3, summariser="when_split").summary is not None
    assert run(Scripted(split), num_agents=3, summariser="never").summary is None


def test_board_shares_one_prefix_and_marks_the_own_solution() -> None:
    engine = Scripted(split)
    run(engine, num_agents=3, num_rounds=2, layout="board")
    prompts = [engine.shown[(2, agent)] for agent in (1, 2, 3)] + [engine.shown[(3, SUMMARISER)]]
    tails = [prompt.removeprefix(prompts[0][: prompts[0].rindex("You are agent")]) for prompt in prompts[:3]]
    assert tails == [f"You are agent {n}; you wrote solution number {n}." for n in (1, 2, 3)]
    assert all(boxed(n) in prompt for prompt in prompts for n in (1, 2, 3))


def test_peers_hides_the_own_solution() -> None:
    engine = Scripted(split)
    run(engine, num_agents=3, num_rounds=2, layout="peers")
    assert boxed(2) not in engine.shown[(2, 2)]
    assert boxed(1) in engine.shown[(2, 2)] and boxed(3) in engine.shown[(2, 2)]


def test_truncated_solutions_are_not_shown_to_peers() -> None:
    engine = Scripted(split, finish="length")
    result = run(engine, num_agents=2, num_rounds=2)
    assert {turn.status for turn in result.turns} == {"truncated"}
    assert result.stop_reason == "failed"
    assert "gave no complete solution" in engine.shown[(2, 1)]


def test_prompt_over_the_context_never_reaches_the_engine() -> None:
    engine = Scripted(split)
    engine.max_model_len = 60
    result = run(engine, num_agents=2, num_rounds=1, sampling={"max_tokens": 50})
    assert {turn.status for turn in result.turns} == {"over_context"}
    assert engine.shown == {}


def test_recorded_turns_are_not_generated_again_and_the_rest_is() -> None:
    whole = run(Scripted(split), num_agents=3, num_rounds=2)
    half = {(turn.round, turn.agent): turn for turn in whole.turns[:4]}
    engine = Scripted(split)
    again = run(engine, recorded=half, num_agents=3, num_rounds=2)
    assert again == whole
    assert set(engine.shown) == {(2, 2), (2, 3), (3, 0)}


def test_every_turn_has_its_own_seed_and_the_same_seed_again() -> None:
    first, second = (run(Scripted(split), num_agents=3, num_rounds=2) for _ in range(2))
    assert [t.seed for t in first.turns] == [t.seed for t in second.turns]
    assert len({t.seed for t in first.turns}) == len(first.turns)


def test_single_answer_is_a_debate_of_one_agent_and_one_round() -> None:
    result = run(Scripted(lambda round, agent: boxed(42)), num_agents=1, num_rounds=1, quorum=0, summariser="never")
    assert len(result.turns) == 1
    assert result.turns[0].answer == "42"
