"""Recorded debates in: each format, headers that must not be mistaken, hostile rows, and the real log if present."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.importers import ImportedDebates, read_debates, split_solutions
from agentark_core.rows import RejectedRow

DATA = Path(__file__).parent / "data"
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "debate" / "gsm8k_3agents_2rounds.jsonl"
CHATS = "llm-multiagent-debate"


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def chat(*texts: str) -> list[dict[str, str]]:
    return [
        turn for text in texts for turn in ({"role": "user", "content": "?"}, {"role": "assistant", "content": text})
    ]


def reasons(imported: ImportedDebates) -> list[tuple[int, str]]:
    return [(bad.row, bad.reason) for bad in imported.bad_rows]


def test_chats_become_rounds_and_agents() -> None:
    first, second = read_debates(DATA / "debate_chats.jsonl", format=CHATS).debates
    assert [(t.round, t.agent, t.answer, t.status) for t in first.turns] == [
        (1, 1, "7", "ok"),
        (1, 2, "12", "ok"),
        (1, 3, None, "no_answer"),
        (2, 1, "7", "ok"),
        (2, 2, "7", "ok"),
        (2, 3, "7", "ok"),
    ]
    turn = first.turns[0]
    assert (turn.prompt_tokens, turn.cached_tokens, turn.completion_tokens, turn.seed) == (-1, -1, -1, 0)
    assert (turn.finish_reason, first.stop_reason, first.problem.gold) == ("imported", "imported", "7")
    assert first.problem.problem_id == second.problem.problem_id and first.work_id != second.work_id
    assert {t.work_id for t in first.turns} == {first.work_id} and first.problem.meta == {"id": "run-1"}


def test_work_ids_do_not_depend_on_row_order_or_file_layout(tmp_path: Path) -> None:
    lines = (DATA / "debate_chats.jsonl").read_text().splitlines()
    debates = read_debates(DATA / "debate_chats.jsonl", format=CHATS).debates
    turned = read_debates(write(tmp_path / "r.jsonl", lines[::-1]), format=CHATS).debates
    assert [d.work_id for d in turned] == [d.work_id for d in debates][::-1]
    row = json.loads(lines[0])
    original = {row["question"]: [row["agents"], row["answer"]]}
    (tmp_path / "gsm_3_2.json").write_text(json.dumps(original, indent=2))
    (tmp_path / "gsm_3_2.json.gz").write_bytes(gzip.compress(json.dumps(original).encode()))
    for name in ("gsm_3_2.json", "gsm_3_2.json.gz"):
        [debate] = read_debates(tmp_path / name, format=CHATS).debates
        assert debate.work_id == debates[0].work_id and debate.turns == debates[0].turns


def test_agentark_texts_stay_with_their_agents_and_errors_are_bad_rows() -> None:
    imported = read_debates(DATA / "debate_agentark.jsonl", format="agentark")
    answers = [[(turn.agent, turn.round, turn.answer) for turn in debate.turns] for debate in imported.debates]
    assert answers == [
        [(1, 1, "7"), (2, 1, "12"), (3, 1, "7")],
        [(1, 1, "42"), (2, 1, "13")],
        [(1, 1, "9"), (2, 1, "14")],
    ]
    assert [debate.problem.gold for debate in imported.debates] == ["7", "42", "14"]
    assert (
        "Solution 1:" in imported.debates[0].turns[1].text and "===== Solution 9" in imported.debates[0].turns[1].text
    )
    assert reasons(imported) == [(4, "the recorder's own error: 'Traceback: server closed the connection'")]


def test_maslab_is_one_agent_in_one_round() -> None:
    imported = read_debates(DATA / "debate_maslab.jsonl", format="maslab")
    assert [[(t.agent, t.round, t.status) for t in d.turns] for d in imported.debates] == [
        [(1, 1, "ok")],
        [(1, 1, "no_answer")],
    ]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("===== Solution 1 =====\na\n===== Solution 2 =====\nb", ["a", "b"]),
        ("Solution 1:\na\nSolution 2: b", ["a", "b"]),
        ("Here they are.\n\nSolution 1:\na\nSolution 2:\nb", ["a", "b"]),
        ("Solution 1:\na\nas in Solution 2:\nb", ["a\nas in Solution 2:\nb"]),
        ("Solution 1:\na\nSolution 3:\nb\nSolution 2:\nc", ["a\nSolution 3:\nb", "c"]),
        ("Solution 1:\na\nSolution 2:\nSolution 1:\nb\nSolution 3:\nc", ["a", "Solution 1:\nb", "c"]),
        ("===== Solution 1 =====\na\nSolution 2:\nb\n===== Solution 2 =====\nc", ["a\nSolution 2:\nb", "c"]),
        ("Solution 1:\na\n===== Solution 1 =====\nb\nSolution 2:\nc", ["a\n===== Solution 1 =====\nb", "c"]),
        ("===== Solution 1 =====\n===== Solution 2 =====\nb", ["", "b"]),
        ("===== Solution 1 =====\r\na\r\n===== Solution 2 =====\r\nb", ["a", "b"]),
    ],
)
def test_only_headers_that_count_on_split_a_response(response: str, expected: list[str]) -> None:
    assert split_solutions(response) == expected


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("no header at all", "no header"),
        ("Solution 2:\nb", "no header"),
        ("Solution 1:\nquoting\nSolution 2:\nb\nSolution 2:\nc\nSolution 3:\nd", "solution 2 occurs twice"),
        ("===== Solution 1 =====\na\n===== Solution 2 =====\nb\n===== Solution 2 =====\nc", "solution 2 occurs twice"),
        ("I quote\nSolution 1:\nb\nSolution 1:\na", "solution 1 occurs twice"),
    ],
)
def test_responses_that_cannot_be_split_for_certain_are_rejected(response: str, reason: str) -> None:
    with pytest.raises(RejectedRow, match=reason):
        split_solutions(response)


def test_splitting_hostile_responses_takes_linear_time() -> None:
    started = time.perf_counter()
    for text in ("=" * 900_000, "===== Solution " * 60_000, "Solution 1:\n" * 80_000, "=== Solution 1 ===" * 50_000):
        try:
            split_solutions("Solution 1:\n" + text + "\n")
        except RejectedRow:
            continue
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [
        (CHATS, {"question": "q", "answer": "1"}, "agents: expected a list"),
        (CHATS, {"question": "q", "answer": "1", "agents": []}, "agents: expected a list"),
        (CHATS, {"question": "q", "answer": "1", "agents": [chat("a", "b"), chat("a")]}, "every agent must speak"),
        (CHATS, {"question": "q", "answer": "1", "agents": [[{"role": "user", "content": "?"}]]}, "every agent"),
        (CHATS, {"question": "q", "answer": "1", "agents": [["text"]]}, "chat of agent 1"),
        (CHATS, {"question": "q", "answer": "1", "agents": [[{"role": "tool", "content": "x"}]]}, "chat of agent 1"),
        (CHATS, {"question": "q", "answer": "1", "agents": [[{"role": "assistant", "content": None}]]}, "null"),
        (CHATS, {"question": "q", "answer": "1", "agents": [chat("\ud800")]}, "surrogate"),
        (CHATS, {"question": "q", "answer": "1", "agents": [chat("x" * 1_000_001)]}, "over the limit"),
        (CHATS, {"question": "q", "answer": None, "agents": [chat("a")]}, "answer: null"),
        (CHATS, {"question": "q", "answer": "#### x", "agents": [chat("a")]}, "not a number"),
        ("agentark", {"query": "q", "gt": "1", "response": ""}, "response: empty"),
        (
            "agentark",
            {"query": "q", "gt": "1", "solutions": [{"id": 1, "text": "a"}, {"id": 3, "text": "b"}]},
            "1 to 2",
        ),
        ("agentark", {"query": "q", "gt": "1", "solutions": [{"id": 1, "text": "a"}] * 2}, "different whole numbers"),
        ("agentark", {"query": "q", "gt": True, "response": "Solution 1: a"}, "gt: expected text"),
        ("maslab", {"query": "q", "gt": "1", "response": None, "error": "timeout"}, "recorder's own error: 'timeout'"),
        ("maslab", {"query": "q", "gt": "1"}, "no field 'response'"),
    ],
)
def test_rows_that_cannot_be_imported_are_kept_with_the_reason(
    format: str, row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    imported = read_debates(write(tmp_path / "d.jsonl", [row]), format=format)
    assert imported.debates == () and reason in imported.bad_rows[0].reason


def test_identical_rows_and_clashing_golds_are_bad_rows(tmp_path: Path) -> None:
    row = {"query": "q", "gt": "1", "response": "\\boxed{1}"}
    other = {"query": "r", "gt": "1", "response": "\\boxed{1}"}
    imported = read_debates(write(tmp_path / "d.jsonl", [row, row, other, row | {"gt": "2"}]), format="maslab")
    assert [debate.problem.question for debate in imported.debates] == ["r"]
    assert reasons(imported) == [
        (1, "same question as row 4 with another gold"),
        (2, "identical to row 1"),
        (4, "same question as row 1 with another gold"),
    ]


def test_unusable_files_and_settings_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"q": [[[{"role": "user"')
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b'{"q": 1}')[:12])
    (tmp_path / "blank.jsonl").write_text("\n")
    for name, error in [("none.jsonl", DataError), ("cut.json", DataError), ("cut.json.gz", DataError)]:
        with pytest.raises(error, match=name):
            read_debates(tmp_path / name, format=CHATS)
    with pytest.raises(EmptyDataset, match="no rows"):
        read_debates(tmp_path / "blank.jsonl", format=CHATS)
    with pytest.raises(ConfigError, match="use one of llm-multiagent-debate, agentark, maslab"):
        read_debates(tmp_path / "blank.jsonl", format="other")
    with pytest.raises(ConfigError, match="dataset"):
        read_debates(tmp_path / "blank.jsonl", format=CHATS, dataset="../x")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "id"]), inner),
    max_leaves=6,
)
KEYS = ["id", "question", "answer", "agents", "query", "gt", "response", "solutions", "error"]
TEXTS = st.sampled_from(["1", "#### 1", "q", "Solution 1: a\nSolution 2: b", "\ud800"])
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES | TEXTS) | VALUES


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(ROWS, min_size=1, max_size=6), format=st.sampled_from([CHATS, "agentark", "maslab"]))
def test_any_json_row_ends_as_debate_or_bad_row(lines: list[Any], format: str, tmp_path: Path) -> None:
    file = write(
        tmp_path / "d.jsonl",
        [line if isinstance(line, str) and line[:1] == "{" else json.dumps(line) for line in lines],
    )
    imported = read_debates(file, format=format)
    assert len(imported.debates) + len(imported.bad_rows) == len(lines)


def test_deeply_nested_rows_are_bad_rows_at_every_depth(tmp_path: Path) -> None:
    lines = ['{"query": "q", "gt": "1", "error": ' + "[" * depth + "]" * depth + "}" for depth in range(10, 1200, 10)]
    imported = read_debates(write(tmp_path / "d.jsonl", lines), format="maslab")
    assert len(imported.bad_rows) == len(lines)


@pytest.mark.skipif(not RECORDED.is_file(), reason="shared data not present")
def test_the_real_log_imports_whole() -> None:
    imported = read_debates(RECORDED, format=CHATS)
    assert (len(imported.debates), imported.bad_rows) == (120, ())
    assert {len(debate.turns) for debate in imported.debates} == {6}
    assert len({debate.problem.problem_id for debate in imported.debates}) == 100
    statuses = Counter(turn.status for debate in imported.debates for turn in debate.turns)
    assert statuses.total() == 720 and statuses["ok"] > 700
