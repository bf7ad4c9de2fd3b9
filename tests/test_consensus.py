"""What stopping at a consensus would change, on a small ledger with figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home, verify

from agentark_core.consensus import measure, render
from agentark_core.errors import ConfigError, EmptyDataset
from agentark_core.types import Debate

DEBATES = [
    make_debate(1, [[6, 6, 6], [6, 6, 7], [6, 7, 7]], gold=6),  # agreed in round 1, right; then talked out of it
    make_debate(2, [[5, 4, 5], [5, 5, 5], [5, 5, 5]], gold=5),  # agreed in round 2
    make_debate(3, [[1, 2, 3], [1, 2, 3], [1, 1, 2]], gold=1),  # never agreed
    make_debate(4, [[8, 8, 8], [9, 9, 9], [9, 9, 9]], gold=9),  # agreed in round 1, wrong; then put right
]


def ledger(home: Path, debates: list[Debate], **config: object) -> None:
    store = make_home(home, [debate.problem for debate in debates[:2]], [d.problem for d in debates[2:]], **config)
    for shard, part in (("00000", debates[:2]), ("00001", debates[2:])):
        commit_debates(store, shard, part)
        verify(home, shard, part)


def test_stopping_is_compared_with_the_same_debates_in_full(tmp_path: Path) -> None:
    ledger(tmp_path, DEBATES)
    found = measure(tmp_path, run=RUN, quorum=1.0)
    assert (found.questions, found.early, found.stops) == (4, 3, {1: 2, 2: 1})
    assert (found.same, found.same_early) == (2, 1)
    assert (found.correct_stopped, found.correct_full) == (3, 3)
    assert found.test is not None
    assert (found.test.n, found.test.only_a, found.test.only_b, found.test.difference) == (4, 1, 1, 0.0)
    assert (found.saved_turns, found.turns) == (6 + 3 + 6, 4 * 9)
    # A round's tokens: 36, 66, 96.
    assert (found.saved_tokens, found.completion_tokens) == ((66 + 96) + 96 + (66 + 96), 4 * 198)


def test_a_lower_quorum_stops_earlier(tmp_path: Path) -> None:
    ledger(tmp_path, DEBATES)
    found = measure(tmp_path, run=RUN, quorum=0.6)
    assert (found.early, found.stops, found.saved_turns) == (3, {1: 3}, 18)
    assert (found.same, found.correct_stopped, found.correct_full) == (2, 3, 3)


def test_debates_without_an_answer_are_the_same_and_wrong(tmp_path: Path) -> None:
    silent = make_debate(1, [[None] * 3] * 3, gold=6, stop_reason="failed")
    late = make_debate(2, [[None] * 3, [None] * 3, [5, 5, 5]], gold=5)
    ledger(tmp_path, [silent, late, *DEBATES[2:]])
    found = measure(tmp_path, run=RUN, quorum=1.0)
    assert (found.early, found.same, found.correct_full) == (1, 3, 3)


def test_report_gives_every_share_with_n_and_interval(tmp_path: Path) -> None:
    ledger(tmp_path, DEBATES)
    lines = render(tmp_path, run=RUN, quorum=1.0).splitlines()
    rows = {line[1:40].strip(): line[40:].split() for line in lines}
    assert rows["same answer, all"] == ["2", "4", "50.0", "[15.0,", "85.0]"]
    assert rows["same answer, of those that stop early"][:3] == ["1", "3", "33.3"]
    assert rows["completion tokens saved"] == ["420", "792", "53.0"]
    assert any("on 4 questions decided for both" in line for line in lines)


def test_a_run_that_stopped_itself_is_refused_with_the_remedy(tmp_path: Path) -> None:
    ledger(tmp_path, DEBATES, quorum=1.0)
    with pytest.raises(ConfigError, match=r"debate\.quorum 1, so .* --set debate\.quorum=0 --set problems\.limit=200"):
        measure(tmp_path, run=RUN, quorum=1.0)


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such debate run"):
        measure(tmp_path, run=RUN, quorum=1.0)
    store = make_home(tmp_path, [debate.problem for debate in DEBATES])
    with pytest.raises(EmptyDataset, match="no shard is verified yet"):
        measure(tmp_path, run=RUN, quorum=1.0)
    commit_debates(store, "00000", DEBATES)
    with pytest.raises(EmptyDataset, match="no shard is verified yet"):
        measure(tmp_path, run=RUN, quorum=1.0)
    with pytest.raises(ConfigError, match="--quorum 0"):
        measure(tmp_path, run=RUN, quorum=0)


@pytest.mark.parametrize("config", [{"num_agents": 1}, {"num_rounds": 1}, {"strategy": "single"}])
def test_debates_without_a_later_round_to_stop_before_are_refused(tmp_path: Path, config: dict[str, object]) -> None:
    make_home(tmp_path, [DEBATES[0].problem], **config)
    with pytest.raises(ConfigError, match=r"--set debate\.quorum=0"):
        measure(tmp_path, run=RUN, quorum=1.0)
