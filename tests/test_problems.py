"""Questions in: each published format, hostile rows, ids, limits, and the real files where they are present."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentark_core import problems
from agentark_core.benchmarks import last_boxed
from agentark_core.config import ProblemsConfig
from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.types import BadRow

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GOOD = {"question": "What is 1 + 1?", "answer": "#### 2"}


def load(path: Path, source: str = "gsm8k", **settings: Any) -> problems.LoadedProblems:
    return problems.load(ProblemsConfig.model_validate({"source": source, "path": str(path), **settings}))


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def reasons(path: Path, source: str = "gsm8k", **settings: Any) -> list[tuple[int, str]]:
    return [(bad.row, bad.reason) for bad in load(path, source, max_bad_row_share=1, **settings).bad_rows]


def golds(loaded: problems.LoadedProblems) -> list[str]:
    return [problem.gold for problem in loaded.problems]


def test_gsm8k_gold_follows_the_hashes_without_commas() -> None:
    loaded = load(DATA / "gsm8k.jsonl", split="test")
    assert golds(loaded) == ["7", "1200", "15"]
    assert {(p.task, p.dataset, p.split) for p in loaded.problems} == {("gsm8k", "gsm8k", "test")}
    assert len(loaded.revision) == 64 and loaded.bad_rows == ()


def test_math_gold_is_the_last_balanced_box() -> None:
    loaded = load(DATA / "math.jsonl", "math")
    assert golds(loaded) == ["\\frac{5}{6}", "\\left\\{ -2, 2 \\right\\}", "9"]
    assert loaded.problems[1].meta == {"level": "2", "subject": "Algebra", "unique_id": "test/algebra/1.json"}


def test_math_gold_falls_back_to_the_answer_and_an_empty_box_is_no_gold(tmp_path: Path) -> None:
    file = write(
        tmp_path / "m.jsonl",
        [
            {"problem": "a", "answer": " 5 "},
            {"problem": "b", "solution": "no box", "answer": "6"},
            {"problem": "c", "solution": "\\boxed{}", "answer": ""},
            {"problem": "d", "solution": "\\boxed{\\frac{1}{2}"},
        ],
    )
    assert golds(load(file, "math", max_bad_row_share=1)) == ["5", "6"]
    assert [row for row, reason in reasons(file, "math") if reason.startswith("no gold")] == [3, 4]


def test_last_boxed_stays_linear_on_nested_boxes() -> None:
    assert last_boxed("\\boxed{" * 100_000) == ""
    assert last_boxed("\\boxed{" + "{}" * 100_000 + "}") == "{}" * 100_000


def test_medmcqa_renders_choices_and_reads_both_bases_of_cop(tmp_path: Path) -> None:
    loaded = load(DATA / "medmcqa.json", "medmcqa")
    assert loaded.problems[0].question == (
        "Which of these is a mineral?\nA. Iron\nB. Starch\nC. Casein\nD. Lactose"
        "\n\nThe final answer is the letter of the right option."
    )
    assert "+prompt-" in loaded.revision
    assert golds(loaded) == ["A", "D"] and loaded.source.endswith("(cop counts from 1)")
    raw = [json.loads(line) for line in (DATA / "medmcqa.json").read_text().splitlines()]
    hub = tmp_path / "hub.parquet"
    pq.write_table(pa.Table.from_pylist([row | {"cop": row["cop"] - 1} for row in raw]), hub)
    assert [(p.problem_id, p.gold) for p in load(hub, "medmcqa").problems] == [
        (p.problem_id, p.gold) for p in loaded.problems
    ]


@pytest.mark.parametrize(("cops", "seen"), [((1, 2, 3), "neither 0 nor 4"), ((0, 4), "both 0 and 4")])
def test_medmcqa_refuses_a_file_whose_base_cannot_be_told(cops: tuple[int, ...], seen: str, tmp_path: Path) -> None:
    choices = {"opa": "a", "opb": "b", "opc": "c", "opd": "d"}
    file = write(tmp_path / "m.jsonl", [{"question": f"q{cop}", "cop": cop} | choices for cop in cops])
    with pytest.raises(DataError, match=seen):
        load(file, "medmcqa")


def test_medmcqa_test_split_without_answers_says_so(tmp_path: Path) -> None:
    choices = {"opa": "a", "opb": "b", "opc": "c", "opd": "d"}
    with pytest.raises(EmptyDataset, match="hides its answers"):
        load(write(tmp_path / "m.jsonl", [{"question": "q", "cop": -1} | choices]), "medmcqa")


def test_metamath_type_names_the_task_and_repeats_do_not_count_as_bad() -> None:
    loaded = load(DATA / "metamath.jsonl", "metamath", max_bad_row_share=0)
    assert [(p.task, p.gold) for p in loaded.problems] == [("gsm8k", "2000"), ("math", "\\frac{1}{6}")]
    assert [bad.reason for bad in loaded.bad_rows] == ["same question and gold as row 2"]


def test_same_rows_in_every_file_format_give_the_same_problems(tmp_path: Path) -> None:
    raw = [json.loads(line) for line in (DATA / "gsm8k.jsonl").read_text().splitlines()]
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(raw, indent=1))
    (tmp_path / "a.csv").write_text(
        "question,answer\r\n" + "".join('"{question}","{answer}"\r\n'.format(**row) for row in raw)
    )
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in raw))
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "a.parquet")
    for name in ("a.json", "a.csv", "a.jsonl"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    expected = load(DATA / "gsm8k.jsonl").problems
    for file in sorted(tmp_path.iterdir()):
        assert load(file).problems == expected, file.name


def test_ids_do_not_depend_on_row_order(tmp_path: Path) -> None:
    lines = [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(50)]
    straight = load(write(tmp_path / "a.jsonl", lines)).problems
    random.Random(3).shuffle(lines)
    shuffled = load(write(tmp_path / "b.jsonl", lines)).problems
    assert straight != shuffled and set(p.problem_id for p in straight) == set(p.problem_id for p in shuffled)
    content = b'["gsm8k", "What is 0 + 1?", "1"]'
    assert straight[0].problem_id == f"gsm8k-{hashlib.sha256(content).hexdigest()[:16]}"


def test_user_file_takes_named_columns_ids_and_number_golds(tmp_path: Path) -> None:
    file = write(tmp_path / "u.jsonl", [{"q": "one?", "a": 1, "key": "x-1"}, {"q": "half?", "a": 0.5, "key": 7}])
    loaded = load(file, "file", question_column="q", answer_column="a", id_column="key", task="number", dataset="mine")
    assert [(p.problem_id, p.gold, p.task) for p in loaded.problems] == [
        ("mine-x-1", "1", "number"),
        ("mine-7", "0.5", "number"),
    ]


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "a\0b", "x" * 300, "\u202egpj.exe", "a b", ".."])
def test_hostile_user_ids_are_bad_rows(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / "u.jsonl", [GOOD | {"id": "ok"}, {"question": "q", "answer": "1", "id": name}])
    assert [row for row, _ in reasons(file, "file", id_column="id")] == [2]


def test_duplicate_user_ids_keep_the_first_row(tmp_path: Path) -> None:
    file = write(tmp_path / "u.jsonl", [GOOD | {"id": 1}, {"question": "q", "answer": "1", "id": 1}])
    assert reasons(file, "file", id_column="id") == [(2, "duplicate id 'file-1', same as row 1")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"question": None, "answer": "#### 1"}, "question: null"),
        ({"question": ["q"], "answer": "#### 1"}, "question: expected text, found a list"),
        ({"question": "  ", "answer": "#### 1"}, "question: empty"),
        ({"question": "q" * 1_000_001, "answer": "#### 1"}, "question: 1000001 bytes, over the limit"),
        ({"question": "q\ud800", "answer": "#### 1"}, "lone surrogate"),
        ({"question": "q\0", "answer": "#### 1"}, "NUL"),
        ({"question": "q"}, "no field 'answer' (found: 'question')"),
        ({"question": "q", "answer": "seven"}, "does not end with '#### N'"),
        ({"question": "q", "answer": "#### seven"}, "'seven' after '####' is not a number"),
        ({"question": "q", "answer": "#### "}, "not a number"),
        ({"question": "q", "answer": 7}, "answer: expected text, found a int"),
        ('{"question": "q", "answer": ', "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[1, 2]", "expected an object, found a list"),
        (GOOD, "same question and gold as row 1"),
    ],
)
def test_each_kind_of_bad_row_is_kept_aside_with_its_reason(line: Any, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path / "b.jsonl", [GOOD, line])
    [(number, found)] = reasons(file)
    assert number == 2 and reason in found


def test_rows_with_one_question_and_two_golds_are_both_set_aside(tmp_path: Path) -> None:
    other = {"question": "q", "answer": "#### 1"}
    file = write(tmp_path / "b.jsonl", [GOOD, other, GOOD | {"answer": "#### 3"}])
    assert reasons(file) == [
        (1, "same question as row 3 with another gold ('2' here, '3' there)"),
        (3, "same question as row 1 with another gold ('3' here, '2' there)"),
    ]


def test_too_many_bad_rows_stop_with_count_limit_and_first_reason(tmp_path: Path) -> None:
    file = write(tmp_path / "b.jsonl", [GOOD, "{", {"question": "q", "answer": "#### 1"}])
    with pytest.raises(DataError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: 1 of 3 rows are bad (limit 1 %), first: row 2: broken JSON")
    assert str(caught.value).endswith("mend them or raise problems.max_bad_row_share")
    assert len(load(file, max_bad_row_share=0.34).problems) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b"\n \n", "no rows"),
        ("header.csv", b"question,answer\n", "no rows"),
        ("array.json", b"[]", "no rows"),
        ("cut.json", b'[{"question": "q", "answer": "#### 1"}, {"que', "broken JSON after row 1"),
        ("two.json", b'[{"question": "q", "answer": "#### 1"}][{"question": "r", "answer": "#### 1"}]', "more text"),
        ("cut.parquet", b"PAR1 cut", "broken or truncated after row 0"),
        ("cut.jsonl.gz", gzip.compress(json.dumps(GOOD).encode() * 9, mtime=0)[:40], "broken or truncated"),
        ("not.jsonl.gz", b"plain text", "broken or truncated"),
        ("notes.txt", b"text", "unknown kind of file"),
        ("all.jsonl", b"{}\n{}\n", "all 2 rows are bad"),
    ],
)
def test_unusable_files_are_refused_in_one_line(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / name, max_bad_row_share=1)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_without_the_named_column_names_those_it_has(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        file.write_text("prompt,answer\na,b\n")
    else:
        pq.write_table(pa.table({"prompt": ["a"], "answer": ["b"]}), file)
    with pytest.raises(DataError, match=r"no column 'question' \(found: 'prompt', 'answer'\); set problems.question_c"):
        load(file, "file")


def test_offset_and_limit_apply_after_validation(tmp_path: Path) -> None:
    lines = [{"question": f"q{i}", "answer": f"#### {i}"} for i in range(6)]
    file = write(tmp_path / "a.jsonl", [lines[0], "{", *lines[1:]])
    assert golds(load(file, offset=1, limit=2, max_bad_row_share=1)) == ["1", "2"]
    assert golds(load(file, offset=4, max_bad_row_share=1)) == ["4", "5"]
    with pytest.raises(EmptyDataset, match="problems.offset 9 skips all 6"):
        load(file, offset=9, max_bad_row_share=1)


def test_settings_that_cannot_work_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="arkling is endless"):
        problems.load(ProblemsConfig(source="arkling"))
    with pytest.raises(ConfigError, match="problems.path: empty"):
        problems.load(ProblemsConfig(source="file"))
    with pytest.raises(ConfigError, match="no 'ood' split"):
        problems.load(ProblemsConfig(source="gsm8k", split="ood"))


def test_arkling_problems_come_from_the_generator() -> None:
    loaded = problems.load(ProblemsConfig(source="arkling", split="test", limit=5, offset=2), seed=1)
    assert len(loaded.problems) == 5 and loaded.revision.startswith("arkling-") and loaded.revision.endswith("-test")


def test_bad_rows_file_holds_hostile_text_one_object_a_line(tmp_path: Path) -> None:
    bad = [BadRow(file="f", row=1, reason="lone \ud800", excerpt="a\nb\0\u202e"), BadRow(file="f", row=2, reason="r")]
    problems.write_bad_rows(bad, tmp_path / "bad.jsonl")
    lines = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert [BadRow(**json.loads(line)) for line in lines] == bad
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["question", "answer", "problem", "solution", "level", "query", "response", "type", "opa", "cop", "id", "x"]
TEXTS = st.sampled_from(["#### 1", "\\boxed{", "\\boxed{1}", "The answer is: 2", "GSM_FOBAR", "MATH_x", "q", "\ud800"])
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES | TEXTS) | VALUES
FIRST: dict[str, dict[str, Any]] = {
    "gsm8k": GOOD,
    "math": {"problem": "not among the texts", "solution": "\\boxed{1}"},
    "metamath": {"query": "not among the texts", "response": "The answer is: 1", "type": "GSM_SV"},
    "medmcqa": {"question": "not among the texts", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 4},
    "file": {"question": "not among the texts", "answer": "1", "id": "first"},
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(ROWS, max_size=6), source=st.sampled_from(sorted(FIRST)))
def test_any_json_row_ends_as_problem_or_bad_row(lines: list[Any], source: str, tmp_path: Path) -> None:
    if source == "medmcqa":  # a stray 0 makes the whole file ambiguous, which is refused on purpose
        lines = [line for line in lines if not (isinstance(line, dict) and line.get("cop") == 0)]
    file = write(tmp_path / "p.jsonl", [FIRST[source], *map(json.dumps, lines)])
    loaded = load(file, source, max_bad_row_share=1, id_column="id" if source == "file" else "")
    assert len(loaded.problems) + len(loaded.bad_rows) == 1 + len(lines)
    problems.write_bad_rows(loaded.bad_rows, tmp_path / "bad.jsonl")
    for problem in loaded.problems:
        f"{problem.question}{problem.gold}{problem.meta}".encode()


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data not present")
@pytest.mark.parametrize(
    ("source", "file", "good", "bad"),
    [
        ("gsm8k", "gsm8k/train.jsonl.gz", 7473, 0),
        ("gsm8k", "gsm8k/test.jsonl", 1319, 0),
        ("math", "math/train.jsonl.gz", 7498, 2),  # two solutions box nothing
        ("math", "math/test.jsonl.gz", 5000, 0),
        ("math", "math/math500.jsonl", 500, 0),
        ("medmcqa", "medmcqa/dev.jsonl.gz", 4183, 0),
        ("metamath", "metamath/GSM8K_Backward.jsonl", 1270, 0),
    ],
)
def test_real_files_load_whole(source: str, file: str, good: int, bad: int) -> None:
    loaded = load(SHARED / file, source)
    assert (len(loaded.problems), len(loaded.bad_rows)) == (good, bad)
    assert len({problem.problem_id for problem in loaded.problems}) == good


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data not present")
def test_math500_golds_are_those_of_the_full_test_split() -> None:
    full = {p.question: p.gold for p in load(SHARED / "math/test.jsonl.gz", "math").problems}
    assert all(full[p.question] == p.gold for p in load(SHARED / "math/math500.jsonl", "math").problems)
