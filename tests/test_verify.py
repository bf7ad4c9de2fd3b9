"""Verdicts: a table of (task, gold, response, label); hostile answers; the pool of children; files of cases."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from agentark_core import problems
from agentark_core.config import ProblemsConfig
from agentark_core.errors import DataError, EmptyDataset, EngineError
from agentark_core.types import VerdictLabel
from agentark_core.verify import Case, Verifier, verify_fast, verify_file
from agentark_core.verify_pool import WorkerPool
from benchmarks.fuzz_verifier import fuzz

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "verifier"
NEEDS_ALGEBRA = Case(task="math", gold="\\{1, 2\\} \\cup \\{3\\}", response="\\boxed{\\{3, 1\\} \\cup \\{2\\}}")

MATRIX = "\\begin{pmatrix} "

TABLE = [
    ("gsm8k", "480", "#### 480.0", "correct"),
    ("gsm8k", "1,450,000", "\\boxed{1450000}", "correct"),
    ("gsm8k", "40", "\\boxed{40.0\\%}", "correct"),
    ("gsm8k", "0.4", "\\boxed{40\\%}", "correct"),
    ("gsm8k", "5", "\\boxed{5.01}", "incorrect"),
    ("gsm8k", "3", "There are three trucks.\nThe answer is: three", "correct"),
    ("gsm8k", "10", "\\boxed{4 blue boxes and 6 red boxes}", "incorrect"),
    ("gsm8k", "18", "I give up.", "incorrect"),
    ("gsm8k", "She eats 3, so 9 are left.\n#### 9", "The answer is 9.", "correct"),
    ("gsm8k_reversed", "4", "The value of x is 4.\n#### 4\nThe answer is: 4", "correct"),
    ("number", "0.1", "0.10", "correct"),
    ("math", "\\frac43", "\\boxed{\\dfrac{4}{3}}", "correct"),
    ("math", "\\frac{11}{2}", "\\boxed{5.5}", "correct"),
    ("math", "2", "\\boxed{6/3}", "correct"),
    ("math", "\\frac{2}{3}", "\\boxed{\\frac{58}{87}}", "incorrect"),
    ("math", "1,-3", "\\boxed{-3} and \\boxed{1}", "correct"),
    ("math", "1,-3", "Therefore $x = 1$.", "incorrect"),
    ("math", "\\text{A,D}", "\\[ \\boxed{A,D} \\]", "correct"),
    ("math", "\\text{(E)}", "\\boxed{E}", "correct"),
    ("math", "\\text{east}", "facing **west**.", "incorrect"),
    ("math", "\\sqrt{5}", "The answer is √5.", "correct"),
    ("math", "50,\\!625", "\\boxed{50625}", "correct"),
    ("math", "12", "Therefore, \\(x^3 = 12\\).", "correct"),
    ("math", "y = -2x", "\\boxed{-2x}", "correct"),
    ("math", "6+9i", "\\boxed{9i + 6}", "correct"),
    ("math", "(5,\\infty)", "\\boxed{(-\\infty,5) \\cup (5,\\infty)}", "incorrect"),
    ("math", "x^2 + y^2 = 13", "\\boxed{y^2 + x^2 = 13}", "correct"),
    ("math", f"{MATRIX}1/3 \\\\ 2 \\end{{pmatrix}}", f"\\boxed{{{MATRIX}\\frac13 \\\\ 2 \\end{{pmatrix}}}}", "correct"),
    ("medmcqa", "C", '{"step_by_step_thinking": "not A", "answer_choice": "C. Both"}', "correct"),
    ("medmcqa", "A", '{"answer_choice": "D"}', "incorrect"),
    ("choice", "B", "the answer is none of them", "undecided"),
    ("text", "The Beatles", "The answer is beatles.", "correct"),
    ("text", "The Beatles", "The answer is Queen.", "incorrect"),
]  # fmt: skip

HOSTILE = [
    "9^{9^{9}}", "5^5^5^5", "\\binom{10^8}{5*10^7}", "7" * 200_000, "+".join(f"x_{{{i}}}" for i in range(20_000)),
    "\\boxed{" * 3_000 + "5" + "}" * 3_000, "__import__('os').system('touch PWNED')", "(10^8)!", "2^{99999999999}",
    "(a+b+c+d+e)^{500}", "\\frac{1}{" * 500 + "2" + "}" * 500, "(" * 4_000, "\\int_0^{100} \\sin(x^{x^x}) dx",
    "\\sin(x)^{50}+\\cos(x)^{50}<x^{99}", "\\prod_{k=1}^{100000} k", "\ud800\x00\u202e",
    "(" * 40 + "x" + ")" * 40, "\\{" * 40 + "x" + "\\}" * 40, "a" * 300, "(1,2),".join("((((" for _ in range(200)),
]  # fmt: skip


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        verifier.verify_many([NEEDS_ALGEBRA])
        yield verifier


@pytest.mark.parametrize(("task", "gold", "response", "label"), TABLE)
def test_table_of_verdicts(verifier: Verifier, task: str, gold: str, response: str, label: VerdictLabel) -> None:
    assert verifier.verify_many([Case(task=task, gold=gold, response=response)])[0].label == label


@pytest.mark.parametrize(
    ("question", "gold", "answer", "label"),
    [
        ("Simplify $\\sec x/\\sin x - \\tan x$.", "\\cot x", "\\frac{1}{\\sin x \\cos x} - \\tan x", "incorrect"),
        ("What is $\\sec x/\\sin x - \\tan x$?", "\\cot x", "\\frac{1}{\\sin x \\cos x} - \\tan x", "correct"),
        ("Express your answer as a common fraction.", "\\frac{21}{2}\\pi", "10.5\\pi", "incorrect"),
        ("What is the area?", "\\frac{21}{2}\\pi", "10.5\\pi", "correct"),
    ],
)
def test_form_counts_where_the_question_asks_for_it(question: str, gold: str, answer: str, label: str) -> None:
    verdict = verify_fast(f"\\boxed{{{answer}}}", gold=gold, task="math", question=question)
    assert verdict is not None
    assert verdict.label == label


def test_an_option_is_recognised_by_its_text() -> None:
    question = "Pick.\nA. Liver\nB. Heart"
    verdict = verify_fast("The answer is heart.", gold="B", task="choice", question=question)
    assert verdict is not None
    assert (verdict.label, verdict.extracted) == ("correct", "B")


def test_a_gold_without_a_number_is_compared_as_text_and_says_so() -> None:
    verdict = verify_fast("#### 4", gold="Let's think step by step.", task="gsm8k")
    assert verdict is not None
    assert (verdict.label, verdict.method) == ("incorrect", "gold_text")
    assert "gold" in verdict.reason


def test_hostile_answers_are_decided_in_time_and_execute_nothing(
    verifier: Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in HOSTILE:
        for gold in ("5", "x^2 \\cup 1"):
            start = time.monotonic()
            verdict = verifier.verify_many([Case(task="math", gold=gold, response=f"\\boxed{{{text}}}")])[0]
            assert time.monotonic() - start < 2.0 + 1.5, text[:60]  # slack: a killed child's successor has to start
            assert verdict.label != "correct" or "\\boxed{\\boxed" in text
            assert verdict.label != "undecided" or verdict.reason
    assert list(tmp_path.iterdir()) == []


def test_fuzzed_answers_neither_hang_nor_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = fuzz(1_000, seed=7)
    assert sum(report["labels"].values()) == 1_000 and len(report["labels"]) == 3
    assert report["slowest_s"][0][0] < 2.0 + 1.5, report["slowest_s"][0]
    assert list(tmp_path.iterdir()) == []


def test_children_obey_time_and_memory_limits_and_siblings_are_unaffected() -> None:
    with WorkerPool(workers=2, time_limit_s=1.0, memory_limit_bytes=300 * 2**20) as pool:
        start = time.monotonic()
        pairs = [("x+1", "1+x"), ("1", "(2^{9999})^{99999}"), ("1", "3^{3^{17}}"), ("x", "y"), ("2x", "x+x")]
        outcomes = pool.compare(pairs)
        assert [outcomes[0], outcomes[3], outcomes[4]] == ["equal", "different", "equal"]
        assert {outcomes[1], outcomes[2]} <= {"timeout", "memory"}
        assert time.monotonic() - start < 15


def fork_of(pid: int) -> int:
    """The process that serves the requests of a child; waits while the child still starts."""
    children, deadline = Path(f"/proc/{pid}/task/{pid}/children"), time.monotonic() + 60
    while not children.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return int(children.read_text())


@pytest.mark.parametrize("whole", [True, False])
def test_a_child_killed_from_outside_loses_nothing(whole: bool) -> None:
    pairs = [(f"\\sin^2(x)+{k}+\\cos^2(x)", f"{k}+1+y-y") for k in range(12)]
    with WorkerPool(workers=2, time_limit_s=20.0, memory_limit_bytes=2**30) as pool:
        pool.compare([("x", "y")] * 2)
        victims = [fork_of(pool.pids[0])] + [pool.pids[0]] * whole
        killer = threading.Timer(0.05, lambda: [os.kill(victim, signal.SIGKILL) for victim in victims])
        killer.start()
        assert pool.compare(pairs) == ["equal"] * len(pairs)
        killer.join()
        os.kill(fork_of(pool.pids[0]), signal.SIGKILL)  # and one killed while idle
        assert pool.compare([("x+x", "2x")] * 2) == ["equal"] * 2


def test_an_answer_whose_child_is_killed_for_memory_is_undecided_and_its_siblings_are_not() -> None:
    """F12: as the kernel does, whatever grows beyond 100 MB is killed, whenever it comes again."""
    killed: list[int] = []
    with WorkerPool(workers=2, time_limit_s=60.0, memory_limit_bytes=8 * 2**30) as pool:
        ended = threading.Event()

        def kill_the_largest() -> None:
            while not ended.wait(0.005):
                for pid in pool.pids:
                    for fork in psutil.Process(pid).children():
                        with contextlib.suppress(psutil.NoSuchProcess):
                            if fork.memory_info().rss > 100 * 2**20:
                                fork.kill()
                                killed.append(fork.pid)

        killer = threading.Thread(target=kill_the_largest)
        killer.start()
        pairs = [("x+1", "1+x"), ("1", "(2^{9999})^{99999}"), ("2x", "x+x"), ("y", "x")]
        assert pool.compare(pairs) == ["equal", "memory", "equal", "different"]
        ended.set()
        killer.join()
        assert len(killed) == 2, "tried once more, then given up"
        assert len(pool.pids) == 2, "the pool is full"
        assert pool.compare([("x+x", "2x")] * 4) == ["equal"] * 4


def test_a_timeout_costs_a_fork_and_no_start() -> None:
    with WorkerPool(workers=1, time_limit_s=3.0, memory_limit_bytes=2**30) as pool:
        pool.compare([("x", "y")])
        template, fork = pool.pids[0], fork_of(pool.pids[0])
        first, second = pool.compare([("1", "(2^{9999})^{99999}"), ("x+x", "2x")])
        assert first in ("timeout", "memory") and second == "equal"
        assert pool.pids == [template] and fork_of(template) != fork


def test_closing_leaves_no_child() -> None:
    pool = WorkerPool(workers=1, time_limit_s=2.0, memory_limit_bytes=2**30)
    pool.compare([("x", "y")])
    pids = pool.pids + [fork_of(pid) for pid in pool.pids]
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_children_that_cannot_start_are_one_clear_error() -> None:
    with (
        WorkerPool(workers=1, time_limit_s=2.0, memory_limit_bytes=2**20) as pool,
        pytest.raises(EngineError, match="memory limit"),
    ):
        pool.compare([("x", "y")])


def test_the_fast_path_starts_no_child() -> None:
    with Verifier(workers=2) as verifier:
        verifier.verify_many([Case(task="gsm8k", gold="5", response="#### 5")])
        assert verifier.pool.pids == []


def test_a_file_keeps_every_row_and_its_reason(tmp_path: Path) -> None:
    good = {"id": "a", "task": "gsm8k", "gold": "5", "response": "#### 5", "question": None}
    lines = [
        json.dumps(good), json.dumps(good), "{broken", "[1]", json.dumps(good | {"id": None}),
        json.dumps(good | {"id": "b", "gold": 5}), json.dumps(good | {"id": "c", "task": "chess"}),
        json.dumps(good | {"id": "d", "response": "\ud800 no idea"}),
        json.dumps(good | {"id": 7, "response": "#### 6"}), "",
    ]  # fmt: skip
    cases, out = tmp_path / "cases.jsonl.gz", tmp_path / "deep" / "out.parquet"
    cases.write_bytes(gzip.compress("\n".join(lines).encode()))
    counts = verify_file(cases, out=out, workers=1)
    assert counts == {"correct": 1, "incorrect": 2, "undecided": 0, "bad_row": 6}
    table = pq.read_table(out, page_checksum_verification=True).to_pydict()
    assert list(table) == ["id", "status", "method", "extracted"]
    assert table["id"] == ["a", "a", "line 3", "line 4", "line 5", "b", "c", "d", "7"]
    assert "duplicate id" in table["method"][1]
    assert "gold is missing or not text" in table["method"][5]
    assert "medmcqa" in table["method"][6]
    assert [path.name for path in out.parent.iterdir()] == ["out.parquet"]


def test_files_that_cannot_be_verified_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        verify_file(tmp_path / "none.jsonl", out=tmp_path / "out.parquet")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(EmptyDataset, match="no rows"):
        verify_file(tmp_path / "empty.jsonl", out=tmp_path / "out.parquet")
    row = json.dumps({"id": "a", "task": "gsm8k", "gold": "5", "response": "#### 5" * 999}).encode()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(row * 50)[:-40])
    with pytest.raises(DataError, match="broken gzip after line"):
        verify_file(tmp_path / "cut.jsonl.gz", out=tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.skipif(not DATA.exists(), reason="shared data absent")
def test_recorded_answers_are_judged_better_than_by_plain_math_verify() -> None:
    with gzip.open(DATA / "verifier_cases_dev.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    cases = [Case(response=r["response"], gold=r["gold"], task=r["task"], question=r["question"]) for r in rows]
    with Verifier(workers=1, time_limit_s=10.0) as verifier:
        verdicts = verifier.verify_many(cases)
    wrong = [
        row["task"]
        for row, verdict in zip(rows, verdicts, strict=True)
        if verdict.label != ("correct" if row["label"] else "incorrect")
    ]
    assert wrong.count("medmcqa") == 0
    assert 4077 - len(wrong) >= 4072  # plain Math-Verify 0.9.0: 4,059


@pytest.mark.skipif(not DATA.is_dir(), reason="shared data not present")
@pytest.mark.parametrize("model", ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"])
def test_accuracies_of_gsm8ks_example_solutions_are_those_recorded_by_its_authors(model: str) -> None:
    """Within 0.1 points (one of 1,319 solutions), and at most one verdict that is not theirs."""
    golds = {
        problem.question: problem.gold
        for problem in problems.load(
            ProblemsConfig(source="gsm8k", path=str(DATA.parent / "gsm8k" / "test.jsonl"), split="test")
        ).problems
    }
    with gzip.open(DATA.parent / "gsm8k" / "example_model_solutions.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    cases = [
        Case(task="gsm8k", gold=golds[row["question"]], response=row[model]["solution"], question=row["question"])
        for row in rows
    ]
    with Verifier(workers=1) as verifier:
        ours = [verdict.label for verdict in verifier.verify_many(cases)]
    theirs = [row[model]["is_correct"] for row in rows]
    assert len(ours) == 1319 and "undecided" not in ours
    assert abs(ours.count("correct") - sum(theirs)) * 100 / len(rows) <= 0.1
    assert sum((label == "correct") != right for label, right in zip(ours, theirs, strict=True)) <= 1
