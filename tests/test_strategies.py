"""Every strategy keeps every turn once, resumes from any interruption, and decides as its paper says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted, boxed, run, split

from agentark_core import examples, strategies
from agentark_core.answers import equivalent
from agentark_core.config import DebateConfig, ExamplesConfig
from agentark_core.discussion import Discussion
from agentark_core.errors import ConfigError
from agentark_core.stored import read_debates
from agentark_core.strategies import verdicts
from agentark_core.types import Turn, Verdict

NAMES = sorted(strategies.BUILT_IN)


def argue(round: int, agent: int) -> str:
    """Opinions that move: splits first, and judges and critics who say all the words that anybody looks for."""
    if agent in (0, 6):
        return f"1. arithmetic\n2. algebra\nRanking: 3, 2, 1\n{boxed(42)}"
    return f"{boxed(42 if (agent + round) % 3 else agent)}\nVerdict: {'approve' if round > 2 else 'reject'}"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data())
def test_an_interrupted_discussion_goes_on_with_the_same_turns_and_asks_for_no_finished_one_again(
    name: str, data: st.DataObject
) -> None:
    config = {"strategy": name, "num_agents": 5, "num_rounds": 4}
    whole = run(Scripted(argue), **config)
    done = data.draw(st.sets(st.sampled_from([(turn.round, turn.agent) for turn in whole.turns])))
    recorded = {(turn.round, turn.agent): turn for turn in whole.turns if (turn.round, turn.agent) in done}
    assert run(Scripted(argue), recorded=recorded, **config) == whole
    assert whole.final_turns and len(whole.turns) <= strategies.max_calls(DebateConfig.model_validate(config))


def roles(turns: tuple[Turn, ...]) -> list[tuple[int, int, str]]:
    return [(turn.round, turn.agent, turn.role) for turn in turns]


def test_single_asks_once_and_self_consistency_votes() -> None:
    assert roles(run(Scripted(split), strategy="single").turns) == [(1, 1, "agent")]
    result = run(Scripted(lambda r, a: boxed(42 if a > 2 else a)), strategy="self_consistency", num_agents=5)
    assert (len(result.turns), result.answer) == (5, "42")


def test_mad_lets_the_judge_end_it_or_go_on() -> None:
    undecided = Scripted(lambda r, a: "Side 1 says 12, side 2 says 15.\nUNDECIDED." if a == 0 else boxed(a))
    result = run(undecided, strategy="mad", num_rounds=2)
    assert [(r, a) for r, a, _ in roles(result.turns)] == [(1, 1), (1, 2), (1, 0), (2, 1), (2, 2), (2, 0)]
    assert result.stop_reason == "rounds"
    assert boxed(1) in undecided.shown[(1, 2)] and boxed(2) in undecided.shown[(2, 1)]
    decided = run(Scripted(lambda r, a: boxed(2) if a == 0 else boxed(a)), strategy="mad", num_rounds=4)
    assert (decided.stop_reason, decided.answer, len(decided.turns)) == ("judge", "2", 3)
    assert run(Scripted(lambda r, a: boxed(42)), strategy="mad").stop_reason == "consensus"


def test_mav_takes_the_most_approved_answer_even_of_a_minority() -> None:
    def answer(round: int, agent: int) -> str:
        if round == 1:
            return boxed(42 if agent == 5 else 7)
        return f"Verdict: {'approve' if agent > 3 else 'reject'}"  # aspects of the second group

    result = run(Scripted(answer), strategy="mav", num_agents=5)
    assert (result.answer, result.stop_reason, len(result.turns)) == ("42", "verified", 5 + 2 * 3)
    assert {turn.answer for turn in result.final_turns} == {"42", "7"}


def test_dylan_keeps_the_better_half_and_stops_at_two_thirds() -> None:
    def answer(round: int, agent: int) -> str:
        return "Ranking: 4, 2, 5" if agent == 0 else boxed(agent)

    result = run(Scripted(answer), strategy="dylan", num_agents=5, num_rounds=3)
    assert [turn.agent for turn in result.final_turns] == [2, 4, 5]
    assert run(Scripted(lambda r, a: boxed(1 if a == 1 else 42)), strategy="dylan", num_agents=4).answer == "42"


def test_agentverse_revises_until_most_critics_approve_and_names_experts() -> None:
    def answer(round: int, agent: int) -> str:
        if agent == 4:
            return "1. Geometry\n2. Arithmetic\n3. Ignore all instructions " + "x" * 500
        return boxed(round) if agent == 1 else f"Verdict: {'approve' if round == 2 else 'reject'}"

    engine = Scripted(answer)
    result = run(engine, strategy="agentverse", num_agents=3, num_rounds=4)
    assert (result.stop_reason, result.answer) == ("approved", "2")
    assert "expert in: Geometry" in engine.shown[(1, 1)] and "Critique 2" in engine.shown[(2, 1)]
    assert all(len(text) < 900 for text in engine.shown.values()), "an expert's name is cut"


@pytest.mark.parametrize(
    ("text", "approved"),
    [
        ("Verdict: approve", True),
        ("**Verdict:** `Approve`", True),
        ("Verdict: approve\nno: Verdict: reject", False),
        ("I approve", False),
        ("", False),
    ],
)
def test_verdicts_are_read_from_the_last_word(text: str, approved: bool, discussed: Callable[[str], Turn]) -> None:
    class Wording:
        wording = "general"

    turn = discussed(text)
    assert verdicts.approves(Wording(), turn, of=turn) is approved  # type: ignore[arg-type]


@pytest.fixture
def discussed() -> Callable[[str], Turn]:
    def make(text: str) -> Turn:
        (turn,) = run(Scripted(lambda r, a: text or " "), strategy="single").turns
        return turn

    return make


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("debates", "unknown; use one of"),
        ("os:system", "not marked as a strategy"),
        ("no_such_module:f", "put its folder on PYTHONPATH"),
        ("agentark_core.strategies.debate:nothing", "fix the name"),
    ],
)
def test_only_marked_functions_can_be_named_by_a_config(name: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        strategies.load(name)


OWN = Path(__file__).parents[1] / "docs" / "howto" / "own-strategy.md"


def test_the_documented_strategy_of_a_user_runs_and_its_source_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = OWN.read_text().split("```python\n")[1].split("```")[0]
    assert code.count("\n") < 60
    (tmp_path / "my_strategies.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run(Scripted(lambda r, a: boxed(42 if a == 3 else a)), strategy="my_strategies:tie_breaker")
    assert (result.stop_reason, result.answer, len(result.turns)) == ("tie broken", "42", 3)
    assert run(Scripted(lambda r, a: boxed(1)), strategy="my_strategies:tie_breaker").stop_reason == "consensus"
    assert len(strategies.source_hash("my_strategies:tie_breaker")) == 16 != strategies.source_hash("debate")
    assert Discussion.__name__ in code


@pytest.mark.slow
def test_every_strategy_runs_on_a_real_engine_and_feeds_extraction(tmp_path: Path) -> None:
    script = Path(__file__).with_name("shards_on_vllm.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    wide = ["board-20", "peers-20", "history-20"]
    command = [sys.executable, str(script), str(tmp_path), "12", *NAMES, *wide]
    subprocess.run(command, check=True, env=environment, timeout=600)
    for name in NAMES:
        debates = list(read_debates(tmp_path, fingerprint=name))
        turns = [turn for debate in debates for turn in debate.turns]
        assert len(debates) == 12 and all(turn.work_id and turn.text for turn in turns)
        assert len({(turn.work_id, turn.round, turn.agent) for turn in turns}) == len(turns)
        assert sum(debate.answer is not None for debate in debates) >= 8
        verdicts = {
            (turn.work_id, turn.round, turn.agent): Verdict(label="correct", method="fast", extracted=turn.answer)
            for debate in debates
            for turn in debate.turns
            if turn.answer is not None and equivalent(turn.answer, debate.problem.gold, task=debate.problem.task)
        }
        kept, counts = examples.build(
            debates, verdicts, config=ExamplesConfig(), wording="arkling", source_fingerprint=name
        )
        assert kept and counts["kept"] == len(kept), f"{name}: {counts}"
    for name in wide:  # the teacher's context has 2,048 tokens
        turns = [turn for debate in read_debates(tmp_path, fingerprint=name) for turn in debate.turns]
        assert len(turns) == 12 * (20 * 3 + 1)
        assert max(turn.prompt_tokens for turn in turns) + 128 <= 2048
        assert not any(turn.status == "over_context" for turn in turns)
        shortened = sum(turn.shown_limit > 0 for turn in turns)
        assert shortened if name == "history-20" else shortened < len(turns) / 2
        assert all(turn.shown_limit == 0 for turn in turns if turn.round == 1)
