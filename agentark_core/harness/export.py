"""Our evaluations as samples of lm-evaluation-harness.

`exact_match` is the verifier's verdict. Where verdicts are undecided, the file has the metric `undecided` too, and
those rows have exact_match 0. Prose has the scores of its evaluation instead, under the names and on the scales of the
harness: em, f1, rouge1, rouge2 and rougeL from 0 to 1; of TruthfulQA those of truthfulqa_gen (bleu_max, bleu_acc, ...).
Docs and hashes are those of the harness's own samples of the task `arkling` (task.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from agentark_core import answers, model_files, records
from agentark_core.benchmark_prompts import shot_chat
from agentark_core.chat import ChatFormat
from agentark_core.config import ModelConfig
from agentark_core.errors import ConfigError, DataError
from agentark_core.harness import task
from agentark_core.harness.samples import Sample
from agentark_core.ledger import Store
from agentark_core.prompts import first_answer
from agentark_core.report.gather import folder
from agentark_core.rounds import deciding_turn, outcome
from agentark_core.stored import debate_store, latest_verdict_store, read_debates
from agentark_core.types import Debate, Problem

Scores = Mapping[str, Mapping[str, float]]
"""problem_id -> metric -> value."""

INVALID = "[invalid]"
"""What the harness's regex filter gives where it finds no answer."""


def default_path(home: Path, run: str, *, method: str) -> Path:
    """Where the samples of a method go, by the harness's rule for names: the data set, and when it was evaluated."""
    evaluation = folder(home, run) / "evaluation.json"
    dataset = json.loads(evaluation.read_bytes())["questions"]["dataset"]
    when = datetime.fromtimestamp(evaluation.stat().st_mtime).isoformat().replace(":", "-")
    return folder(home, run) / "samples" / re.sub(r"[^\w@]+", "-", method) / f"samples_{dataset}_{when}.jsonl"


def evaluated(home: Path, run: str, *, method: str) -> list[Sample]:
    """The questions of a method of an evaluated run, in the order of the test set.

    Raises ConfigError for an unknown run or method, DataError if its answers are prose and their scores are gone.
    """
    path = folder(home, run) / "evaluation.json"
    if not path.is_file():
        known = ", ".join(sorted(other.parent.name for other in home.glob("reports/*/evaluation.json"))) or "none"
        raise ConfigError(f"{run}: no evaluated run of this name under {home}; there are: {known}")
    stated = json.loads(path.read_bytes())
    made_from = stated.get("made_from", {})
    if method not in made_from:
        raise ConfigError(f"{run} has no method {method!r}; use one of: {', '.join(made_from)}")
    model = next(row["model"] for row in stated["rows"] if row["name"] == method)
    return list(_samples(home, made_from[method], model=model, prose=partial(_prose_scores, home, run, method=method)))


def _samples(
    home: Path, made_from: Mapping[str, Any], *, model: str, prose: Callable[[str], Scores]
) -> Iterator[Sample]:
    run = made_from["debates"]
    store = debate_store(home, run)
    problems = records.table_to_problems(Store(home, stage="problems", fingerprint=store.config["problems"]).read())
    debates = {debate.problem.problem_id: debate for debate in read_debates(home, fingerprint=run)}
    turns = {key: deciding_turn(debate, answer=made_from["answer"]) for key, debate in debates.items()}
    if answers.kind_of(problems[0].task) == "free":
        scores = prose(problems[0].task)
    else:
        verdicts = records.table_to_verdicts(latest_verdict_store(home, debates=run).read())
        scores = _verdict_scores(
            {key: outcome(debate, verdicts, answer=made_from["answer"]) for key, debate in debates.items()}
        )
    chat = _chat(model)
    for number, problem in enumerate(problems):
        key = problem.problem_id
        turn = turns[key]
        yield _sample(
            number,
            problem,
            prompt=_prompt(problem, chat=chat, wording=store.config["wording"]),
            sampling=store.config["debate"]["sampling"],
            texts=_texts(debates[key]),
            answer=turn.answer if turn else None,
            scores=scores[key],
        )


def _verdict_scores(outcomes: Mapping[str, bool | None]) -> Scores:
    undecided = None in outcomes.values()
    return {
        key: {"exact_match": float(right is True), **({"undecided": float(right is None)} if undecided else {})}
        for key, right in outcomes.items()
    }


def _prose_scores(home: Path, run: str, task: str, *, method: str) -> Scores:
    """The recorded scores of a method in the harness's names and scales."""
    path = folder(home, run) / "scores.json"
    recorded = json.loads(path.read_bytes())["questions"] if path.is_file() else {}
    if method not in recorded:
        raise DataError(f"{path}: no scores of {method!r}; start `agentark run evaluate-model` of {run} again")
    named = _truthful if task == "truthfulqa" else _share
    return {key: dict(named(name, value) for name, value in of.items()) for key, of in recorded[method].items()}


def _share(name: str, value: float) -> tuple[str, float]:
    return name, value / 100


def _truthful(name: str, value: float) -> tuple[str, float]:
    """As truthfulqa_gen has it: shares of questions as 0 or 1, nearness and its difference from 0 to 100."""
    if name == "bertscore" or name.endswith("_acc"):
        return _share(name, value)
    return name if name.endswith("_diff") else f"{name}_max", value


def _sample(
    number: int,
    problem: Problem,
    *,
    prompt: str,
    sampling: Mapping[str, Any],
    texts: list[str],
    answer: str | None,
    scores: Mapping[str, float],
) -> Sample:
    doc = task.doc(problem)
    how: dict[str, Any] = {"until": [], "do_sample": sampling["temperature"] > 0}
    if how["do_sample"]:
        how |= {"temperature": sampling["temperature"], "top_p": sampling["top_p"]}
    how["max_gen_toks"] = sampling["max_tokens"]
    return Sample(
        doc_id=number,
        doc=doc,
        target=problem.gold,
        arguments={"gen_args_0": {"arg_0": prompt, "arg_1": how}},
        resps=[texts],
        filtered_resps=[INVALID if answer is None else answer],
        filter="last-box",
        metrics=list(scores),
        doc_hash=_sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        prompt_hash=_sha256(prompt),
        target_hash=_sha256(problem.gold),
        **scores,
    )


def _texts(debate: Debate) -> list[str]:
    """The solutions that the answer was chosen from, and the summary, where there is one."""
    turns = debate.final_turns if debate.summary is None else (*debate.final_turns, debate.summary)
    return [turn.text for turn in turns]


def _chat(model: str) -> ChatFormat | None:
    """The chat template of a model that is a folder; that of a served one is not known here."""
    if not (model.startswith("arkling:") or Path(model).expanduser().is_dir()):
        return None
    return ChatFormat.load(model_files.resolve(ModelConfig(path=model)))


def _prompt(problem: Problem, *, chat: ChatFormat | None, wording: Any) -> str:
    """The prompt of a first answer as the model sees it; of a served model, its messages as JSON."""
    messages = [*shot_chat(problem.shots, wording=wording), *first_answer(problem.question, wording=wording)]
    return json.dumps(messages, ensure_ascii=False) if chat is None else chat.prompt_text(messages)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
