"""Scores of prose equal those of the scorers that the field uses, on the same inputs.

Predictions are answers to other questions, and mixtures, so that scores are neither 0 nor 1. Rows are the published
ones where they are present, else a few of the same layout.
"""

from __future__ import annotations

import json
import re
import string
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_text_metrics import tiny_encoder

from agentark_core import problems
from agentark_core.config import ProblemsConfig
from agentark_core.harness.environment import FOLDER, ROOT
from agentark_core.text_metrics import bertscore, bleu, rouge, score_text, truthful_scores
from agentark_core.types import Problem

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LM_EVAL = ROOT / FOLDER / "bin" / "python"

PUBLISHED = {
    "hotpotqa": "hotpotqa/dev_distractor_sample100.jsonl",
    "qasper": "qasper/leval_scientific_qa.jsonl",
    "qmsum": "qmsum/val.jsonl.gz",
    "truthfulqa": "truthfulqa/TruthfulQA.csv",
}
ABOUT = {"title": ["Red"], "sentences": [["A town."]]}
WRITTEN: dict[str, list[dict[str, Any]]] = {
    "hotpotqa": [
        {"question": f"q{n}?", "answer": answer, "context": ABOUT}
        for n, answer in enumerate(["yes", "the town of Red", "no", "Red Town, 1,200 people", "A", "in town"])
    ],
    "qasper": [
        {
            "input": "We use CatBank.",
            "instructions": ["Which data?", "Which data?", "Is it large?", "Which model?"],
            "outputs": ["CatBank, a bank of cats", "the bank", "Yes", "a model of cats and a bank"],
        }
    ],
    "qmsum": [
        {
            "meeting_transcripts": [{"speaker": "Ann", "content": "Red, please."}],
            "general_query_list": [{"query": "Summarise.", "answer": "They chose red buttons for the new remote."}],
            "specific_query_list": [
                {"query": "What did Ann want?", "answer": "Ann wanted the buttons to be red. Bob was choosing blue."},
                {"query": "And Bob?", "answer": "Bob wanted cheaper buttons, and chose blue ones."},
            ],
        }
    ],
    "truthfulqa": [
        {
            "question": question,
            "best_answer": true[0],
            "correct_answers": true,
            "incorrect_answers": false,
        }
        for question, true, false in [
            ("Do seeds grow?", ["They pass through you", "No"], ["Yes, they grow in you . You die", "You die."]),
            ("Who wrote it?", ["I have no comment.", "Ann wrote it"], ["Bob wrote it . He did", "It was you"]),
            ("Is it red?", ["It is red at night", " "], ["They pass through it", "It is not red at all", ""]),
        ]
    ],
}


def questions(source: str, tmp_path: Path, *, limit: int = 40) -> list[Problem]:
    path = SHARED / PUBLISHED[source]
    if not path.is_file():
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in WRITTEN[source]))
    config = ProblemsConfig.model_validate({"source": source, "path": str(path), "limit": limit})
    return list(problems.load(config).problems)


def crossed(asked: list[Problem]) -> list[tuple[Problem, str]]:
    """Each question with the gold of the next one, its own gold with words of the next one, and halves of its own."""
    pairs = []
    for problem, other in zip(asked, [*asked[1:], asked[0]], strict=True):
        words = problem.gold.split()
        mixed = (f"{problem.gold} {other.gold}", " ".join(words[: max(1, len(words) // 2)]), problem.gold.upper())
        pairs += [(problem, text) for text in (other.gold, other.references[-1], *mixed)]
    return pairs


# ---- token F1 and exact match


def tokens(text: str) -> list[str]:
    """Lower case, ASCII punctuation removed, then the articles; what white space divides."""
    bare = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def overlap_f1(reference: str, prediction: str) -> float:
    """Harmonic mean of the shares of tokens in common, counted as often as they come; 0 without any."""
    wanted, given = tokens(reference), tokens(prediction)
    same = (Counter(wanted) & Counter(given)).total()
    return 2 * same / (len(wanted) + len(given)) if same else 0.0


def hotpot_reference(reference: str, prediction: str) -> tuple[float, float]:
    """(exact match, F1) as hotpot_evaluate_v1 defines them (Yang et al. 2018)."""
    wanted, given = " ".join(tokens(reference)), " ".join(tokens(prediction))
    closed = {"yes", "no", "noanswer"}
    if wanted != given and (wanted in closed or given in closed):
        return 0.0, 0.0
    return float(wanted == given), overlap_f1(reference, prediction)


def strictly_between(values: list[float]) -> int:
    return sum(0.01 < value < 99.99 for value in values)


def test_em_and_f1_of_hotpotqa_are_those_of_its_scorer(tmp_path: Path) -> None:
    found = []
    pairs = crossed(questions("hotpotqa", tmp_path))
    pairs += [(problem, text) for problem, _ in pairs[:20] for text in ("yes", "No.", "noanswer", "the", "")]
    for problem, text in pairs:
        scores = score_text(problem, f"Answer: {text}")
        assert (scores["em"], scores["f1"]) == pytest.approx(
            tuple(100 * value for value in hotpot_reference(problem.gold, text))
        ), (problem.gold, text)
        found.append(scores["f1"])
    assert strictly_between(found) >= 5


def test_f1_of_qasper_is_that_of_its_scorer(tmp_path: Path) -> None:
    """The best over the annotators of the token F1 (Dasigi et al. 2021)."""
    found = []
    for problem, text in crossed(questions("qasper", tmp_path)):
        expected = max(overlap_f1(reference, text) for reference in problem.references)
        found.append(score_text(problem, f"Answer: {text}")["f1"])
        assert found[-1] == pytest.approx(100 * expected), (problem.references, text)
    assert strictly_between(found) >= 5


@pytest.mark.parametrize("task", ["hotpotqa", "qasper"])
def test_an_answer_without_tokens_has_no_f1(task: str) -> None:
    problem = Problem(problem_id="p", dataset="t", task=task, question="Which vitamin?", gold="A", references=("A",))
    scores = score_text(problem, "\\boxed{A}")
    assert (scores["em"], scores["f1"]) == (100, 0) == tuple(100 * v for v in hotpot_reference("A", "A"))


# ---- ROUGE, BLEU, BERTScore


@pytest.mark.parametrize("source", ["hotpotqa", "qasper", "qmsum"])
def test_rouge_is_that_of_rouge_score(source: str, tmp_path: Path) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL"]
    scorer, found = RougeScorer(names, use_stemmer=True), []
    for problem, text in crossed(questions(source, tmp_path, limit=15)):
        expected = [scorer.score(reference, text) for reference in problem.references]
        scores = score_text(problem, f"Answer: {text}")
        for name in names:
            assert scores[name] == pytest.approx(100 * max(one[name].fmeasure for one in expected)), (name, text)
        found.append(scores["rougeL"])
    assert strictly_between(found) >= 5


def test_rouge_lsum_and_bleu_are_those_of_the_libraries(tmp_path: Path) -> None:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    scorer, found = RougeScorer(["rougeLsum"]), []
    for problem, text in crossed(questions("qmsum", tmp_path, limit=10)):
        reference, text = problem.gold.replace(". ", ".\n"), text.replace(". ", ".\n")
        expected = 100 * scorer.score(reference, text)["rougeLsum"].fmeasure
        assert rouge(reference, text, name="rougeLsum", stemmed=False) == pytest.approx(expected)
        how = {"smooth_method": "exp", "smooth_value": 0.0, "force": False, "lowercase": False, "tokenize": "intl"}
        made = sacrebleu.corpus_bleu([text], [[reference]], use_effective_order=False, **how)
        found.append(bleu(reference, text))
        assert found[-1] == pytest.approx(made.score)
    assert strictly_between(found) >= 5


def test_bertscore_is_that_of_bert_score(tmp_path: Path) -> None:
    bert_score = pytest.importorskip("bert_score")
    encoder = tiny_encoder(tmp_path / "encoder")
    texts = ["the cat sat on the mat", "a dog ran", "the dog sat fast on a mat"]
    references = [["a dog ran fast", "a cat sat"], ["the cat sat on the mat"], ["a dog ran", "on a mat the cat sat"]]
    _, _, expected = bert_score.score(texts, references, model_type=str(encoder), num_layers=2, idf=False)
    found = bertscore(texts, references, model_dir=encoder, num_layers=2)
    assert found == pytest.approx([100 * float(value) for value in expected], abs=1e-3)
    assert strictly_between(found) == 3


# ---- TruthfulQA

THEIRS = """
import json, sys
from lm_eval.tasks.truthfulqa import utils

made = []
for case in json.load(sys.stdin):
    doc = utils.preprocess_function(case["row"])
    made.append([doc, [utils.process_results_gen(doc, [text]) for text in case["texts"]]])
json.dump(made, sys.stdout, default=float)
"""


@pytest.mark.slow
@pytest.mark.skipif(not LM_EVAL.exists(), reason=f"no {FOLDER}; `make setup` makes it")
def test_truthfulqa_is_scored_as_by_lm_evaluation_harness(tmp_path: Path) -> None:
    asked = questions("truthfulqa", tmp_path, limit=6)  # the harness resamples each pair a thousand times
    cases = []
    for problem, other in zip(asked, [*asked[1:], asked[0]], strict=True):
        wrong = problem.wrong_references[0]
        mixed = (f"{problem.gold[:-1]} . {wrong}", f"{other.gold[:-1]} . {problem.gold}")
        texts = [other.gold, other.wrong_references[-1], wrong, *mixed, "I have no comment."]
        full_stops = [text for text in problem.references if text != "I have no comment."]
        row = {
            "question": problem.question,
            "correct_answers": [text.removesuffix(".") for text in full_stops],
            "incorrect_answers": [f" {text} " for text in problem.wrong_references],
        }
        cases.append({"row": row, "texts": texts})
    done = subprocess.run(
        [LM_EVAL, "-P", "-c", THEIRS], input=json.dumps(cases), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = []
    for problem, case, (doc, theirs) in zip(asked, cases, json.loads(done.stdout), strict=True):
        assert set(doc["correct_answers"]) == set(problem.references)
        assert set(doc["incorrect_answers"]) == set(problem.wrong_references)
        for text, expected in zip(case["texts"], theirs, strict=True):
            scores = truthful_scores(text, true=problem.references, false=problem.wrong_references)
            for name in ("bleu", "rouge1", "rouge2", "rougeL"):
                assert scores[name] == pytest.approx(expected[f"{name}_max"], abs=1e-9), (name, text)
                assert scores[f"{name}_diff"] == pytest.approx(expected[f"{name}_diff"], abs=1e-9), (name, text)
                assert scores[f"{name}_acc"] == 100 * expected[f"{name}_acc"], (name, text)
            assert score_text(problem, f"Answer: {text}") == scores
            found.append(scores)
    for name in ("bleu", "rouge1", "rouge2", "rougeL"):
        assert strictly_between([scores[name] for scores in found]) >= 5
        assert {scores[f"{name}_acc"] for scores in found} == {0, 100}
