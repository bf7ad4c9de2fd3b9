"""Progress of debate runs from their usage files: totals, rates, liveness, and files that are not usage files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home, make_problem, write_usage

from agentark_core.errors import DataError
from agentark_core.ledger import Store
from agentark_core.progress import SILENT_AFTER_S, Progress, ProgressReader, metrics
from agentark_core.statistics import wilson


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ten_questions(home: Path) -> Store:
    return make_home(home, [make_problem(n, gold=n) for n in range(6)], [make_problem(n, gold=n) for n in range(6, 10)])


def look(home: Path, **usage: dict[str, Any]) -> Progress:
    """A second look, with all files changed since the first."""
    store, clock = Store(home, stage="debates", fingerprint=RUN), Clock()
    reader = ProgressReader(home, [RUN], clock=clock)
    reader.read()
    for name, fields in usage.items():
        write_usage(store, name, **fields)
    clock.now += 1
    return reader.read()


FIRST = {
    "questions": 3,
    "turns": 30,
    "correct": 2,
    "answered": 3,
    "running": 5,
    "slots": 16,
    "engine_seconds": 12.5,
    "busy_slot_seconds": 30.0,
    "slot_seconds": 40.0,
    "statuses": {"ok": 29, "truncated": 1},
    "stop_reasons": {"consensus": 3},
    "rounds": {
        "1": {"turns": 9, "prompt_tokens": 900, "cached_tokens": 450, "completion_tokens": 500},
        "2": {"turns": 9, "prompt_tokens": 1000, "cached_tokens": 800, "completion_tokens": 300},
    },
    "flips": {"2": {"to_right": 2, "to_wrong": 1}},
    "saved_turns": 6,
    "saved_tokens": 600,
    "cost": 1.5,
}
SECOND = {
    **FIRST,
    "questions": 1,
    "correct": 0,
    "answered": 0,
    "statuses": {"ok": 5, "no_answer": 5},
    "rounds": {"1": {"turns": 3, "prompt_tokens": 100, "cached_tokens": 50, "completion_tokens": 100}},
    "busy_slot_seconds": 10.0,
}


def test_files_of_all_starts_add_up(tmp_path: Path) -> None:
    ten_questions(tmp_path)
    progress = look(tmp_path, **{"h-1-aa": {**FIRST, "ended": True}, "h-2-bb": SECOND})
    assert (progress.questions, progress.total_questions, progress.counted) == (4, 10, 4)
    assert (progress.shards, progress.total_shards) == (0, 2)
    assert (progress.turns, progress.engine_seconds, progress.cost) == (60, 25.0, 3.0)
    assert progress.statuses == {"no_answer": 5, "ok": 34, "truncated": 1}
    assert progress.stop_reasons == {"consensus": 6}
    assert progress.rounds[1].completion_tokens == 600 and progress.completion_tokens == 900
    assert progress.cache_hits == {1: 0.5, 2: 0.8}
    assert (progress.flips[2].to_right, progress.flips[2].to_wrong) == (4, 2)
    assert progress.occupancy == 0.5
    assert (progress.saved_turns, progress.saved_tokens) == (12, 1200)


def test_accuracy_counts_every_finished_question_and_has_its_interval(tmp_path: Path) -> None:
    ten_questions(tmp_path)
    progress = look(tmp_path, **{"h-1-aa": FIRST, "h-2-bb": SECOND})
    assert (progress.correct, progress.counted, progress.answered) == (2, 4, 3)
    assert progress.accuracy == 0.5
    assert progress.accuracy_interval == wilson(2, 4)


def test_only_files_that_change_are_engines_at_work(tmp_path: Path) -> None:
    store, clock = ten_questions(tmp_path), Clock()
    write_usage(store, "h-1-aa", **FIRST)  # of a life that was killed
    write_usage(store, "h-2-bb", **SECOND)
    reader = ProgressReader(tmp_path, [RUN], clock=clock)
    assert (reader.read().engines, reader.read().lost) == (0, 0)
    write_usage(store, "h-2-bb", **{**SECOND, "running": 7})
    clock.now += 1
    progress = reader.read()
    assert (progress.engines, progress.running, progress.slots, progress.lost) == (1, 7, 16, 0)
    clock.now += SILENT_AFTER_S
    progress = reader.read()
    assert (progress.engines, progress.running, progress.lost) == (0, 0, 1)
    write_usage(store, "h-2-bb", **{**SECOND, "ended": True})
    progress = reader.read()
    assert (progress.engines, progress.lost) == (0, 0)


def test_rates_cover_the_last_minutes_and_give_the_time_left(tmp_path: Path) -> None:
    store, clock = ten_questions(tmp_path), Clock()

    def finish(questions: int, tokens: int) -> None:
        write_usage(store, "h-1-aa", questions=questions, rounds={"1": {"completion_tokens": tokens}})

    finish(1, 5_000)  # by an earlier start: no rate follows from it
    reader = ProgressReader(tmp_path, [RUN], clock=clock)
    assert reader.read().tokens_per_s is None
    for second in range(1, 101):
        clock.now += 1
        # 10 tokens a second, then 50; a question every 20 seconds.
        finish(1 + second // 20, 5_000 + 10 * second + 40 * max(0, second - 40))
        progress = reader.read()
    assert progress.tokens_per_s == pytest.approx(50)
    assert progress.questions == 6 and progress.questions_per_s == pytest.approx(0.05)
    assert progress.seconds_left == pytest.approx(4 / 0.05)


def test_time_left_is_unknown_while_nothing_finishes(tmp_path: Path) -> None:
    store, clock = ten_questions(tmp_path), Clock()
    write_usage(store, "h-1-aa", questions=2)
    reader = ProgressReader(tmp_path, [RUN], clock=clock)
    reader.read()
    clock.now += 30
    assert reader.read().seconds_left is None


def test_committed_questions_count_although_no_file_tells_of_them(tmp_path: Path) -> None:
    debates = [make_debate(n, [[1, 1, 1]], gold=1) for n in range(6)]
    store = make_home(tmp_path, [debate.problem for debate in debates], [make_problem(9, gold=1)])
    write_usage(store, "h-1-aa", questions=4)  # killed before it wrote the last two
    commit_debates(store, "00000", debates)
    progress = look(tmp_path)
    assert (progress.questions, progress.shards, progress.finished) == (6, 1, False)
    write_usage(store, "h-1-aa", questions=40)  # shards that were made again
    assert look(tmp_path).questions == 7


def test_an_engine_that_works_on_two_runs_has_its_slots_once(tmp_path: Path) -> None:
    store, clock = ten_questions(tmp_path), Clock()
    other = Store(tmp_path, stage="debates", fingerprint="00000000000000d2", config=store.config)
    reader = ProgressReader(tmp_path, [RUN, other.fingerprint], clock=clock)
    reader.read()
    write_usage(store, "host-7-aa", slots=16, running=5, questions=1)
    write_usage(other, "host-7-bb", slots=16, running=11, questions=2)
    progress = reader.read()
    assert (progress.engines, progress.slots, progress.running) == (1, 16, 16)
    assert (progress.questions, progress.total_questions) == (3, 20)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"questions": 3, "turns"',
        b"[1, 2]",
        b'{"questions": -1}',
        b'{"engine_seconds": NaN}',
        b'{"rounds": {"one": {}}}',
        b'{"statuses": {"ok": "many"}}',
        b"\xff\xfe\x00",
        b'{"x": "' + b"x" * 1_000_000 + b'"}',
        b"[" * 100_000,
    ],
)
def test_files_that_are_not_usage_files_are_told_and_left_out(tmp_path: Path, content: bytes) -> None:
    store = ten_questions(tmp_path)
    write_usage(store, "h-1-aa", **FIRST)
    (store.root / "usage" / "foreign.json").write_bytes(content)
    (store.root / "usage" / "h-9-cc.json.1234.tmp").write_bytes(content)
    progress = look(tmp_path)
    assert (progress.unreadable, progress.questions) == (1, 3)


def test_old_and_new_files_are_read_as_far_as_they_are_known(tmp_path: Path) -> None:
    ten_questions(tmp_path)
    progress = look(tmp_path, old={"questions": 1}, new={"questions": 2, "weather": {"rain": True}})
    assert (progress.questions, progress.unreadable, progress.cache_hits, progress.occupancy) == (3, 0, {}, None)


def test_metrics_leave_out_what_is_not_known(tmp_path: Path) -> None:
    ten_questions(tmp_path)
    assert set(metrics(look(tmp_path))) == {
        "debate/questions",
        "debate/replayed_turns",
        "debate/saved_turns",
        "debate/engine_seconds",
        "debate/cost",
    }
    found = metrics(look(tmp_path, **{"h-1-aa": FIRST}))
    assert found["debate/cache_hit_round_2"] == 0.8
    assert found["debate/accuracy_so_far"] == pytest.approx(2 / 3)
    assert found["debate/occupancy"] == 0.75


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such stage"):
        ProgressReader(tmp_path, ["0123456789abcdef"])
