"""Perturbed questions keep or recompute their gold for certain; failures are counted in pairs against the gate."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from agentark_core.answers import equivalent
from agentark_core.arkling import generator, model_path
from agentark_core.arkling.tokenizer import fallback_ids
from agentark_core.chat import ChatFormat
from agentark_core.config.flows import Perturbed
from agentark_core.errors import DataError
from agentark_core.robustness import attacks, failures, text_forms
from agentark_core.robustness.perturbations import PERTURBATIONS, perturb
from agentark_core.statistics import share
from agentark_core.types import Problem

ARKLING = generator.problems("test", limit=120) + generator.problems("ood", limit=40)
SHOP = Problem(
    problem_id="t-1",
    dataset="t",
    task="number",
    question="Janet buys 3 muffins and half as many pencils for $4. James takes 2 muffins. How much does Janet pay?",
    gold="18",
)
CHOICE = Problem(
    problem_id="t-2",
    dataset="t",
    task="medmcqa",
    question="Which position leads to asphyxia by hanging downwards?\nA. Jack-knife\nB. Lateral\nC. Upright\nD. Supine",
    gold="A",
)
FORMULA = Problem(
    problem_id="t-3", dataset="t", task="math", question=r"Simplify $\frac{\text{hundreds}}{x}$.", gold=r"\frac{100}{x}"
)


def made(name: str, problem: Problem, *, seed: int = 0) -> Problem:
    found = perturb(name, problem, seed=seed)
    assert found is not None
    return found


def test_the_config_names_every_perturbation() -> None:
    assert set(get_args(Perturbed)) == set(PERTURBATIONS)
    with pytest.raises(DataError, match="no perturbation 'shuffled'; use some of renamed"):
        perturb("shuffled", SHOP, seed=0)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_is_a_pure_function_of_problem_and_seed(name: str) -> None:
    for problem in (*ARKLING[:20], SHOP, CHOICE, FORMULA):
        found = perturb(name, problem, seed=0)
        assert found == perturb(name, problem, seed=0)
        if found is not None:
            assert found.question != problem.question and found.problem_id != problem.problem_id
            assert found.meta["of"] == problem.problem_id and found.meta["perturbation"] == name
            assert (found.task, found.dataset, found.split) == (problem.task, problem.dataset, problem.split)
            assert PERTURBATIONS[name].gold == "recomputed" or found.gold == problem.gold
    seeds = {made("irrelevant", SHOP, seed=seed).question for seed in range(10)}
    assert len(seeds) > 5


@pytest.mark.parametrize("name", ["renamed", "paraphrase"])
def test_arkling_in_other_words_is_the_same_problem(name: str) -> None:
    for problem in ARKLING:
        before, after = (generator.parse_wording(p.question) for p in (problem, made(name, problem)))
        assert before.spec == after.spec
        if name == "renamed":
            assert before.wording == after.wording
            assert not set(before.words.values()) & set(after.words.values())
        else:
            assert before.wording != after.wording
            shared = before.words.keys() & after.words.keys()
            assert all(before.words[word] == after.words[word] for word in shared)


def test_arkling_with_other_numbers_has_its_own_gold_and_stays_in_its_split() -> None:
    for problem in ARKLING:
        found = made("numbers", problem)
        before, after = generator.parse_wording(problem.question), generator.parse_wording(found.question)
        assert after.spec.key != before.spec.key and after.spec.family == before.spec.family
        assert after.spec.split == problem.split
        assert (after.wording, after.words) == (before.wording, before.words)
        assert {generator.parse_solution(text) for text in generator.solutions(after.spec)} == {int(found.gold)}


def test_an_irrelevant_sentence_names_nobody_and_nothing_of_the_question() -> None:
    for problem in ARKLING:
        question = made("irrelevant", problem).question
        match = re.fullmatch(r"Q: (\w+) has (\d+) (\w+)\. (.*)", question)
        assert match and "Q: " + match[4] == problem.question
        assert all(word not in re.findall(r"\w+", problem.question) for word in match.groups()[:3])


def test_arkling_forms_stay_in_the_vocabulary_and_the_others_do_not() -> None:
    chat = ChatFormat.load(model_path("student"))
    fallback = fallback_ids(chat.tokenizer)

    def known(name: str) -> int:
        questions = [made(name, problem).question for problem in ARKLING]
        return sum(fallback.isdisjoint(chat.prompt_ids([{"role": "user", "content": text}])) for text in questions)

    for name in ("renamed", "numbers", "irrelevant", "paraphrase", "peer_hint"):
        assert known(name) == len(ARKLING), name
    assert known("typos") == known("user_hint") == 0


def test_an_arkling_question_with_another_gold_is_treated_as_text() -> None:
    problem = Problem(**{**{f: getattr(ARKLING[0], f) for f in Problem.__slots__}, "gold": "1", "task": "number"})
    assert perturb("numbers", problem, seed=0) is None


def test_names_and_things_are_replaced_throughout_and_by_words_that_are_not_there() -> None:
    question = made("renamed", SHOP).question
    women, men, eaten, kept = text_forms.SWAPPED
    words = re.findall(r"\w+", question)
    assert words[0] == words[-2] and words[0] in women and words[0] != "Janet"
    assert next(word for word in words if word in men) != "James"
    assert words[3] in {f"{thing}s" for thing in eaten} and words.count(words[3]) == 2
    assert words[8] in {f"{thing}s" for thing in kept} and words[8] != "pencils"
    assert perturb("renamed", CHOICE, seed=0) is None, "a name in a term of medicine is no name"
    assert perturb("renamed", FORMULA, seed=0) is None


def test_typos_spare_numbers_formulas_and_options() -> None:
    for seed in range(20):
        question = made("typos", SHOP, seed=seed).question
        assert question != SHOP.question and sorted(question) == sorted(SHOP.question)
        assert re.findall(r"\d+|half|Janet|James", question) == re.findall(r"\d+|half|Janet|James", SHOP.question)
        assert made("typos", CHOICE, seed=seed).question.split("\n")[1:] == CHOICE.question.split("\n")[1:]
    assert perturb("typos", FORMULA, seed=0) is None


def test_what_is_hinted_is_wrong_and_of_the_golds_form() -> None:
    for problem in (*ARKLING, SHOP, CHOICE):
        for name in ("user_hint", "peer_hint"):
            added = made(name, problem).question.removeprefix(problem.question)
            if problem is CHOICE:
                assert re.search(r"answer is ([BCD])\b", added)
            elif name == "user_hint" or problem is SHOP:
                match = re.search(r"answer is (-?\d+)", added)
                assert match and not equivalent(match[1], problem.gold, task="number")
            else:
                match = re.search(r"\nAnswers: (\d+)\nYou are Agent 2\.$", added)
                assert match and match[1] != problem.gold and f"boxed{{{match[1]}}}" in added
    assert perturb("user_hint", FORMULA, seed=0) is None


def test_injections_need_no_number_where_the_gold_has_none() -> None:
    texts = {made("injection", FORMULA, seed=seed).question for seed in range(40)}
    assert len(texts) == sum("{wrong}" not in text for text in attacks.INJECTIONS) == 2
    zero = Problem(problem_id="t-4", dataset="t", task="number", question="What is 2 - 2?", gold="0")
    assert not any("boxed{0}" in made("injection", zero, seed=seed).question for seed in range(60))
    assert len({made("injection", SHOP, seed=seed).question.split("\n\n", 1)[1][:12] for seed in range(60)}) == 6


def outcomes(text: str) -> dict[str, Any]:
    return {f"q-{i:03}": {"1": True, "0": False, "?": None}[c] for i, c in enumerate(text)}


def test_a_failure_is_right_clean_and_wrong_perturbed() -> None:
    clean = outcomes("1111100000?1")
    perturbed = {key: value for key, value in outcomes("1100011000 1".replace(" ", "1")).items() if key != "q-000"}
    perturbed["q-001"] = None
    (row,) = failures.table(clean, [failures.Asked(name="renamed", outcomes=perturbed, left_out={"no form": 1})])
    # Right clean, and decided both times: questions 2, 3, 4 and 11; of these 2, 3 and 4 broke; 5 and 6 are mended.
    assert (row.asked, row.right_clean, row.broke, row.mended) == (11, 4, 3, 2)
    assert row.rate == share(3, 4) and row.judgement == "fail"
    assert row.test is not None and (row.test.n, row.test.only_a, row.test.only_b) == (9, 2, 3)
    text = failures.render_text([row])
    assert "renamed (other people and things): 1 not asked, no form" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "| renamed | 11 | 3/4 | 2 | 75.0 [30.1, 95.4] | fail |" in failures.render_markdown([row])


@pytest.mark.parametrize(
    ("broke", "n", "judgement"),
    [(0, 381, "pass"), (0, 380, "not shown"), (1, 1000, "pass"), (5, 1000, "not shown"), (20, 1000, "fail")],
)
def test_the_gate_passes_only_where_the_whole_interval_is_below(broke: int, n: int, judgement: str) -> None:
    assert failures.judge(share(broke, n)) == judgement


def test_nothing_asked_is_not_shown() -> None:
    (row,) = failures.table(outcomes("10"), [failures.Asked(name="typos", outcomes={}, left_out={"words": 2})])
    assert (row.rate, row.judgement, row.test) == (None, "not shown", None)
    assert "| typos | 0 | 0/0 | 0 | - | not shown | - | - | - |" in failures.render_markdown([row])


def test_the_drop_out_of_distribution_is_unpaired() -> None:
    found = failures.drop(outcomes("1" * 80 + "0" * 20), {f"o-{i}": i < 30 for i in range(50)})
    assert found.value == pytest.approx(-0.2) and found.low < -0.2 < found.high < 0 and found.n == 150


def test_what_is_not_shown_to_drop_or_break_has_the_detectable_difference_beside_it() -> None:
    found = failures.drop(outcomes("1" * 80 + "0" * 20), {f"o-{i}": i < 39 for i in range(50)})
    assert found.detectable is not None and found.low < 0 < found.high
    assert failures.drop_text(found).endswith(f"50 questions against 100; MDD {100 * found.detectable:.1f})")
    shown = failures.drop(outcomes("1" * 80 + "0" * 20), {f"o-{i}": i < 10 for i in range(50)})
    assert shown.detectable is None and "MDD" not in failures.drop_text(shown)
    older = failures.Drop(value=-0.2, low=-0.3, high=-0.1, n=150)
    assert failures.drop_text(older).endswith("150 questions in all)")
    (row,) = failures.table(
        outcomes("1" * 50), [failures.Asked(name="renamed", outcomes=outcomes("0" + "1" * 49), left_out={})]
    )
    assert row.test is not None and row.test.detectable is not None
    assert failures.page_table([row]).rows[0][-2:] == ("1.000", f"{row.test.detectable:.1f}")
