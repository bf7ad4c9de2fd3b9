"""Benchmarks whose answers are prose: their row formats, cut contexts, worked examples, storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted import Scripted, boxed

from agentark_core import problems, records
from agentark_core.config import DebateConfig, ProblemsConfig
from agentark_core.contexts import ContextBudget
from agentark_core.discussion import Discussion, Plan
from agentark_core.errors import ConfigError, EmptyDataset
from agentark_core.ledger import fingerprint
from agentark_core.types import Problem

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="shared data not present")

HOTPOT = {
    "id": "5a",
    "question": "In which town was the singer of Blue born?",
    "answer": "Bath",
    "type": "bridge",
    "level": "hard",
    "context": {"title": ["Blue", "Ann"], "sentences": [["Blue is a song.", " Ann sang it."], ["Ann is from Bath."]]},
}
QASPER = {
    "id": "1909.1",
    "title": "On Cats",
    "abstract": "We study cats.",
    "full_text": {"section_name": ["Data", None], "paragraphs": [["We use CatBank.", "It is large."], ["The end."]]},
    "qas": {
        "question": ["Which data?", "Is it large?", "Who paid?"],
        "question_id": ["q1", "q2", "q3"],
        "answers": [
            {
                "answer": [
                    {
                        "unanswerable": False,
                        "extractive_spans": ["CatBank", "cats"],
                        "yes_no": None,
                        "free_form_answer": "",
                    },
                    {
                        "unanswerable": False,
                        "extractive_spans": [],
                        "yes_no": None,
                        "free_form_answer": "a bank of cats",
                    },
                ]
            },
            {
                "answer": [
                    {"unanswerable": False, "extractive_spans": [], "yes_no": False, "free_form_answer": ""},
                    {"unanswerable": False, "extractive_spans": [], "yes_no": True, "free_form_answer": ""},
                ]
            },
            {"answer": [{"unanswerable": True, "extractive_spans": [], "yes_no": None, "free_form_answer": ""}]},
        ],
    },
}
LEVAL = {
    "instructions": ["Which data?", "Which data?", "Is it large?"],
    "outputs": ["CatBank", "a bank of cats", "Yes"],
    "input": "We use CatBank. It is large.",
    "source": "scientific_qa",
}
QMSUM = {
    "topic_list": [],
    "general_query_list": [{"query": "Summarize the meeting.", "answer": "They chose red."}],
    "specific_query_list": [
        {"query": "What did Ann want?", "answer": "Ann wanted red.", "relevant_text_span": [["0", "1"]]}
    ],
    "meeting_transcripts": [{"speaker": "Ann", "content": " Red , please . "}, {"speaker": "Bob", "content": "OK"}],
}
TRUTH_CSV = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    'Adversarial,Food,Do seeds grow in you?,They pass through,"No; They pass through; ","Yes, they grow; You die.",x\n'
)
TRUTH_HUB = {
    "type": "Adversarial",
    "category": "Food",
    "question": "Do seeds grow in you?",
    "best_answer": "They pass through",
    "correct_answers": ["No", "They pass through"],
    "incorrect_answers": ["Yes, they grow", "You die."],
    "source": "x",
}
MC = {
    "question": "What grows?",
    "mc1_targets": {"Nothing": 1, "A tree": 0, "A melon": 0},
    "mc2_targets": {"Nothing": 1, "A tree": 0},
}
MC_HUB = {"question": "What grows?", "mc1_targets": {"choices": ["Nothing", "A tree", "A melon"], "labels": [1, 0, 0]}}


def load(path: Path, source: str, **settings: Any) -> problems.LoadedProblems:
    return problems.load(ProblemsConfig.model_validate({"source": source, "path": str(path), **settings}))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(tmp_path: Path, source: str, row: Any, **settings: Any) -> Problem:
    (problem,) = load(write(tmp_path / "rows.jsonl", [row]), source, **settings).problems
    return problem


# ---- row formats


def test_hotpotqa_shows_all_paragraphs_and_then_the_question(tmp_path: Path) -> None:
    problem = one(tmp_path, "hotpotqa", HOTPOT)
    assert "Blue\nBlue is a song. Ann sang it.\n\nAnn\nAnn is from Bath.\n\nQuestion: In which" in problem.question
    assert (problem.task, problem.gold, problem.references) == ("hotpotqa", "Bath", ("Bath",))
    assert problem.meta == {"type": "bridge", "level": "hard", "id": "5a"}


def test_hotpotqa_in_the_authors_layout_asks_the_same(tmp_path: Path) -> None:
    context = [list(pair) for pair in zip(*HOTPOT["context"].values(), strict=True)]
    theirs = {key: value for key, value in HOTPOT.items() if key != "id"} | {"context": context, "_id": "5a"}
    assert one(tmp_path, "hotpotqa", theirs).question == one(tmp_path, "hotpotqa", HOTPOT).question


def test_qasper_takes_the_references_of_all_annotators_as_the_official_scorer_does(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "q.jsonl", [QASPER]), "qasper")
    assert [(p.problem_id, p.references) for p in loaded.problems] == [
        ("qasper-q1", ("CatBank, cats", "a bank of cats")),
        ("qasper-q2", ("No", "Yes")),
        ("qasper-q3", ("Unanswerable",)),
    ]
    paper = "On Cats\n\nWe study cats.\n\nData\n\nWe use CatBank.\n\nIt is large.\n\nThe end."
    assert all(f"A paper:\n\n{paper}\n\n" in p.question for p in loaded.problems)


def test_a_question_asked_twice_about_one_document_has_the_references_of_both(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "q.jsonl", [LEVAL]), "qasper")
    assert [p.references for p in loaded.problems] == [("CatBank", "a bank of cats"), ("Yes",)]


def test_a_query_that_is_both_general_and_specific_is_one_question(tmp_path: Path) -> None:
    twice = QMSUM | {"specific_query_list": [{"query": "Summarize the meeting.", "answer": "Red it is."}]}
    problem = one(tmp_path, "qmsum", twice)
    assert problem.references == ("They chose red.", "Red it is.") and problem.meta["kind"] == "general"


def test_one_question_about_two_papers_is_two_questions(tmp_path: Path) -> None:
    other = LEVAL | {"input": "We use DogBank. It is small.", "outputs": ["DogBank", "DogBank", "No"]}
    loaded = load(write(tmp_path / "q.jsonl", [LEVAL, other]), "qasper")
    assert [p.gold for p in loaded.problems] == ["CatBank", "Yes", "DogBank", "No"] and not loaded.bad_rows


def test_qmsum_asks_general_and_specific_queries_about_the_whole_transcript(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "m.jsonl", [QMSUM]), "qmsum")
    assert [(p.gold, p.meta["kind"]) for p in loaded.problems] == [
        ("They chose red.", "general"),
        ("Ann wanted red.", "specific"),
    ]
    assert all("Ann: Red , please .\nBob: OK\n" in p.question for p in loaded.problems)


def test_truthfulqa_has_true_and_false_references_that_end_with_a_full_stop(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeff" + TRUTH_CSV, encoding="utf-8")
    (from_csv,) = load(tmp_path / "t.csv", "truthfulqa").problems
    from_hub = one(tmp_path, "truthfulqa", TRUTH_HUB)
    assert from_csv.references == from_hub.references == ("They pass through.", "No.", "I have no comment.")
    assert from_csv.wrong_references == from_hub.wrong_references == ("Yes, they grow.", "You die.")
    assert from_csv.question == from_hub.question and from_csv.gold == "They pass through."


def test_truthfulqa_multiple_choice_hides_the_right_option_among_numbers(tmp_path: Path) -> None:
    rows = [MC | {"question": f"What grows in {place}?"} for place in range(60)]
    asked = load(write(tmp_path / "mc.jsonl", rows), "truthfulqa_mc").problems
    assert {p.gold for p in asked} == {"1", "2", "3"} and all(p.task == "number" for p in asked)
    assert all(f"\n{p.gold}. Nothing\n" in p.question for p in asked)
    first, again = one(tmp_path, "truthfulqa_mc", MC), one(tmp_path, "truthfulqa_mc", MC_HUB)
    assert (first.question, first.gold) == (again.question, again.gold)


@pytest.mark.parametrize(
    ("source", "row", "reason"),
    [
        ("hotpotqa", HOTPOT | {"context": {"title": ["a"], "sentences": []}}, "1 titles and 0 paragraphs"),
        ("hotpotqa", HOTPOT | {"context": None}, "context: expected a list"),
        ("hotpotqa", HOTPOT | {"answer": " "}, "answer: empty"),
        ("qasper", QASPER | {"qas": {"question": ["a"], "answers": []}}, "1 questions and 0 answers"),
        ("qasper", QASPER | {"full_text": None}, "no field 'full_text'"),
        ("qasper", LEVAL | {"outputs": ["x"]}, "3 instructions and 1 outputs"),
        ("qmsum", QMSUM | {"meeting_transcripts": [7]}, "expected an object"),
        ("qmsum", QMSUM | {"general_query_list": [], "specific_query_list": []}, "a document without questions"),
        ("truthfulqa", TRUTH_HUB | {"correct_answers": "No"}, "correct_answers: expected a list"),
        ("truthfulqa_mc", MC | {"mc1_targets": {"a": 1, "b": 1}}, "expected exactly one 1"),
    ],
)
def test_rows_that_do_not_fit_are_set_aside_with_the_reason(
    source: str, row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    good = {"hotpotqa": HOTPOT, "qasper": LEVAL, "qmsum": QMSUM, "truthfulqa": TRUTH_HUB, "truthfulqa_mc": MC}[source]
    loaded = load(write(tmp_path / "r.jsonl", [good, row]), source, max_bad_row_share=1)
    (bad,) = loaded.bad_rows
    assert bad.row == 2 and reason in bad.reason


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["title", "answer"]), inner),
    max_leaves=6,
)
SAMPLES: dict[str, dict[str, Any]] = {
    "hotpotqa": HOTPOT, "qasper": QASPER, "qmsum": QMSUM, "truthfulqa": TRUTH_HUB, "truthfulqa_mc": MC,
}  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), source=st.sampled_from(sorted(SAMPLES)))
def test_a_row_with_any_wrong_part_is_read_or_set_aside(data: st.DataObject, source: str, tmp_path: Path) -> None:
    good = SAMPLES[source]
    broken = good | {data.draw(st.sampled_from(sorted(good))): data.draw(VALUES)}
    try:
        loaded = load(write(tmp_path / "r.jsonl", [good, broken]), source, max_bad_row_share=1)
    except EmptyDataset as error:  # the good row goes as well where the other contradicts it
        assert "same question as row" in str(error)
        return
    assert loaded.problems and len(loaded.problems) + len(loaded.bad_rows) >= 2


def test_math500_is_read_as_math(tmp_path: Path) -> None:
    row = {"problem": "1 + 1?", "solution": "It is \\boxed{2}.", "answer": "2", "subject": "Algebra", "level": 1}
    problem = one(tmp_path, "math500", row | {"unique_id": "test/1.json"})
    assert (problem.task, problem.gold, problem.meta["subject"]) == ("math", "2", "Algebra")


def test_own_questions_in_prose_take_several_golds_and_a_context(tmp_path: Path) -> None:
    row = {"question": "Who?", "answer": ["Ann", "Ann B."], "about": "Ann came."}
    problem = one(tmp_path, "file", row, task="free_text", context_column="about")
    assert problem.question == "Ann came.\n\nQuestion: Who?" and problem.references == ("Ann", "Ann B.")
    assert one(tmp_path, "file", {"question": "Who?", "answer": 7}, task="free_text").references == ("7",)


# ---- published files


@needs_shared
@pytest.mark.parametrize(
    ("source", "file", "questions", "repeats"),
    [
        ("hotpotqa", "hotpotqa/dev_distractor_sample100.jsonl", 100, 0),
        ("truthfulqa", "truthfulqa/TruthfulQA.csv", 817, 0),
        ("truthfulqa_mc", "truthfulqa/mc_task.json", 817, 0),
        ("math500", "math/math500.jsonl", 500, 0),
        ("qmsum", "qmsum/val.jsonl.gz", 271, 0),
        ("qmsum", "qmsum/test.jsonl.gz", 280, 0),
        ("qasper", "qasper/leval_scientific_qa.jsonl", 152, 23),  # three of its 23 papers come twice
    ],
)
def test_published_files_load_whole(source: str, file: str, questions: int, repeats: int) -> None:
    loaded = load(SHARED / file, source)
    assert (len(loaded.problems), len(loaded.bad_rows)) == (questions, repeats)
    assert all(row.reason.startswith(problems.REPEATED) for row in loaded.bad_rows)
    assert len({problem.problem_id for problem in loaded.problems}) == questions


@needs_shared
def test_no_answer_of_the_published_documents_is_lost() -> None:
    lines = (SHARED / "qasper/leval_scientific_qa.jsonl").read_text(encoding="utf-8").splitlines()
    published = [(row["input"], output.strip()) for row in map(json.loads, lines) for output in row["outputs"]]
    loaded = load(SHARED / "qasper/leval_scientific_qa.jsonl", "qasper")
    for context, output in published:
        assert any(context in p.question and output in p.references for p in loaded.problems)


# ---- long contexts


class Words:
    """A tokenizer of one token a word, as far as a budget needs one."""

    is_fast, name_or_path = True, "words"

    def __call__(self, text: str, **_: Any) -> dict[str, list[tuple[int, int]]]:
        spans, at = [], 0
        for word in text.split():
            at = text.index(word, at)
            spans.append((at, at + len(word)))
            at += len(word)
        return {"offset_mapping": spans}


@pytest.mark.parametrize(
    ("budget", "text", "removed"),
    [
        (9, "a b c d e f g h i", 0),
        (6, "a b c\n[... 3 tokens left out here ...]\ng h i", 3),
        (5, "a b c\n[... 4 tokens left out here ...]\nh i", 4),
        (1, "a\n[... 8 tokens left out here ...]\n", 8),
    ],
)
def test_a_context_over_the_budget_keeps_both_ends_and_says_what_is_missing(
    budget: int, text: str, removed: int
) -> None:
    cut = ContextBudget(Words(), max_tokens=budget).cut("a b c d e f g h i")  # type: ignore[arg-type]
    assert (cut.text, cut.tokens, cut.removed) == (text, 9, removed)


def test_a_cut_context_is_counted_in_meta_and_keeps_the_id(tmp_path: Path) -> None:
    tokens = {"tokenizer": "arkling:student"}
    whole = one(tmp_path, "qmsum", QMSUM | {"specific_query_list": []})
    cut = one(tmp_path, "qmsum", QMSUM | {"specific_query_list": []}, max_context_tokens=8, **tokens)
    assert cut.problem_id == whole.problem_id and "tokens left out here" in cut.question
    assert int(cut.meta["context_tokens"]) - int(cut.meta["context_tokens_cut"]) == 8
    assert "Request: Summarize the meeting." in cut.question
    roomy = one(tmp_path, "qmsum", QMSUM | {"specific_query_list": []}, max_context_tokens=5000, **tokens)
    assert roomy.question == whole.question and "context_tokens_cut" not in roomy.meta


def test_a_budget_needs_a_tokenizer() -> None:
    with pytest.raises(ValidationError, match="name it in tokenizer"):
        ProblemsConfig(source="qmsum", max_context_tokens=100)


# ---- worked examples


def gsm(first: int, last: int) -> list[dict[str, str]]:
    return [
        {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = <<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"}
        for n in range(first, last)
    ]


def few(tmp_path: Path, rows: list[dict[str, str]], *, few_shot: int = 3, **settings: Any) -> problems.LoadedProblems:
    examples = write(tmp_path / "train.jsonl", rows)
    test = write(tmp_path / "test.jsonl", gsm(0, 5))
    return load(test, "gsm8k", split="test", few_shot=few_shot, few_shot_path=str(examples), **settings)


def test_all_questions_get_the_same_examples_that_end_in_a_box(tmp_path: Path) -> None:
    loaded = few(tmp_path, gsm(10, 40))
    (shots,) = {problem.shots for problem in loaded.problems}
    assert len(shots) == 3
    for question, reply in shots:
        number = int(question.split()[2])
        assert 10 <= number < 40 and reply == f"{number} + 1 = {number + 1}\n\\boxed{{{number + 1}}}"
    assert loaded == few(tmp_path, gsm(10, 40))
    assert loaded.revision != few(tmp_path, gsm(11, 40)).revision


def test_an_example_never_asks_a_tested_question(tmp_path: Path) -> None:
    for seed_rows in range(30, 60):  # each draws other rows
        loaded = few(tmp_path, [*gsm(2, 5), *gsm(10, seed_rows)], limit=1)
        asked = {f"What is {n} + 1?" for n in range(5)}
        assert not asked & {question for question, _ in loaded.problems[0].shots}


def test_a_test_file_as_source_of_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the tested file itself"):
        few(tmp_path, gsm(0, 5))
    with pytest.raises(ConfigError, match="5 of 5 rows drawn .* ask tested questions"):
        few(tmp_path, gsm(0, 5)[::-1])
    with pytest.raises(ConfigError, match="3 examples are wanted, .* has 2"):
        few(tmp_path, gsm(10, 12))


def test_examples_that_cannot_be_had_are_refused_with_the_remedy(tmp_path: Path) -> None:
    test = write(tmp_path / "m.jsonl", [QMSUM])
    with pytest.raises(ConfigError, match="few_shot_path: empty, and qmsum has no training split"):
        load(test, "qmsum", split="test", few_shot=1)
    with pytest.raises(ConfigError, match="split 'train' is the training split"):
        load(write(tmp_path / "g.jsonl", gsm(0, 5)), "gsm8k", few_shot=1)
    with pytest.raises(ValidationError, match="leave few_shot at 0"):
        ProblemsConfig(source="arkling", few_shot=2)


def test_examples_are_earlier_turns_of_every_chat_of_a_debate() -> None:
    problem = Problem(
        problem_id="p-1", dataset="t", task="number", question="Q?", gold="2", shots=(("E?", "One.\n\\boxed{1}"),)
    )
    seen: list[list[dict[str, str]]] = []

    class Keeps(Scripted):
        def prompt(self, messages: list[dict[str, str]]) -> Any:
            seen.append(messages)
            return super().prompt(messages)

    import asyncio

    from agentark_core import strategies

    plan = Plan(config=DebateConfig(num_agents=2, num_rounds=2, quorum=0), wording="general", base_seed=0)
    engine = Keeps(lambda round, agent: boxed(agent))
    discussion = Discussion(problem, work_id="w", plan=plan, engine=engine, recorded={}, on_turn=lambda turn: None)
    asyncio.run(strategies.load("debate")(discussion))
    assert len(seen) == 5
    for chat in seen:
        assert [message["role"] for message in chat] == ["user", "assistant", "user"]
        assert chat[0]["content"].startswith("E?") and chat[1]["content"] == "One.\n\\boxed{1}"


# ---- storage and identity


def test_problems_with_references_and_examples_come_back_from_their_table(tmp_path: Path) -> None:
    asked = [
        Problem(
            problem_id=f"p-{n}",
            dataset="t",
            task="truthfulqa",
            question="q",
            gold="a",
            references=("a", "b"),
            wrong_references=("c",) * n,
            shots=(("x", "y"),),
        )
        for n in range(2)
    ]
    assert records.table_to_problems(records.problems_to_table(asked)) == asked


def test_tables_of_problems_without_references_are_what_they_were_before() -> None:
    plain = Problem(problem_id="p-1", dataset="t", task="math", question="q", gold="1", meta={"a": "b"})
    table = records.problems_to_table([plain])
    assert table.schema == records.PROBLEM_SCHEMA
    mixed = pa.concat_tables(
        [table, records.problems_to_table([Problem(**{**_fields(plain), "references": ("1",)})])],
        promote_options="default",
    )
    assert [p.references for p in records.table_to_problems(mixed)] == [(), ("1",)]


def _fields(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("problem_id", "dataset", "task", "question", "gold", "meta")}


def test_settings_that_are_not_used_leave_the_fingerprint_as_it_was() -> None:
    before = {
        "source": "gsm8k", "path": "", "dataset": None, "split": "train", "limit": 0, "offset": 0, "id_column": "",
        "question_column": "question", "answer_column": "answer", "task": "math", "max_bad_row_share": 0.01,
    }  # fmt: skip
    shape = problems.shape(ProblemsConfig(source="gsm8k", license="MIT"))
    assert fingerprint("problems", config=shape) == fingerprint("problems", config=before)
    assert "few_shot" in problems.shape(ProblemsConfig(source="gsm8k", few_shot=1))
