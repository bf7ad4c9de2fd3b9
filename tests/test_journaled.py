"""Debates of a running job, read from journals beside their writer."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home, make_turn, put, verify

from agentark_core import debates_view
from agentark_core.config import DebateConfig
from agentark_core.discussion import Plan
from agentark_core.journaled import read_journaled
from agentark_core.ledger import Store
from agentark_core.records import debates_to_table
from agentark_core.shards import shard_meta
from agentark_core.stored import RUN_LEASE
from agentark_core.types import Debate

WHOLE = make_debate(1, [[6, 7, 6], [6, 6, 6], [6, 6, 6]], gold=6)
HALF = make_debate(2, [[5, 4, 5], [5, 5]], gold=5)


def journal(store: Store, shard: str, *debates: Debate) -> None:
    with store.lease(shard, timeout_s=5), store.journal(shard) as target:
        target.append([dataclasses.asdict(turn) for debate in debates for turn in debate.turns])


def test_turns_are_read_while_their_shard_is_leased_and_written(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem, HALF.problem])
    reader = Store(tmp_path, stage="debates", fingerprint=RUN)
    with store.lease("00000", timeout_s=5) as lease, store.journal("00000") as target:
        assert reader.journaled("00000") == [] and reader.heartbeat("00000")
        target.append([dataclasses.asdict(WHOLE.turns[0])])
        assert [record["agent"] for record in reader.journaled("00000")] == [1]
        before = sorted(path.name for path in store.root.rglob("*"))
        (debate,) = read_journaled(tmp_path, fingerprint=RUN)
        assert (debate.turns, debate.stop_reason, debate.answer) == (WHOLE.turns[:1], "running", None)
        assert sorted(path.name for path in store.root.rglob("*")) == before
        lease.check()
    assert reader.heartbeat("00000") is None


def test_a_torn_tail_is_not_there_yet(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem, HALF.problem])
    journal(store, "00000", WHOLE, HALF)
    path = store.root / "journals" / "00000.1.journal"
    data = path.read_bytes()
    for cut in (1, 7, 100):
        path.write_bytes(data[:-cut])
        assert len(store.journaled("00000")) == 13


def test_the_newest_epoch_counts_also_when_shard_names_are_alike(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem, HALF.problem])
    for _ in range(10):
        with store.lease("00000", timeout_s=5), store.journal("00000"):
            pass
    journal(store, "00000", HALF)
    journal(store, "00000.12", WHOLE)
    stale = store.root / "journals" / "00000.2.journal"
    stale.write_bytes(b"of a holder that lost its lease while it slept")
    assert len(store.journaled("00000")) == 5


def test_a_journal_that_its_next_holder_removes_meanwhile_is_read_from_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_home(tmp_path, [WHOLE.problem, HALF.problem])
    journal(store, "00000", HALF)
    real, first = Path.read_bytes, [True]

    def read_bytes(path: Path) -> bytes:
        if path.suffix == ".journal" and first:
            first.clear()
            with store.lease("00000", timeout_s=5), store.journal("00000"):
                pass
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert len(store.journaled("00000")) == 5 and not first
    assert not (store.root / "journals" / "00000.1.journal").exists()


def test_debates_that_lack_no_turn_show_how_they_ended(tmp_path: Path) -> None:
    agreed = make_debate(3, [[9, 9, 9]], gold=9, stop_reason="consensus")
    store = make_home(tmp_path, [WHOLE.problem], [HALF.problem, agreed.problem], quorum=1.0, num_rounds=2)
    two_rounds = dataclasses.replace(WHOLE, turns=WHOLE.turns[:6])
    journal(store, "00000", two_rounds)
    journal(store, "00001", HALF, agreed)
    found = {debate.problem.problem_id: debate for debate in read_journaled(tmp_path, fingerprint=RUN)}
    assert found[WHOLE.problem.problem_id].stop_reason == "consensus"
    assert found[WHOLE.problem.problem_id].answer == "6"
    assert found[agreed.problem.problem_id] == agreed
    assert found[HALF.problem.problem_id].stop_reason == "running"


def test_a_missing_summary_is_a_missing_turn(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem], summariser="always")
    journal(store, "00000", WHOLE)
    (debate,) = read_journaled(tmp_path, fingerprint=RUN)
    assert debate.stop_reason == "running"
    summary = make_turn(WHOLE.problem, round=4, agent=0, answer=7, role="summariser")
    journal(store, "00000", dataclasses.replace(WHOLE, turns=(summary,)))
    (debate,) = read_journaled(tmp_path, fingerprint=RUN)
    assert (debate.stop_reason, debate.answer, debate.summary) == ("rounds", "7", summary)


def test_code_that_a_ledger_names_is_not_run_to_look_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    store = make_home(tmp_path, [WHOLE.problem], strategy="planted:strategy")
    journal(store, "00000", WHOLE)
    (debate,) = read_journaled(tmp_path, fingerprint=RUN)
    assert debate.stop_reason == "running"


def test_committed_shards_are_not_read_twice(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem], [HALF.problem])
    journal(store, "00000", WHOLE)
    journal(store, "00001", HALF)
    commit_debates(store, "00000", [WHOLE])
    assert [debate.work_id for debate in read_journaled(tmp_path, fingerprint=RUN)] == [HALF.work_id]


# ---- `agentark debates` ----


def view(home: Path, *, run: str = "", show: str = "") -> str:
    return debates_view.render(home, run=run, show=show, limit=20)


def test_runs_are_listed_with_their_state(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem], [HALF.problem])
    commit_debates(store, "00000", [WHOLE])
    assert "unfinished" in view(tmp_path) and "1 of 2" in view(tmp_path)
    with store.lease(RUN_LEASE, timeout_s=5):
        assert "running" in view(tmp_path)
    commit_debates(store, "00001", [HALF])
    assert "complete" in view(tmp_path)


def test_running_debates_are_listed_apart_and_shown_with_their_turns_so_far(tmp_path: Path) -> None:
    store = make_home(tmp_path, [WHOLE.problem], [HALF.problem])
    commit_debates(store, "00000", [WHOLE])
    verify(tmp_path, "00000", [WHOLE])
    journal(store, "00001", HALF)
    listed = view(tmp_path, run=RUN)
    journaled, _, committed = listed.partition("ended by: ")
    assert journaled.index(HALF.problem.problem_id) < journaled.index(WHOLE.problem.problem_id)
    (row,) = [line for line in listed.splitlines() if HALF.problem.problem_id in line]
    assert "running" in row and row.rstrip().endswith("5 5")
    assert "1 rounds" in committed
    shown = view(tmp_path, show=HALF.problem.problem_id)
    assert "running" in shown and "round 2, agent 2: 5" in shown and "round 2, agent 3" not in shown
    assert view(tmp_path, show=HALF.work_id) == shown
    assert "ended by: rounds" in view(tmp_path, show=WHOLE.work_id)


def test_rounds_table_has_flips_intervals_statuses_and_shortened_prompts(tmp_path: Path) -> None:
    turns = tuple(dataclasses.replace(turn, shown_limit=90 * (turn.round - 1)) for turn in WHOLE.turns)
    debates = [dataclasses.replace(WHOLE, turns=turns), make_debate(2, [[5, 5, None], [4, 5, 5], [4, 4, 5]], gold=5)]
    store = make_home(tmp_path, [debate.problem for debate in debates])
    commit_debates(store, "00000", debates)
    assert "vote correct" not in view(tmp_path, run=RUN), "nothing is verified"
    verify(tmp_path, "00000", debates)
    rows = [" ".join(line.split()) for line in view(tmp_path, run=RUN).splitlines()]
    start = next(number for number, row in enumerate(rows) if row.startswith("round "))
    assert rows[start + 2 : start + 7] == [
        "1 6 1 0 - - - 100.0 [34.2, 100.0] 2",  # statuses: 1 no_answer, 5 ok
        "no_answer,",
        "5 ok",
        "2 6 6 ok 3 2 1 6 100.0 [34.2, 100.0] 2",
        "3 6 6 ok 3 0 1 6 50.0 [9.5, 90.5] 2",
    ]
    shown = view(tmp_path, show=WHOLE.work_id)
    assert shown.count("solutions in the prompt shortened to 90 characters") == 3


def test_saved_turns_of_the_manifest_are_printed(tmp_path: Path) -> None:
    agreed = make_debate(3, [[9, 9, 9]], gold=9, stop_reason="consensus")
    plan = Plan(config=DebateConfig(num_agents=3, num_rounds=3), wording="general", base_seed=0)
    store = make_home(tmp_path, [agreed.problem], quorum=1.0)
    put(store, "00000", debates_to_table([agreed]), shard_meta([agreed], replayed=0, seconds=1.0, plan=plan))
    listed = view(tmp_path, run=RUN)
    assert "ended by: 1 consensus" in listed
    assert "saved by consensus stop: 6 turns, about 72 completion tokens" in listed


def test_hostile_text_is_shown_and_moves_no_cursor(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[link=file:///etc/passwd]x[/link] \u202e:skull: \ud800 5"
    turn = make_turn(HALF.problem, round=1, agent=1, answer=5, text=evil)
    store = make_home(tmp_path, [HALF.problem])
    journal(store, "00000", dataclasses.replace(HALF, turns=(dataclasses.replace(turn, answer=evil),)))
    for text in (view(tmp_path, run=RUN), view(tmp_path, show=HALF.work_id)):
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\ud800"}
        assert "[bold]5[/] * 1" in text, "markup of a question is text"
    assert "\\u001b[2J\\u001b]0;owned\\u0007[link=file:///etc/passwd]x[/link] \\u202e:skull: \\ud800 5" in text


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
