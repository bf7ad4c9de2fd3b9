"""Control flow of a debate and what all strategies share, against a scripted engine."""

from __future__ import annotations

import pytest
from scripted import Scripted, boxed, run, split

from agentark_core.discussion import ending, loops
from agentark_core.types import SUMMARISER


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


def test_truncated_solutions_are_not_shown_to_peers() -> None:
    engine = Scripted(split, finish="length")
    result = run(engine, num_agents=2, num_rounds=2)
    assert {turn.status for turn in result.turns} == {"truncated"}
    assert result.stop_reason == "failed"
    assert "gave no complete solution" in engine.shown[(2, 1)]


def test_prompt_over_the_context_never_reaches_the_engine() -> None:
    engine = Scripted(split, context=60)
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


def long_answer(round: int, agent: int) -> str:
    return "\n".join(f"Step {step}: agent {agent} counts to {step}." for step in range(40)) + "\n" + boxed(agent)


@pytest.mark.parametrize("layout", ["board", "peers", "history"])
def test_solutions_over_the_context_are_shortened_to_their_ends_alike(layout: str) -> None:
    engine = Scripted(long_answer, context=4_000)
    result = run(engine, num_agents=5, num_rounds=2, layout=layout, summariser="always", sampling={"max_tokens": 100})
    assert {turn.status for turn in result.turns} == {"ok"}
    second = [turn for turn in result.turns if turn.round == 2]
    assert len({turn.shown_limit for turn in second}) == 1 and 0 < second[0].shown_limit < len(long_answer(1, 1))
    assert all(turn.prompt_tokens + 100 <= 4_000 for turn in second)
    assert max(turn.prompt_tokens for turn in second) > 3_500, "no more is cut than is needed"
    assert all(boxed(n) in engine.shown[(2, 1)] for n in (2, 3, 4, 5)), "the end of a solution holds its answer"
    assert "..." in engine.shown[(2, 1)] and "Step 0:" not in engine.shown[(2, 1)]


def test_over_context_instead_of_shortening_on_request() -> None:
    result = run(
        Scripted(long_answer, context=4_000),
        num_agents=5,
        num_rounds=2,
        long_solutions="over_context",
        sampling={"max_tokens": 100},
    )
    assert [turn.status for turn in result.turns] == ["ok"] * 5 + ["over_context"] * 5 + ["ok"]
    assert result.answer == "0", "only the summariser, who sees nothing, has an answer"


def test_an_ending_starts_at_a_line_and_is_no_longer_than_asked() -> None:
    assert ending("short", 10) == "short"
    assert ending("one\ntwo\nthree", 9) == "...three"
    assert ending("x" * 50 + "7", 10) == "...xxxxxxxxx7"


@pytest.mark.parametrize(
    ("text", "is_loop"),
    [
        ("so we add 7. " * 40, True),
        ("A long beginning that is fine. " + "no " * 200, True),
        ("0" * 500, True),
        ("".join(f"Step {n}: {n} + 1 = {n + 1}\n" for n in range(60)), False),
        ("one two three", False),
        ("", False),
    ],
)
def test_repeat_loops_are_told_from_long_reasoning(text: str, is_loop: bool) -> None:
    assert loops(text) is is_loop


def test_a_loop_that_was_cut_off_is_a_repeat_loop_and_has_no_answer() -> None:
    result = run(Scripted(lambda round, agent: "The answer is 42. " * 50, finish="length"), num_agents=2, num_rounds=1)
    assert {(turn.status, turn.answer) for turn in result.turns if turn.agent} == {("repeat_loop", None)}


def test_peers_see_thinking_only_on_request() -> None:
    for show in (False, True):
        engine = Scripted(split, thinking="hm, let me see")
        result = run(engine, num_agents=2, num_rounds=2, show_thinking=show)
        assert ("let me see" in engine.shown[(2, 1)]) is show
        assert all(turn.thinking == "hm, let me see" for turn in result.turns)


def test_the_decision_is_the_summary_or_the_vote() -> None:
    def answer(round: int, agent: int) -> str:
        return boxed(7) if agent == SUMMARISER else boxed(42 if agent < 3 else 1)

    assert run(Scripted(answer), num_agents=3, summariser="always").answer == "7"
    assert run(Scripted(answer), num_agents=3, summariser="never").answer == "42"
