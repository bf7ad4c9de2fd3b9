"""Intervals and tests against values computed by hand or published; the report keeps what it was given."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from agentark_core.answers import majority
from agentark_core.errors import DataError
from agentark_core.evaluation import at_equal_tokens, compare, from_json, to_json, with_equal_tokens
from agentark_core.evaluation_report import equal_tokens, plot, render_markdown, render_text
from agentark_core.paired_tests import paired
from agentark_core.pass_at_k import Samples
from agentark_core.statistics import detectable_difference, holm, mcnemar, newcombe, ratio, wilson
from agentark_core.types import MethodResult


def result(
    name: str, outcomes: str, *, tokens: int = 100, calls: int = 10, by_question: dict[str, int] | None = None
) -> MethodResult:
    """Outcomes as text, one question a character: 1 correct, 0 incorrect, ? undecided."""
    values = {f"q-{i}": {"1": True, "0": False, "?": None}[c] for i, c in enumerate(outcomes)}
    return MethodResult(
        name=name,
        model=f"model-of-{name}",
        outcomes=values,
        completion_tokens=tokens,
        prompt_tokens=40,
        calls=calls,
        tokens=by_question or {},
    )


def test_wilson_equals_values_computed_by_hand() -> None:
    assert wilson(60, 100) == pytest.approx((0.5020, 0.6906), abs=5e-5)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson(11, 10)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(case: tuple[int, int]) -> None:
    successes, n = case
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_mcnemar_equals_values_computed_by_hand() -> None:
    assert mcnemar(10, 2) == 2 * (1 + 12 + 66) / 4096  # 0.0386
    assert mcnemar(2, 10) == mcnemar(10, 2)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0
    assert mcnemar(0, 6) == 2 / 64
    assert 0 < mcnemar(400, 500) < 0.001


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_scipy(only_a: int, only_b: int) -> None:
    if only_a + only_b:
        assert mcnemar(only_a, only_b) == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)


def test_newcombe_equals_the_published_example() -> None:
    """Newcombe (1998), table II, method 10: 36, 12, 2, 0 of 50 gives 0.2000 with limits 0.0569 and 0.3404."""
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_newcombe_equals_a_value_computed_by_hand() -> None:
    """80, 10, 2, 8: p 0.90 and 0.82, Wilson [0.8256, 0.9448] and [0.7333, 0.8830], phi = (620 - 50) / sqrt(90 * 10 *
    82 * 18) = 0.4946; low = 0.08 - sqrt(0.0744^2 - 2 phi 0.0744 0.0630 + 0.0630^2) = 0.0103, high = 0.1554."""
    assert newcombe(80, 10, 2, 8) == pytest.approx((0.0103, 0.1554), abs=1e-4)


@given(*[st.integers(0, 50)] * 4)
def test_newcombe_contains_the_difference_and_turns_with_the_order(both: int, a: int, b: int, neither: int) -> None:
    if n := both + a + b + neither:
        low, high = newcombe(both, a, b, neither)
        assert -1 <= low <= (a - b) / n + 1e-12
        assert (a - b) / n - 1e-12 <= high <= 1
        assert newcombe(both, b, a, neither) == pytest.approx((-high, -low), abs=1e-9)


def test_paired_uses_only_questions_decided_for_both() -> None:
    a = {"1": True, "2": True, "3": False, "4": None, "5": True, "6": False}
    b = {"1": False, "2": True, "3": False, "4": True, "5": None, "7": True}
    test = paired(a, b)
    assert (test.n, test.only_a, test.only_b) == (3, 1, 0)
    assert test.difference == pytest.approx(100 / 3)
    assert test.low < test.difference < test.high
    with pytest.raises(DataError, match="no question was decided for both"):
        paired({"1": None}, {"1": True})


def test_holm_equals_values_computed_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("answers", "task", "expected"),
    [
        (["7", "12", "12.0", None], "number", "12"),
        (["7", "12", "12", "7"], "number", "7"),  # tie: first seen
        ([None, None, None, "5"], "number", "5"),  # missing answers have no vote
        ([None, None], "number", None),
        ([], "number", None),
        (["(b)", "A", "B"], "choice", "(b)"),
    ],
)
def test_majority_votes_by_equivalence(answers: list[str | None], task: str, expected: str | None) -> None:
    assert majority(answers, task=task) == expected


def test_compare_counts_over_all_questions_and_shows_undecided_apart() -> None:
    base = result("base", "0000011111")
    student = result("student", "11111111??", tokens=250, calls=20)
    report = compare([student, base], baseline="base", contrasts=[("student", "base")])
    row = report.rows[0]
    assert [r.name for r in report.rows] == ["student", "base"]
    assert (row.n, row.correct, row.undecided, row.accuracy) == (10, 8, 2, 0.8)
    assert (row.low, row.high) == wilson(8, 10)
    assert (row.tokens_per_question, row.prompt_tokens_per_question, row.calls_per_question) == (25, 4, 2)
    assert row.vs_baseline is not None
    assert (row.vs_baseline.n, row.vs_baseline.only_a, row.vs_baseline.only_b) == (8, 5, 0)
    assert row.vs_baseline.p_holm == pytest.approx(2 * 2 / 32)  # two comparisons in the family
    assert report.contrasts[0].test is not None
    assert report.contrasts[0].test.p_value == row.vs_baseline.p_value
    assert report.rows[1].vs_baseline is None


def test_compare_refuses_what_cannot_be_compared() -> None:
    a, b = result("a", "10"), result("b", "101")
    with pytest.raises(DataError, match=r"'a' and 'b' differ in 1 questions \(first: q-2\)"):
        compare([a, b], baseline="a")
    with pytest.raises(DataError, match="no results of a method named 'c'"):
        compare([a], baseline="c")
    with pytest.raises(DataError, match="no results of a method named 'x'"):
        compare([a], baseline="a", contrasts=[("a", "x")])
    with pytest.raises(DataError, match="same name"):
        compare([a, a], baseline="a")
    with pytest.raises(DataError, match="has no questions"):
        compare([result("a", "")], baseline="a")


def test_a_method_without_any_verdict_is_shown_but_not_tested() -> None:
    report = compare([result("a", "10"), result("b", "??")], baseline="a")
    assert report.rows[1].vs_baseline is None
    assert "b - a" in render_text(report)


def test_report_round_trips_through_json() -> None:
    report = compare([result("a", "1010"), result("b", "11?1")], baseline="a", contrasts=[("b", "a")])
    text = json.dumps(to_json(report), allow_nan=False)
    assert from_json(json.loads(text)) == report


def test_text_is_at_most_100_columns_and_markup_in_names_stays_text() -> None:
    rows = [result("[b]base[/b]", "10101010" * 20), result("debate of five agents, three rounds", "11101010" * 20)]
    text = render_text(compare(rows, baseline="[b]base[/b]"))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "[b]base[/b] (baseline)" in text
    assert "100/160" in text
    assert "+12.5" in text


def test_markdown_escapes_cells() -> None:
    markdown = render_markdown(compare([result("a|b<script>", "10"), result("c", "11")], baseline="c"))
    assert r"a\|b&lt;script>" in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in lines} == {8, 9}, "methods and tests"


def test_plot_writes_a_png(tmp_path: Path) -> None:
    names = ["a $x$", "b", "c"]
    report = compare(
        [result(name, "1100", tokens=t) for name, t in zip(names, (0, 40, 4000), strict=True)], baseline="c"
    )
    plot(report, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_p_values_of_many_discordant_pairs_do_not_overflow() -> None:
    assert mcnemar(2600, 2400) == pytest.approx(binomtest(2400, 5000).pvalue, rel=1e-9)
    assert math.isfinite(mcnemar(20_000, 0))


def test_a_difference_that_is_not_significant_has_the_detectable_one_beside_it() -> None:
    base = result("base", "0" * 60 + "1" * 60)
    better, same = result("better", "1" * 60 + "1" * 60), result("same", "0" * 57 + "111" + "1" * 57 + "000")
    report = compare([base, better, same], baseline="base")
    found, other = report.rows[1].vs_baseline, report.rows[2].vs_baseline
    assert found is not None and other is not None
    assert found.detectable is None, "significant"
    expected = detectable_difference(120, discordant=6, alpha=0.05 / 2)
    assert expected is not None and other.detectable == 100 * expected
    assert f"{other.detectable:.1f} |" in render_markdown(report)
    assert render_text(report).count("MDD") == 2, "heading and note"


def test_retention_and_accuracy_for_tokens_stand_beside_a_debate() -> None:
    tokens = {f"q-{i}": 10 * (1 + i % 3) for i in range(12)}
    student = result("student", "110011001100", tokens=240, by_question=tokens)
    debate = result("debate", "1111111100??", tokens=999)
    report = compare([student, debate], baseline="student", reference="debate")
    row = report.rows[0]
    assert row.retention is not None and row.per_1000_tokens is not None
    assert row.retention == ratio([c == "1" for c in "110011001100"], [True] * 8 + [False] * 4)
    assert row.retention.value == 6 / 8 and row.per_1000_tokens.value == pytest.approx(6 / 0.24)
    assert report.rows[1].per_1000_tokens is None, "its tokens by question are not known"
    text = render_text(report)
    assert "retention % [95 %]" in text and "75.0 [" in text and "(reference)" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert from_json(json.loads(json.dumps(to_json(report), allow_nan=False))) == report
    assert "retention" not in render_text(compare([student, debate], baseline="student"))
    with pytest.raises(DataError, match="no results of a method named 'x'"):
        compare([student, debate], baseline="student", reference="x")


def test_a_report_of_an_older_version_is_still_read() -> None:
    report = compare([result("a", "1010"), result("b", "11?1")], baseline="a")
    data = to_json(report)
    del data["reference"]
    for row in data["rows"]:
        del row["retention"], row["per_1000_tokens"], row["self_correction"]
        (row["vs_baseline"] or {}).pop("detectable", None)
    assert from_json(data).rows[0] == report.rows[0]


def test_self_consistency_at_equal_tokens_votes_with_as_many_samples_as_the_debate_costs() -> None:
    debate = result("debate", "1110", tokens=4 * 31)
    samples = {
        "q-0": Samples(groups=[0, 0, 0, 0], right=[True] * 4, tokens=40),
        "q-1": Samples(groups=[0, 1, 1, 1], right=[True, False, False, False], tokens=44),
        "q-2": Samples(groups=[0, 0, 1, 2], right=[True, True, False, False], tokens=36),
        "q-3": Samples(groups=[None, 0, 0, 1], right=[False] * 4, tokens=40),
    }
    found = at_equal_tokens(samples, debate)
    # Ten tokens a sample, 31 a debate: three of four. q-2: {0,0,x} wins twice, {0,1,2} is a tie of three, twice.
    assert (found.k, found.tokens_per_question) == (3, 30)
    assert found.accuracy.value == pytest.approx((1 + 0 + (2 + 2 / 3) / 4 + 0) / 4)
    assert found.difference.value == pytest.approx(0.75 - found.accuracy.value)
    assert (found.affordable, found.capped) == (3, False)
    capped = at_equal_tokens(samples, result("debate", "1110", tokens=4_000))
    assert (capped.k, capped.affordable, capped.capped) == (4, 100, True), "no more than were sampled"
    said = equal_tokens(with_equal_tokens(compare([debate], baseline="debate", reference="debate"), capped))
    assert said.endswith("Not equal: those tokens would buy 100 samples, and only 4 were drawn.")
    student = result("student", "0110", tokens=4)
    found = at_equal_tokens(samples, debate, student=student)
    assert found.student is not None and found.student.value == pytest.approx(0.5 - found.accuracy.value)
    report = with_equal_tokens(compare([debate], baseline="debate", reference="debate"), found)
    assert from_json(json.loads(json.dumps(to_json(report), allow_nan=False))) == report
    assert "majority@3, 30 completion tokens a question, accuracy 41.7 [" in render_text(report)
    assert "majority@3, 30 completion tokens a question" in render_markdown(report)


def test_the_vote_at_equal_tokens_is_in_the_family_of_the_report() -> None:
    base, debate = result("base", "0" * 9 + "1"), result("debate", "1" * 10, tokens=100)
    samples = {key: Samples(groups=[0], right=[number < 2], tokens=10) for number, key in enumerate(debate.outcomes)}
    plain = compare([base, debate], baseline="base", reference="debate")
    found = at_equal_tokens(samples, debate, student=base)
    report = with_equal_tokens(plain, found)
    assert report.equal_tokens is not None and report.equal_tokens.student is not None
    # The debate alone is right on eight questions: 2 / 2^8. The student is on one, the vote on two: one of 3 signs
    # differs or none, so p is 1.
    tests = [report.rows[1].vs_baseline, report.equal_tokens.difference, report.equal_tokens.student]
    assert [test.p_value for test in tests if test] == pytest.approx([2 / 2**9, 2 / 2**8, 1.0])
    assert [test.p_holm for test in tests if test] == pytest.approx([6 / 2**9, 4 / 2**8, 1.0])
    # Differences of the student: -1, -1 and +1 of ten, deviation 0.5676; t(1 - 0.05 / 6, 9) = 2.933, t(0.8, 9) = 0.883.
    assert report.equal_tokens.student.deviation == pytest.approx(0.5676, abs=1e-4)
    assert report.equal_tokens.student.detectable == pytest.approx(3.816 * 0.5676 / 10**0.5, abs=2e-3)
    assert report.equal_tokens.difference.detectable is None
    assert plain.rows[1].vs_baseline is not None and plain.rows[1].vs_baseline.p_holm == pytest.approx(2 / 2**9)
    for shown in (render_text(report), render_markdown(report)):
        assert "flipped signs" in shown
    assert "| distilled student greedy - majority@1 at equal tokens | 10 | - | - | -10.0 [" in render_markdown(report)
    assert "MDD 68.5" in equal_tokens(report) and "p (Holm) 0.016" in equal_tokens(report)
    assert "flipped signs" not in render_text(plain)


def test_equal_tokens_of_an_older_version_are_still_read_and_shown() -> None:
    debate = result("debate", "1110", tokens=40)
    samples = {key: Samples(groups=[0], right=[True], tokens=10) for key in debate.outcomes}
    report = compare([debate], baseline="debate", reference="debate")
    data = to_json(with_equal_tokens(report, at_equal_tokens(samples, debate)))
    old = data["equal_tokens"]
    del old["affordable"]
    old["difference"] = {name: old["difference"][name] for name in ("value", "low", "high", "n")}
    shown = equal_tokens(from_json(data))
    assert "majority@1, 10 completion tokens" in shown and "p (Holm)" not in shown
    assert render_text(from_json(data))
