"""Near duplicates: a table of what counts as the same, properties of the search, and the real MATH pair."""

from __future__ import annotations

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentark_core.near_duplicates import (
    Match,
    contaminated,
    near_duplicate_questions,
    near_duplicate_traces,
)
from agentark_core.token_overlap import encode, features, overlapping, tokens

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

DUCKS = (
    "Ann's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends "
    "with four. She sells the rest at the market for $2 per egg. How much does she make every day?"
)
OTHERS = (
    "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts does it take in total?",
    "Let $f(x) = x^2 + 3x - 5$. Compute the sum of the roots of $f(x) = 7$.",
    "A train leaves at noon at 60 miles per hour and another at one at 80 miles per hour. When do they meet?",
    "Which hormone is released by the posterior pituitary? A. Insulin B. Oxytocin C. Thyroxine D. Cortisol",
    "Tom has twice as many marbles as Jim, who lost 5 of his 40 marbles. How many marbles has Tom?",
)
TESTS = (DUCKS, *OTHERS)

SAME = {
    "copy": (DUCKS, "exact"),
    "case and punctuation": (DUCKS.upper().replace(".", " ;"), "exact"),
    "numbers in digits and words": (DUCKS.replace("three", "3").replace("16", "sixteen"), "13-gram"),
    "inside a longer text": (f"Here is a puzzle for you. {DUCKS} Explain each of your steps.", "13-gram"),
    "cut short": (DUCKS[: DUCKS.index(" How")], "13-gram"),
    "a number replaced by x": (DUCKS.replace("16", "x") + " If the answer is 18, what is the value of x?", "13-gram"),
    "paraphrase": (
        "Every day the ducks of Ann lay 16 eggs. She eats three every morning for her breakfast, bakes muffins with "
        "four for friends, and sells the rest for $2 per egg at the market. How much does she make per day?",
        "token overlap",
    ),
    "full-width characters": (DUCKS.replace("16", "１６").replace("eggs", "ｅｇｇｓ"), "13-gram"),
    "decomposed accents": ("Zoe\u0308 has 3 cafe\u0301s and buys 4 more. How many cafés has Zoë now?", "13-gram"),
}
OTHER = {
    "other numbers": DUCKS.replace("16", "20").replace("three", "5").replace("$2", "$3"),
    "one other number": DUCKS.replace("16", "18"),
    "other sign": "Let $f(x) = x^2 - 3x - 5$. Compute the sum of the roots of $f(x) = 9$.",
    "a phrase in common": "Ann sells honey at the market. How much does she make every day with 7 jars at $6?",
    "another topic": "How many primes are there below 100?",
    "empty": "",
    "no letters or digits": "???",
    "another script": "一共有多少个苹果",
}


@pytest.mark.parametrize("name", SAME)
def test_a_test_question_in_other_words_is_found_by_the_rule_meant_for_it(name: str) -> None:
    question, rule = SAME[name]
    tests = (*OTHERS, DUCKS, "Zoë has 3 cafés and buys 4 more. How many cafés has Zoë now?")
    found = contaminated([*OTHER.values(), question], tests)
    assert [(match.index, match.rule) for match in found] == [(len(OTHER), rule)]
    assert found[0].matched == (len(tests) - 1 if "accents" in name else len(OTHERS))
    assert 0.5 <= found[0].score <= 1


@pytest.mark.parametrize("name", OTHER)
def test_another_question_stays(name: str) -> None:
    assert contaminated([OTHER[name]], TESTS) == ()


def test_nothing_is_found_without_questions_or_tests() -> None:
    assert contaminated([], TESTS) == contaminated(TESTS, []) == ()
    assert near_duplicate_questions([], []) == near_duplicate_traces([], []) == ()
    assert contaminated(["", "?"], ["", "!"]) == (Match(index=0, matched=0, rule="exact", score=1.0),)


def test_a_phrase_of_the_whole_benchmark_is_no_copy() -> None:
    phrase = "Express your answer as a common fraction in lowest terms and enter the letter of the correct option"
    words = ["apple", "river", "stone", "cloud", "tiger", "piano", "lemon", "torch", "wagon", "pearl", "flute", "maple"]
    tests = [f"How many {word} {other} are left? {phrase}" for word, other in pairwise(words)]
    assert len(tests) > 10
    assert contaminated([f"Find the mass of Jupiter's second moon. {phrase}"], tests) == ()


def test_a_text_that_repeats_itself_costs_no_more_than_its_length() -> None:
    endless = "1, " * 100_000
    assert [match.rule for match in contaminated([endless, endless + "2"], [endless])] == ["exact", "13-gram"]


def test_short_test_questions_are_not_found_inside_longer_ones() -> None:
    assert (
        contaminated(["What is 2 + 2 times the number of legs of a spider on a warm night?"], ["What is 2 + 2?"]) == ()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann's 1,200 apples cost $x+3$", ["ann", "1200", "apples", "cost", "x", "+", "3"]),
        ("1{,}000 and 10,\\!000", ["1000", "and", "10000"]),
        ("2.50 .5 007 1,2,3", ["2.5", "0.5", "7", "1", "2", "3"]),
        ("Twenty-five of one hundred", ["20", "-", "5", "of", "one", "100"]),
        ("x² ½", ["x", "2", "1", "2"]),
        ("", []),
    ],
)
def test_tokens_do_not_depend_on_the_way_of_writing(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_repeated_questions_go_only_with_the_same_numbers_and_gold() -> None:
    reworded = DUCKS.replace("every morning", "each morning")
    swapped = DUCKS.replace("three", "4").replace("four", "3")
    questions = [DUCKS, reworded, reworded, DUCKS + "!", swapped, reworded, *OTHERS]
    golds = ["18", "18", "18", " 18", "18", "19", *"12345"]
    found = near_duplicate_questions(questions, golds)
    assert [(m.index, m.matched, m.rule) for m in found] == [
        (1, 0, "token overlap"),
        (2, 0, "token overlap"),
        (3, 0, "exact"),
    ]
    assert 0.8 <= found[0].score < 1


def test_a_gold_is_needed_for_each_question() -> None:
    with pytest.raises(ValueError, match="2 texts but 1 labels"):
        near_duplicate_questions(["a", "b"], ["1"])


def test_repeated_traces_go_within_their_group_only() -> None:
    trace = "Ann sells 16 - 3 - 4 = 9 eggs a day, at $2 each. So she makes 9 * 2 = 18 dollars.\n#### 18"
    reworded = trace.replace("So she makes", "Therefore she earns")
    wrong = trace.replace("= 9", "= 8").replace("9 *", "8 *").replace("18", "16")
    other_way = "She earns 2 * (16 - (3 + 4)): three and four make seven, 16 - 7 = 9, twice nine is 18."
    traces = [wrong, trace, other_way, reworded, trace, trace]
    found = near_duplicate_traces(traces, ["a", "a", "a", "a", "b", "a"])
    assert [(m.index, m.matched, m.rule) for m in found] == [(3, 1, "token overlap"), (5, 1, "exact")]


def test_traces_are_judged_alike_in_any_company() -> None:
    rng = random.Random(0)
    traces = [" ".join(rng.choices(DUCKS.split(), k=12)) for _ in range(60)] + [DUCKS, DUCKS + " Well."]
    alone = near_duplicate_traces(traces[-2:], ["q", "q"])
    together = near_duplicate_traces(traces, [*("other",) * 60, "q", "q"])
    assert [(m.rule, m.score) for m in alone] == [(m.rule, m.score) for m in together if m.index >= 60]


# ---- properties

WORDS = ["ann", "bob", "apples", "3", "4", "17", "x", "+", "-", "how", "many", "cost", "tree", "é", "½"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=12)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_a_character_beyond_ascii_does_not_change_the_other_tokens(text: str) -> None:
    assert [*tokens(text), "é"] == tokens(text + " é")


@given(texts, st.sets(st.sampled_from([0.3, 0.5, 0.8, 1.0]), min_size=1, max_size=1))
def test_no_pair_above_the_threshold_is_missed(sample: list[str], thresholds: set[float]) -> None:
    threshold = thresholds.pop()
    made = features(encode(sample))
    table, weights, totals = made.sets.toarray(), made.weights, made.totals
    shared = (table * weights) @ table.T.astype(np.int64)
    union = totals[:, None] + totals[None, :] - shared
    expected = {(int(i), int(j)) for i, j in np.argwhere((shared > 0) & (shared / np.maximum(union, 1) >= threshold))}
    i, j, score = overlapping(made, made, threshold=threshold)
    # A text whose features nobody shares overlaps itself too, but has no feature in common with another.
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected
    assert np.allclose(score, shared[i, j] / union[i, j])


@given(texts, texts)
def test_a_copy_of_a_test_question_is_always_found(questions: list[str], tests: list[str]) -> None:
    found = {match.index: match for match in contaminated([*questions, tests[-1]], tests)}
    assert found[len(questions)].rule == "exact"
    assert contaminated(questions, tests) == contaminated(questions, tests)


@given(texts, st.randoms(use_true_random=False))
def test_clusters_do_not_depend_on_the_order(sample: list[str], rng: random.Random) -> None:
    sample = sample + sample[:2]
    golds = ["1"] * len(sample)
    order = list(range(len(sample)))
    rng.shuffle(order)
    mixed = [sample[k] for k in order]
    for find in (near_duplicate_questions, near_duplicate_traces):
        assert clusters(find(mixed, golds), order) == clusters(find(sample, golds), list(range(len(sample))))


def clusters(matches: tuple[Match, ...], names: list[int]) -> set[frozenset[int]]:
    """Clusters of two and more, by the texts' own names."""
    groups: dict[int, set[int]] = {}
    for match in matches:
        assert match.matched < match.index
        groups.setdefault(match.matched, {names[match.matched]}).add(names[match.index])
    return {frozenset(group) for group in groups.values()}


# ---- the real pair


@pytest.mark.skipif(not (SHARED / "math").exists(), reason="the recorded benchmarks are not part of the project")
def test_the_ten_coincidences_of_math_are_found_and_two_in_a_hundred_more_dropped() -> None:
    def read(name: str) -> list[str]:
        with gzip.open(SHARED / "math" / name, "rt", encoding="utf-8") as file:
            return [json.loads(line)["problem"] for line in file]

    train, test = read("train.jsonl.gz"), read("test.jsonl.gz")
    found = contaminated(train, test)
    pairs = [(m.index, m.matched) for m in found if m.rule == "exact"]
    assert [index for index, _ in pairs] == [750, 1414, 1598, 2865, 2948, 3152, 3648, 3846, 3946, 7163]
    assert len(found) < 0.03 * len(train)
    assert {m.rule for m in found} == {"exact", "13-gram", "token overlap"}
