"""Step labels: hand-made debates for every rule, exact labels on arkling, and hostile text."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentark_core.arkling import generator
from agentark_core.arkling.corruption import wrong_solution
from agentark_core.errors import DataError
from agentark_core.step_labels import StepLabel, evidence_labels, exact_labels
from agentark_core.steps import spans
from agentark_core.types import VerdictLabel

QUESTION = "Q: Ann fills 22 red bags and 11 blue bags with 9 pens each and gives away 98 pens. How many pens are left?"
SUM_FIRST = "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 297\nStep 3: 297 - 98 = 199\n\\boxed{199}"
EACH_FIRST = "Step 1: 22 * 9 = 198\nStep 2: 11 * 9 = 99\nStep 3: 198 + 99 = 297\nStep 4: 297 - 98 = 199\n\\boxed{199}"
SLIP = "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 287\nStep 3: 287 - 98 = 189\n\\boxed{189}"

Found = list[tuple[bool | None, str]]


def found(steps: list[StepLabel]) -> Found:
    return [(step.label, step.reason) for step in steps]


def label(*traces: tuple[str, VerdictLabel], question: str = QUESTION, task: str = "number") -> list[Found]:
    texts, verdicts = [text for text, _ in traces], [verdict for _, verdict in traces]
    return [found(steps) for steps in evidence_labels(texts, verdicts, question=question, task=task)]


def test_step_of_a_correct_trace_is_positive_where_another_correct_trace_says_the_same() -> None:
    agrees, unmatched = (True, "agrees"), (None, "unmatched")
    assert label((SUM_FIRST, "correct"), (EACH_FIRST, "correct")) == [
        [unmatched, agrees, agrees, agrees],
        [unmatched, unmatched, agrees, agrees, agrees],
    ]


def test_incorrect_trace_is_negative_where_no_correct_trace_says_the_same_and_at_its_answer() -> None:
    supported, unsupported = (None, "supported"), (False, "unsupported")
    labels = label((SLIP, "incorrect"), (SUM_FIRST, "correct"), (EACH_FIRST, "correct"))
    assert labels[0] == [supported, unsupported, unsupported, (False, "refuted")]


def test_incorrect_traces_and_undecided_ones_are_no_evidence() -> None:
    labels = label((SLIP, "incorrect"), (SLIP, "incorrect"), (SUM_FIRST, "correct"), (SUM_FIRST, "undecided"))
    assert labels[0][1] == (False, "unsupported")
    assert labels[2] == [(None, "no_witness")] * 4
    assert labels[3] == [(None, "undecided")] * 4


def test_without_a_correct_trace_only_the_refuted_answer_is_labelled() -> None:
    assert label((SLIP, "incorrect"))[0] == [(None, "no_witness")] * 3 + [(False, "refuted")]


def test_one_witness_must_state_all_results_of_a_step() -> None:
    both = "Ann: 22 * 9 = 198, 11 * 9 = 99.\n\\boxed{199}"
    halves = ["22 * 9 = 198\n\\boxed{199}", "11 * 9 = 99\n\\boxed{199}"]
    assert label((both, "correct"), *((half, "correct") for half in halves))[0][0] == (None, "unmatched")
    assert label((both, "correct"), ("\n".join(halves), "correct"))[0][0] == (True, "agrees")


def test_soft_label_of_a_positive_step_is_its_share_of_witnesses() -> None:
    traces = [(SUM_FIRST, "correct"), (EACH_FIRST, "correct"), (EACH_FIRST, "correct"), (SLIP, "incorrect")]
    texts, verdicts = [text for text, _ in traces], [verdict for _, verdict in traces]
    labels = evidence_labels(texts, verdicts, question=QUESTION, task="number")  # type: ignore[arg-type]
    assert [[step.soft for step in steps] for steps in labels] == [
        [None, 1, 1, 1],  # 33: no witness states it
        [0.5, 0.5, 1, 1, 1],  # 198 and 99: its copy does, the first trace does not
        [0.5, 0.5, 1, 1, 1],
        [None, 0, 0, 0],  # 33 is supported; 287 and the refuted 189 are not
    ]
    hard = [[None if step.soft is None else step.soft > 0 for step in steps] for steps in labels]
    assert hard == [[step.label for step in steps] for steps in labels]


def test_a_copy_is_a_witness() -> None:
    assert label((SUM_FIRST, "correct"), (SUM_FIRST, "correct")) == [[(True, "agrees")] * 4] * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 3 * 400 = 1,200.0 in all", "So there are \\(3 \\cdot 400 = 1200\\)"),
        ("Half: 1 / 2 = 0.5", "We get $x = \\frac{1}{2}$"),
        ("She has 16 - 7 = <<16-7=9>>9 eggs", "9 eggs are left"),
        ("so \\[ f(x) = (x + 1)^2 \\]", "Hence $g = (x+1)^2$"),
        ("10 x 2 = $20", "The price is \\$20"),
        ("a = 2 + 5 = 7 pens", "7 = 3 + 4"),
    ],
)
def test_equal_results_agree_however_they_are_written(one: str, other: str) -> None:
    labels = label((one + "\n\\boxed{5}", "correct"), (other + "\n\\boxed{5}", "correct"), question="Why?")
    assert labels[0][0] == (True, "agrees")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("Ann has 22 red bags and 11 blue ones.", "no_result"),
        ("Let us think about it.", "no_result"),
        ("Step 5: Think about the bags", "no_result"),
        ("Ann has 23 red bags.", "unmatched"),
        ("The sum is 22 + 11 = 34.", "unmatched"),
        ("The sum is 22 + 11 = 33.", "agrees"),
        ("We write n = 22 + 11.", "no_result"),
        ("n <= 40 and m >= 50", "unmatched"),
    ],
)
def test_results_are_what_follows_an_equals_sign_or_is_new(step: str, reason: str) -> None:
    assert label((step + "\n\\boxed{199}", "correct"), (SUM_FIRST, "correct"))[0][0][1] == reason


def test_verified_answers_agree_however_they_are_spelled() -> None:
    traces = ("So \\boxed{\\frac{\\sqrt{2}}{2}}", "correct"), ("So \\boxed{1/\\sqrt{2}}", "correct")
    assert label(*traces, task="math") == [[(True, "agrees")]] * 2


def test_answer_step_is_the_last_that_states_the_answer() -> None:
    text = SLIP + "\n\nI hope that this helps you."
    assert label((text, "incorrect"), (SUM_FIRST, "correct"))[0][-2:] == [(False, "refuted"), (None, "no_result")]


def test_wrong_input_is_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match="2 traces but 1 verdicts"):
        evidence_labels(["a", "b"], ["correct"], question="", task="number")
    with pytest.raises(DataError, match="unknown task"):
        evidence_labels(["a"], ["correct"], question="", task="poem")


HOSTILE = st.lists(
    st.sampled_from(
        [
            "=",
            "\n",
            "7",
            "9" * 40,
            ",",
            "000",
            "\\frac{1}{0}",
            "\\frac",
            "$",
            "x",
            "\\boxed{7}",
            "\x00",
            "\ud800",
            "٣",
            "²",
            "/",
            "-",
        ]
    )
).map("".join) | st.text(st.characters(), max_size=100)


@given(st.lists(st.tuples(HOSTILE, st.sampled_from(["correct", "incorrect", "undecided"])), max_size=4), HOSTILE)
@settings(max_examples=200)
def test_every_step_of_any_text_has_one_label(traces: list[tuple[str, VerdictLabel]], question: str) -> None:
    texts, verdicts = [text for text, _ in traces], [verdict for _, verdict in traces]
    labels = evidence_labels(texts, verdicts, question=question, task="math")
    assert [[(step.start, step.end) for step in steps] for steps in labels] == [spans(text) for text in texts]


@pytest.mark.parametrize("piece", ["= 7\n", "= x$", "\\frac{", "7,777,", "=  ", "Step 1", "9", "7/", "\\boxed{7}\n"])
def test_time_is_linear_in_the_length(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        begun = time.process_time()
        evidence_labels([text, text], ["correct", "incorrect"], question="", task="number")
        return time.process_time() - begun

    assert min(seconds(160_000) for _ in range(3)) < 8 * min(seconds(40_000) for _ in range(3)) + 0.3


def right(text: str, question: str = QUESTION) -> list[bool | None]:
    return [step.label for step in exact_labels(text, question=question)]


EXACT = [
    (SUM_FIRST, [True] * 4),
    (EACH_FIRST, [True] * 5),
    (SLIP, [True, False, False, False]),
    ("Step 1: 11 + 22 = 33\nStep 2: 9 * 33 = 297\nStep 3: 297 - 98 = 199\n\\boxed{199}", [True] * 4),
    ("Step 1: 22 + 9 = 31\n\\boxed{199}", [False, True]),
    ("Step 1: 33 * 9 = 297\n", [False]),
    ("Step 1: 22 * 9 = 198\n\nStep 2: 98 - 297 = 199\n\\boxed{198}", [True, False, False]),
    ("Step 1: 22 + 11 = 33\nI give up.\n", [True, False]),
    ("Step 1: 22 + 11 = 33\u2028Step 2: 33 * 9 = 298\n", [False]),
    (" \n", [True]),
    ("", []),
]


@pytest.mark.parametrize(("text", "wanted"), EXACT)
def test_exact_labels_of_examples(text: str, wanted: list[bool]) -> None:
    assert right(text) == wanted
    assert [step.soft for step in exact_labels(text, question=QUESTION)] == wanted


def test_exact_labels_call_every_path_right_and_find_the_error_in_every_wrong_solution() -> None:
    rng = random.Random(0)
    for problem, spec in zip(generator.problems("distil", limit=300), generator.specs("distil"), strict=False):
        for text in generator.solutions(spec):
            assert all(right(text, problem.question))
        assert not all(right(wrong_solution(spec, rng), problem.question))


def test_exact_labels_of_other_questions_are_refused() -> None:
    for question in ("What is 3 + 4?", QUESTION.replace("22", "999"), "", QUESTION + "\n"):
        with pytest.raises(DataError, match="not a question of arkling"):
            exact_labels("Step 1: 3 + 4 = 7", question=question)


def test_a_question_gives_its_problem_back() -> None:
    for split in generator.SPLITS:
        for problem in generator.problems(split, limit=200):
            assert f"arkling-{generator.parse_question(problem.question).digest}" == problem.problem_id
