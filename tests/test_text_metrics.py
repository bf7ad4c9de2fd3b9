"""Scores of prose against values computed by hand and against the reference implementations' own rules."""

from __future__ import annotations

import sys
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

from agentark_core import problems
from agentark_core.config import ProblemsConfig
from agentark_core.errors import ConfigError, ModelError
from agentark_core.text_metrics import (
    bertscore,
    best,
    bleu,
    exact_match,
    hotpot_f1,
    rouge,
    score_text,
    squad_f1,
)
from agentark_core.types import Problem
from agentark_core.verify_rules import verify_fast

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

F1 = [
    ("The cat sat.", "a CAT, sat", 100.0),  # articles, case and punctuation do not count
    ("cat sat", "cat", 200 / 3),  # precision 1, recall 1/2
    ("cat cat dog", "cat dog dog", 200 / 3),  # 2 of 3 tokens on both sides, counted as often as they come
    ("cat", "dog", 0.0),
    ("the", "a", 100.0),  # nothing is left of either
    ("the", "cat", 0.0),
    ("1,200", "1200", 100.0),
    ("yes", "yes it is", 50.0),
]


@pytest.mark.parametrize(("reference", "prediction", "value"), F1)
def test_f1_is_that_of_squad(reference: str, prediction: str, value: float) -> None:
    assert squad_f1(reference, prediction) == pytest.approx(value)
    assert exact_match(reference, prediction) == (100.0 if value == 100 else 0.0)


@pytest.mark.parametrize(
    ("reference", "prediction", "value"),
    [("yes", "yes it is", 0.0), ("cat yes", "Yes.", 0.0), ("no", "No!", 100.0), ("cat sat", "cat", 200 / 3)],
)
def test_hotpotqa_gives_no_part_credit_for_yes_and_no(reference: str, prediction: str, value: float) -> None:
    assert hotpot_f1(reference, prediction) == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "value"),
    # reference: the cat sat on the mat (6 words), prediction: the cat on the mat sat (6 words)
    [("rouge1", 100.0), ("rouge2", 100 * 3 / 5), ("rougeL", 100 * 5 / 6)],
)
def test_rouge_counts_words_pairs_and_the_longest_common_subsequence(name: str, value: float) -> None:
    made = rouge("the cat sat on the mat", "the cat on the mat sat", name=name, stemmed=False)
    assert made == pytest.approx(value)


def test_rouge_stems_only_where_it_is_asked_to() -> None:
    assert rouge("cats running", "cat run", name="rouge1", stemmed=True) == pytest.approx(100)
    assert rouge("cats running", "cat run", name="rouge1", stemmed=False) == 0


def test_bleu_is_the_brevity_penalty_times_the_mean_of_four_precisions() -> None:
    # 7 tokens against 8; matching n-grams: 6 of 7, 4 of 6, 2 of 5, 1 of 4
    reference, prediction = "a b c d e f g h", "a b c d x f g"
    expected = 100 * exp(1 - 8 / 7) * exp((log(6 / 7) + log(4 / 6) + log(2 / 5) + log(1 / 4)) / 4)
    assert bleu(reference, prediction) == pytest.approx(expected)
    assert bleu(reference, reference) == pytest.approx(100)
    # no 3-gram matches: the first such order counts as 1/2, the next as 1/4 (exp smoothing)
    smoothed = 100 * exp((log(4 / 5) + log(1 / 4) + log(1 / (2 * 3)) + log(1 / (4 * 2))) / 4)
    assert bleu("a b x c d", "a b c y d") == pytest.approx(smoothed)


def test_the_best_reference_counts() -> None:
    assert best("cat", ["dog", "cat sat", "a mat"], score=squad_f1) == pytest.approx(200 / 3)
    assert best("cat", [], score=squad_f1) == 0


def problem(task: str, *references: str, wrong: tuple[str, ...] = ()) -> Problem:
    return Problem(
        problem_id="p-1",
        dataset="t",
        task=task,
        question="q",
        gold=references[0],
        references=references,
        wrong_references=wrong,
    )


def test_the_final_answer_is_scored_not_the_reasoning() -> None:
    asked = problem("hotpotqa", "the Cat")
    scores = score_text(asked, "Many words come first.\nSo it is \\boxed{cat sat}.")
    assert scores == pytest.approx({"em": 0, "f1": 200 / 3, "rouge1": 50, "rouge2": 0, "rougeL": 50})
    assert score_text(asked, "Think.\n**Answer:** the cat") == pytest.approx(dict.fromkeys(scores, 100.0))
    assert score_text(asked, "") == dict.fromkeys(scores, 0.0)


def test_a_task_with_a_verdict_has_no_scores_and_prose_no_verdict() -> None:
    assert score_text(Problem(problem_id="p", dataset="t", task="math", question="q", gold="1"), "\\boxed{1}") == {}
    verdict = verify_fast("\\boxed{They chose red.}", gold="Red it is.", task="qmsum")
    assert verdict is not None and (verdict.label, verdict.method) == ("undecided", "free_text")
    empty = verify_fast("", gold="Red it is.", task="qmsum")
    assert empty is not None and (empty.label, empty.method) == ("incorrect", "no_answer")


def test_truthfulqa_compares_the_nearest_true_with_the_nearest_false_reference() -> None:
    asked = problem("truthfulqa", "Nothing happens to you.", "No.", wrong=("You die.", "You grow a tree."))
    scores = score_text(asked, "\\boxed{Nothing happens.}")
    # against the true one 2 of 2 and 2 of 4 words; against the false ones none
    assert scores["rouge1"] == pytest.approx(100 * 2 * 1 * 0.5 / 1.5)
    assert (scores["rouge1_acc"], scores["rouge1_diff"]) == (100, scores["rouge1"])
    assert scores["bleu"] == bleu("Nothing happens to you.", "Nothing happens.")
    false = score_text(asked, "\\boxed{You grow a tree}")
    assert false["rouge1_acc"] == false["bleu_acc"] == 0 and false["rougeL_diff"] < 0
    assert false["bleu_diff"] == pytest.approx(best("You grow a tree.", asked.references, score=bleu) - 100)


@pytest.mark.parametrize("text", ["\\boxed{" * 500, "\ud800", "\0", "a" * 200_000, "{}" * 9_000, "%s {0} \\text{"])
@pytest.mark.parametrize("task", ["hotpotqa", "truthfulqa"])
def test_hostile_responses_get_scores(task: str, text: str) -> None:
    scores = score_text(problem(task, "Red.", wrong=("Blue.",)), text)
    assert all(-100 <= value <= 100 for value in scores.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data not present")
@pytest.mark.parametrize(
    ("source", "file", "metric"),
    [
        ("hotpotqa", "hotpotqa/dev_distractor_sample100.jsonl", "f1"),
        ("qasper", "qasper/leval_scientific_qa.jsonl", "f1"),
        ("qmsum", "qmsum/val.jsonl.gz", "rougeL"),
        ("truthfulqa", "truthfulqa/TruthfulQA.csv", "rouge1"),
    ],
)
def test_every_published_gold_scores_in_full_against_itself(source: str, file: str, metric: str) -> None:
    config = ProblemsConfig.model_validate({"source": source, "path": str(SHARED / file), "limit": 40})
    for asked in problems.load(config).problems:
        for response in (f"Steps.\n\\boxed{{{asked.gold}}}", f"Steps.\nAnswer: {asked.gold}"):
            assert score_text(asked, response)[metric] == pytest.approx(100), asked.gold


# ---- BERTScore


def tiny_encoder(path: Path) -> Path:
    """A random BERT over a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["the", "a", "cat", "dog", "sat", "on", "mat", "ran", "fast"],
    ]
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **special).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(path)
    return path


def by_hand(prediction: str, reference: str, *, model: Any, tokenizer: Any) -> float:
    """F1 of Eq. 1-3 of the BERTScore paper: greedy matches of token vectors; [CLS] and [SEP] have no weight."""
    import torch

    with torch.no_grad():
        x, y = (
            torch.nn.functional.normalize(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0], dim=-1)
            for text in (prediction, reference)
        )
    similarity = x @ y.T
    precision, recall = similarity.max(dim=1).values[1:-1].mean(), similarity.max(dim=0).values[1:-1].mean()
    return 100 * float(2 * precision * recall / (precision + recall))


def test_bertscore_of_a_local_encoder_equals_the_formula(tmp_path: Path) -> None:
    pytest.importorskip("bert_score")
    from transformers import AutoModel, AutoTokenizer

    path = tiny_encoder(tmp_path / "encoder")
    model, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    predictions = ["the cat sat on the mat", "a dog ran"]
    references = [["a cat sat"], ["the dog ran", "a dog sat"]]
    expected = [
        max(by_hand(prediction, one, model=model, tokenizer=tokenizer) for one in several)
        for prediction, several in zip(predictions, references, strict=True)
    ]
    assert bertscore(predictions, references, model_dir=path, num_layers=2) == pytest.approx(expected, abs=1e-3)


def test_bertscore_names_the_remedy_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="give its directory"):
        bertscore(["a"], [["a"]], model_dir=tmp_path, num_layers=2)
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(ConfigError, match=r"pip install 'agentark\[bertscore\]'"):
        bertscore(["a"], [["a"]], model_dir=tmp_path, num_layers=2)
