"""Where rows come from: folders and globs laid out as on the hub, and the hub itself for each benchmark."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_text_benchmarks import HOTPOT, LEVAL, MC_HUB, QASPER, QMSUM, TRUTH_HUB

from agentark_core import problems
from agentark_core.config import ProblemsConfig
from agentark_core.data_files import data_files
from agentark_core.errors import ConfigError, DataError
from agentark_core.problems import LoadedProblems
from agentark_core.sources import HUB

MEDICAL = {"opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 0}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "gsm8k": ({"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}, "question"),
    "math": ({"problem": "1 + 1?", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{2}"}, "problem"),
    "math500": (
        {
            "problem": "1 + 1?",
            "solution": "\\boxed{2}",
            "answer": "2",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "test/algebra/1.json",
        },
        "problem",
    ),
    "medmcqa": (
        {"id": "m-1", "question": "Which?", **MEDICAL, "choice_type": "single", "exp": None, "subject_name": "Anatomy"}
        | {"topic_name": None},
        "question",
    ),
    "metamath": (
        {"type": "GSM_Rephrased", "query": "1 + 1?", "original_question": "x", "response": "2\nThe answer is: 2"},
        "query",
    ),
    "hotpotqa": (HOTPOT | {"supporting_facts": {"title": ["Blue"], "sent_id": [0]}}, "question"),
    "qasper": (QASPER, "id"),
    "qmsum": (QMSUM, ""),
    "truthfulqa": (TRUTH_HUB, "question"),
    "truthfulqa_mc": (MC_HUB | {"mc2_targets": MC_HUB["mc1_targets"]}, "question"),
}
"""Source -> a row in the columns that the hub's copy has (QMSum: its authors' file), and the column to vary."""


def load(source: str, path: Path | str = "", **settings: Any) -> LoadedProblems:
    return problems.load(ProblemsConfig.model_validate({"source": source, "path": str(path), **settings}))


def varied(source: str, number: int) -> dict[str, Any]:
    row, column = ROWS[source]
    return row | {column: f"{row[column]} {number}"} if column else row


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def gsm(*numbers: int) -> list[dict[str, str]]:
    return [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in numbers]


def golds(loaded: LoadedProblems) -> list[str]:
    return [problem.gold for problem in loaded.problems]


# ---- folders and globs


@pytest.mark.parametrize("layout", ["{split}-0000{n}-of-00002.parquet", "{split}/000{n}.parquet"])
@pytest.mark.parametrize("source", sorted(ROWS))
def test_a_folder_as_on_the_hub_is_read_shard_after_shard(source: str, layout: str, tmp_path: Path) -> None:
    published = HUB.get(source)
    subset = published.subset if published else "data"
    split = published.splits.get("test", "train") if published else "test"
    ours = "test" if published is None or "test" in published.splits else "train"
    other = "train" if split != "train" else "test"
    for name, first in ((split, 0), (other, 10)):
        for n in range(2):
            made = varied(source, first + n)
            write(tmp_path / subset / layout.format(split=name, n=n), [made])
    write(tmp_path / "dataset_infos.json", ["{}"])
    (tmp_path / "README.md").write_text("A data set.")
    loaded = load(source, tmp_path, split=ours, max_bad_row_share=1)
    folder = tmp_path / subset
    files = [folder / layout.format(split=split, n=n) for n in range(2)]
    apart = [load(source, file, split=ours, max_bad_row_share=1) for file in files]
    expected = {problem.problem_id: problem for one in apart for problem in one.problems}
    assert list(loaded.problems) == list(expected.values()) and len(loaded.revision.partition("+")[0]) == 64
    assert len({loaded.revision, *(one.revision for one in apart)}) == (3 if source != "qmsum" else 2)
    by_glob = load(source, folder / layout.format(split=split, n="?"), split=ours, max_bad_row_share=1)
    assert (by_glob.problems, by_glob.revision) == (loaded.problems, loaded.revision)


def test_jsonl_shards_and_a_single_file_count_as_their_rows(tmp_path: Path) -> None:
    write(tmp_path / "s" / "part-1.jsonl.gz", gsm(2, 3))
    one = write(tmp_path / "s" / "part-0.jsonl.gz", gsm(0, 1))
    assert golds(load("gsm8k", tmp_path / "s")) == golds(load("gsm8k", tmp_path / "s" / "*.gz")) == ["1", "2", "3", "4"]
    (tmp_path / "s" / "part-1.jsonl.gz").unlink()
    assert load("gsm8k", tmp_path / "s") == load("gsm8k", one)


def test_a_bad_row_of_a_shard_is_named_with_its_file(tmp_path: Path) -> None:
    first = write(tmp_path / "train-00000-of-00002.jsonl", gsm(0, 1))
    second = write(tmp_path / "train-00001-of-00002.jsonl", [*gsm(2), "{", *gsm(1)])
    with pytest.raises(DataError) as caught:
        load("gsm8k", tmp_path)
    assert f"{tmp_path}: 2 of 5 rows are bad (limit 1 %), first: row 2 of {second}: broken JSON" in str(caught.value)
    bad = load("gsm8k", tmp_path, max_bad_row_share=1).bad_rows
    assert [(row.file, row.row) for row in bad] == [(str(second), 2), (str(second), 3)]
    assert bad[1].reason == f"same question and gold as row 2 of {first}"


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", gsm(0, 1))
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: broken or truncated after row 0"):
        load("gsm8k", tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: the file is empty"):
        load("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no .jsonl, .json, .csv, .parquet file in this folder"),
        (["notes.txt", ".cache/train.jsonl"], "no .jsonl"),
        (["test.jsonl", "dev.jsonl"], r"no file of the split 'train' \(found: dev.jsonl, test.jsonl\)"),
        (["a/train.jsonl", "b/train.jsonl"], r"more than one table \(a/train.jsonl, b/train.jsonl\)"),
        (["train.jsonl", "train.csv"], "more than one table"),
        (["train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"], "shard 00001 of 00003 is missing"),
        (["train-00000-of-00001.jsonl", "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"], "more than one"),
        (["train-00000-of-00001.jsonl", "train.jsonl"], "shards of more than one table"),
    ],
)
def test_a_folder_that_is_not_one_table_is_refused(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        write(tmp_path / name, gsm(0))
    with pytest.raises(DataError, match=message) as caught:
        load("gsm8k", tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_glob_without_files_is_refused_and_a_name_with_brackets_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\*.jsonl: no file is called like this"):
        load("gsm8k", tmp_path / "*.jsonl")
    named = write(tmp_path / "[1].jsonl", gsm(0))
    assert data_files(str(named), split="train") == [named]


def test_examples_come_from_the_training_shards_of_the_folder_that_is_tested(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001.jsonl", gsm(*range(10, 30)))
    write(tmp_path / "test-00000-of-00001.jsonl", gsm(0, 1))
    loaded = load("gsm8k", tmp_path, split="test", few_shot=2, few_shot_path=str(tmp_path))
    assert golds(loaded) == ["1", "2"]
    assert all(int(question.split()[2]) >= 10 for question, _ in loaded.problems[0].shots)


def test_a_wrong_column_of_a_folder_of_tables_names_the_file(tmp_path: Path) -> None:
    for n in range(2):
        write(tmp_path / f"train-0000{n}-of-00002.parquet", [{"prompt": f"a{n}", "answer": "b"}])
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet: no column 'question' \(found: 'prompt'"):
        load("file", tmp_path)


# ---- the hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASKED: dict[str, tuple[str, str, str]] = {
    "gsm8k": ("openai/gsm8k", "main", "test"),
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default", "test"),
    "math500": ("HuggingFaceH4/MATH-500", "default", "test"),
    "medmcqa": ("openlifescienceai/medmcqa", "default", "validation"),
    "metamath": ("meta-math/MetaMathQA", "default", "train"),
    "hotpotqa": ("hotpotqa/hotpot_qa", "distractor", "validation"),
    "truthfulqa": ("truthfulqa/truthful_qa", "generation", "validation"),
    "truthfulqa_mc": ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
}
"""Source -> hub id, configuration and split that its test questions come from (MetaMathQA: its training questions)."""


class Hub:
    """Stands for the hub's client: one row of a source, and what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
        self.row, self.calls, self.revisions = ROWS[source][0], [], []
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", self.dataset_info)
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)

    def dataset_info(self, name: str, *, revision: str | None = None) -> Any:
        self.revisions.append((name, revision))
        return type("Info", (), {"sha": COMMIT})

    def load_dataset(self, *words: Any, **named: Any) -> datasets.Dataset:
        self.calls.append((words, named))
        return datasets.Dataset.from_list([self.row])


@pytest.mark.parametrize("source", sorted(ASKED))
def test_a_benchmark_comes_from_its_publishers_at_a_fixed_commit(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, subset, split = ASKED[source]
    hub = Hub(monkeypatch, source)
    loaded = load(source, split="train" if split == "train" else "test")
    assert hub.revisions == [(name, None)]
    assert hub.calls == [((name, subset), {"split": split, "revision": COMMIT})]
    assert len(loaded.problems) == 1 and not loaded.bad_rows and loaded.revision.startswith(f"{name}@{COMMIT}")


def test_qasper_comes_from_the_hubs_parquet_branch_because_its_own_holds_a_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub(monkeypatch, "qasper")
    loaded = load("qasper", split="test")
    assert hub.revisions == [("allenai/qasper", "refs/convert/parquet")]
    files = {"test": "qasper/test/*.parquet"}
    assert hub.calls == [(("allenai/qasper",), {"data_files": files, "split": "test", "revision": COMMIT})]
    assert [problem.gold for problem in loaded.problems] == ["CatBank, cats", "No", "Unanswerable"]


def test_datasets_reads_the_layout_of_the_parquet_branch_by_these_names(tmp_path: Path) -> None:
    """The same call on a folder laid out like the branch, read by the real library."""
    for split, row in (("test", QASPER), ("train", QASPER | {"id": "other"})):
        write(tmp_path / "branch" / "qasper" / split / "0000.parquet", [row])
    branch, cache = str(tmp_path / "branch"), str(tmp_path / "cache")
    files = {"test": f"{HUB['qasper'].subset}/test/*.parquet"}
    (row,) = datasets.load_dataset(branch, data_files=files, split="test", cache_dir=cache)
    assert row == QASPER


def test_every_benchmark_has_a_copy_on_the_hub_or_a_remedy() -> None:
    assert set(HUB) | {"qmsum"} == set(ROWS) and set(ASKED) | {"qasper"} == set(HUB)
    with pytest.raises(ConfigError, match="qmsum is not on the hub .* Yale-LILY/QMSum"):
        load("qmsum")
    with pytest.raises(ConfigError, match=r"truthfulqa/truthful_qa has no 'train' split; use one of test"):
        load("truthfulqa", split="train")


def test_without_a_path_and_without_a_hub_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    for source, hub in HUB.items():
        with pytest.raises(DataError, match=f"{hub.name} could not be read .* set problems.path to a local copy"):
            load(source, split=next(iter(hub.splits)))


def test_levals_rows_are_read_from_shards_too(tmp_path: Path) -> None:
    for n in range(2):
        write(tmp_path / f"test-0000{n}-of-00002.jsonl", [LEVAL | {"input": f"Paper {n}."}])
    assert golds(load("qasper", tmp_path, split="test")) == ["CatBank", "Yes"] * 2
