"""Scores of prose answers, in the range 0 to 100: exact match, token F1, ROUGE, BLEU, BERTScore.

    score_text(problem of hotpotqa with gold "the Cat", "So it is \\\\boxed{cat sat}")
      ->  {"em": 0.0, "f1": 66.7, "rouge1": 50.0, "rouge2": 0.0, "rougeL": 50.0}

Each figure is that of the library the field uses, called as the benchmark's own scorer calls it:

- em, f1: SQuAD's official script (the copy in transformers), best over the references. The scorers of HotpotQA and
  QASPER differ in one point, f1 is 0 where no token is left of either text; HotpotQA's in another: yes, no and noanswer
  earn no part credit.
- rouge1, rouge2, rougeL: F-measure of rouge-score with its stemmer, best over the references, as SCROLLS and LongBench
  do.
- TruthfulQA as lm-evaluation-harness scores truthfulqa_gen: bleu (sacrebleu, tokenizer `intl`, no effective order),
  rouge1, rouge2 and rougeL (rouge-score without stemmer; rougeL is rougeLsum, ` . ` ends a line), best over the true
  references. For each of them also whether the best true reference is nearer than the best false one: `bleu_acc` is
  100 or 0, `bleu_diff` the difference.
- bertscore: F1 of bert-score over a local model; not part of score_text, because it needs a model.

What is scored is the final answer of a response (answers.extract). A response without one scores 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from agentark_core.answers import KINDS, extract
from agentark_core.errors import ConfigError, ModelError
from agentark_core.types import Problem

METRICS_VERSION = "text-2"
"""Changes with any figure."""

ROUGE = ("rouge1", "rouge2", "rougeL")

LEADING = {"hotpotqa": "f1", "qasper": "f1", "free_text": "f1", "qmsum": "rougeL", "truthfulqa": "bleu_acc"}
"""Task -> the metric that a verdict names where there is no accuracy, as LongBench (QMSum) and lm-evaluation-harness
(TruthfulQA) do."""

Score = Callable[[str, str], float]
"""(reference, prediction) -> 0..100."""


def score_text(problem: Problem, text: str) -> dict[str, float]:
    """Every score of one response by name; empty for a task that has a verdict."""
    if KINDS[problem.task] != "free":
        return {}
    answer = extract(text, task=problem.task) or ""
    if problem.task == "truthfulqa":
        # A box loses its full stop, and all references end with one.
        ended = answer if not answer or answer.endswith((".", "!", "?")) else f"{answer}."
        return truthful_scores(ended, true=problem.references, false=problem.wrong_references)
    f1 = {"hotpotqa": hotpot_f1, "qasper": token_f1}.get(problem.task, squad_f1)
    scores = {
        "em": best(answer, problem.references, score=exact_match),
        "f1": best(answer, problem.references, score=f1),
    }
    for name in ROUGE:
        scores[name] = best(answer, problem.references, score=_rouge(name, stemmed=True))
    return scores


def best(prediction: str, references: Sequence[str], *, score: Score) -> float:
    """The highest score against any reference; 0 without one."""
    return max((score(reference, prediction) for reference in references), default=0.0)


def exact_match(reference: str, prediction: str) -> float:
    """SQuAD's exact match: equal but for case, punctuation, articles and white space."""
    return 100.0 * _squad().compute_exact(reference, prediction)


def squad_f1(reference: str, prediction: str) -> float:
    """SQuAD's F1 over the tokens of both."""
    return 100.0 * _squad().compute_f1(reference, prediction)


def token_f1(reference: str, prediction: str) -> float:
    """QASPER's F1: SQuAD's, but 0 where articles and punctuation are all there is of either."""
    return squad_f1(reference, prediction) if _squad().get_tokens(reference) else 0.0


def hotpot_f1(reference: str, prediction: str) -> float:
    """HotpotQA's F1: QASPER's, but 0 where either is yes, no or noanswer and the other is something else."""
    normalised = {_squad().normalize_answer(text) for text in (reference, prediction)}
    if len(normalised) > 1 and normalised & {"yes", "no", "noanswer"}:
        return 0.0
    return token_f1(reference, prediction)


def rouge(reference: str, prediction: str, *, name: str, stemmed: bool) -> float:
    """F-measure of rouge1, rouge2, rougeL or rougeLsum (whose sentences are lines)."""
    return 100.0 * float(_rouge_scorer(name, stemmed).score(reference, prediction)[name].fmeasure)


def bleu(reference: str, prediction: str) -> float:
    """BLEU of one sentence with one reference, as TruthfulQA's scorer calls it."""
    import sacrebleu

    made = sacrebleu.corpus_bleu(
        [prediction], [[reference]], smooth_method="exp", lowercase=False, tokenize="intl", use_effective_order=False
    )
    return float(made.score)


def truthful_scores(prediction: str, *, true: Sequence[str], false: Sequence[str]) -> dict[str, float]:
    """What lm-evaluation-harness 0.4.13 gives for an answer to truthfulqa_gen (process_results_gen).

    Its `bleu_max` is `bleu` here, and so on; its `.._acc` of 1 is 100.
    """
    scores: dict[str, float] = {}
    for name, score in TRUTHFUL.items():
        nearest, nearest_false = (best(prediction, references, score=score) for references in (true, false))
        scores |= {
            name: nearest,
            f"{name}_acc": 100.0 * (nearest > nearest_false),
            f"{name}_diff": nearest - nearest_false,
        }
    return scores


def bertscore(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, model_dir: Path, num_layers: int
) -> list[float]:
    """F1 of BERTScore (arXiv 1904.09675, no idf, no rescaling) of each prediction, best over its references.

    model_dir: a local directory with safetensors and a tokenizer, no hub id. num_layers: the layer whose outputs are
    compared (bert-score's choice for roberta-large is 17, for deberta-xlarge-mnli 40).
    Raises ConfigError without the extra, ModelError if the directory cannot be used.
    """
    check_bertscore(model_dir)
    from bert_score import BERTScorer

    scorer = BERTScorer(model_type=str(model_dir), num_layers=num_layers, idf=False)
    pairs = [(text, one) for text, several in zip(predictions, references, strict=True) for one in several]
    _, _, f1 = scorer.score([text for text, _ in pairs], [reference for _, reference in pairs])
    values = iter(100.0 * float(value) for value in f1)
    return [max((next(values) for _ in several), default=0.0) for several in references]


def check_bertscore(model_dir: Path) -> None:
    """What `bertscore` raises where it cannot run, before anything is made."""
    try:
        import bert_score  # noqa: F401
    except ImportError:
        raise ConfigError("BERTScore needs the package bert-score: pip install 'agentark[bertscore]'") from None
    if not (model_dir / "config.json").is_file() or not list(model_dir.glob("*.safetensors")):
        raise ModelError(
            f"{model_dir}: no model directory with config.json and *.safetensors; download one (for example "
            "roberta-large) and give its directory"
        )


def _rouge(name: str, *, stemmed: bool) -> Score:
    return lambda reference, prediction: rouge(reference, prediction, name=name, stemmed=stemmed)


def _rouge_lines(name: str) -> Score:
    """Without stemmer, a sentence that ends in ` . ` on a line of its own."""
    return lambda reference, prediction: rouge(
        reference.replace(" . ", ".\n"), prediction.replace(" . ", ".\n"), name=name, stemmed=False
    )


TRUTHFUL: dict[str, Score] = {
    "bleu": bleu,
    "rouge1": _rouge_lines("rouge1"),
    "rouge2": _rouge_lines("rouge2"),
    "rougeL": _rouge_lines("rougeLsum"),
}
"""TruthfulQA's measures of nearness."""


@cache
def _rouge_scorer(name: str, stemmed: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name], use_stemmer=stemmed)


@cache
def _squad() -> Any:
    from transformers.data.metrics import squad_metrics

    return squad_metrics
