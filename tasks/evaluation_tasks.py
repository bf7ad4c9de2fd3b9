"""Committed, verified debates -> outcomes per question -> the evaluation report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core import answers
from agentark_core.config import BertScoreConfig
from agentark_core.dynamics import self_correction
from agentark_core.evaluation import EqualTokens, at_equal_tokens
from agentark_core.pass_at_k import samples_of
from agentark_core.rounds import Answer, deciding_turn, outcome
from agentark_core.stored import JudgeKey, read_debates, read_verdicts
from agentark_core.text_metrics import bertscore, score_text
from agentark_core.types import MethodResult
from tasks.trace_tasks import DebateSpec


@task(task_run_name="score {name}", cache_policy=NO_CACHE)
def score(name: str, *, spec: DebateSpec, answer: Answer, home: Path, judge: JudgeKey | None = None) -> MethodResult:
    """Outcome of every question of one debate run under one way of answering.

    judge: whose verdicts count; None takes those of the rules alone.
    """
    verdicts = read_verdicts(home, debates=spec.fingerprint, judge=judge)
    outcomes: dict[str, bool | None] = {}
    tokens: dict[str, int] = {}
    prompt_tokens = calls = 0
    for debate in read_debates(home, fingerprint=spec.fingerprint):
        counted = debate.turns if answer != "vote" else [t for t in debate.turns if t != debate.summary]
        prompt_tokens += sum(turn.prompt_tokens for turn in counted)
        tokens[debate.problem.problem_id] = sum(turn.completion_tokens for turn in counted)
        calls += len(counted)
        outcomes[debate.problem.problem_id] = outcome(debate, verdicts, answer=answer)
    again = read_debates(home, fingerprint=spec.fingerprint) if spec.debate.num_rounds > 1 else []
    corrected = self_correction(again, verdicts)
    return MethodResult(
        name=name,
        model=spec.model.path,
        outcomes=outcomes,
        completion_tokens=sum(tokens.values()),
        prompt_tokens=prompt_tokens,
        calls=calls,
        tokens=tokens,
        details={"fingerprint": spec.fingerprint, "self_correction": asdict(corrected) if corrected else None},
    )


@task(task_run_name="score prose {name}", cache_policy=NO_CACHE)
def score_prose(
    name: str, *, spec: DebateSpec, answer: Answer, home: Path, bert_score: BertScoreConfig | None = None
) -> dict[str, dict[str, float]]:
    """Scores of the deciding turn of every question whose answer is prose; empty for a test set with verdicts."""
    scores: dict[str, dict[str, float]] = {}
    answered: dict[str, tuple[str, Sequence[str]]] = {}
    for debate in read_debates(home, fingerprint=spec.fingerprint):
        if answers.kind_of(debate.problem.task) != "free":
            return {}
        turn = deciding_turn(debate, answer=answer)
        text, problem = turn.text if turn else "", debate.problem
        scores[problem.problem_id] = score_text(problem, text)
        if final := answers.extract(text, task=problem.task):
            answered[problem.problem_id] = final, problem.references
    if bert_score is not None:
        given, references = [text for text, _ in answered.values()], [several for _, several in answered.values()]
        model_dir, num_layers = Path(bert_score.path), bert_score.num_layers
        found = bertscore(given, references, model_dir=model_dir, num_layers=num_layers) if given else []
        of_answered = dict(zip(answered, found, strict=True))
        for problem_id, of_question in scores.items():
            of_question["bertscore"] = of_answered.get(problem_id, 0.0)
    return scores


@task(task_run_name="self-consistency at equal tokens", cache_policy=NO_CACHE)
def equal_tokens(
    spec: DebateSpec, *, reference: MethodResult, student: MethodResult, home: Path, judge: JudgeKey | None = None
) -> EqualTokens:
    """What the recorded samples of a majority vote (spec) would do at the tokens of the reference; both against it."""
    verdicts = read_verdicts(home, debates=spec.fingerprint, judge=judge)
    debates = read_debates(home, fingerprint=spec.fingerprint)
    samples = {debate.problem.problem_id: samples_of(debate, verdicts) for debate in debates}
    return at_equal_tokens(samples, reference, student=student)
