"""Committed questions -> committed perturbed questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from agentark_core import model_files, prompts, records
from agentark_core.arkling.tokenizer import fallback_ids
from agentark_core.chat import ChatFormat
from agentark_core.config import ModelConfig
from agentark_core.ledger import Store, fingerprint
from agentark_core.robustness.perturbations import VERSION, perturb
from agentark_core.types import Problem
from tasks.trace_tasks import ProblemSet, commit_problems

NO_FORM = "no form for such a question or gold answer"
UNKNOWN_WORDS = "not applicable (words outside the tokenizer)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbedSet:
    """problems: None where no question could be perturbed. of: id of each perturbed question -> of the clean one.
    left_out: reason -> clean questions without one."""

    name: str
    problems: ProblemSet | None
    of: dict[str, str]
    left_out: dict[str, int]


@task(task_run_name="perturb {name}", cache_policy=NO_CACHE)
def perturb_problems(
    name: str, *, problems: ProblemSet, model: ModelConfig, home: Path, seed: int, shard_size: int
) -> PerturbedSet:
    """Perturb every question that allows it, and commit them. model: whose tokenizer must know the words, if it is one
    of the tiny models, which have no others."""
    clean = Store(home, stage="problems", fingerprint=problems.fingerprint)
    found = [perturb(name, problem, seed=seed) for problem in records.table_to_problems(clean.read())]
    made = [problem for problem in found if problem is not None]
    left_out = Counter({NO_FORM: len(found) - len(made)})
    if model.prompts == "arkling":
        known = _known(made, model=model)
        left_out[UNKNOWN_WORDS] = len(made) - len(known)
        made = known
    key = fingerprint(
        "problems",
        of=problems.fingerprint,
        perturbation=name,
        version=VERSION,
        seed=seed,
        shard_size=shard_size,
        asked=[problem.problem_id for problem in made],
    )
    if not made:
        return PerturbedSet(name=name, problems=None, of={}, left_out=dict(+left_out))
    store = Store(home, stage="problems", fingerprint=key, config={**clean.config, "perturbation": name})
    shards = commit_problems(store, tuple(made), shard_size=shard_size)
    committed = replace(
        problems,
        fingerprint=key,
        revision=f"{problems.revision}+{name}-{VERSION}-{seed}",
        shards=shards,
        rows=len(made),
        bad_rows=0,
    )
    of = {problem.problem_id: problem.meta["of"] for problem in made}
    return PerturbedSet(name=name, problems=committed, of=of, left_out=dict(+left_out))


def _known(problems: list[Problem], *, model: ModelConfig) -> list[Problem]:
    """Those whose prompt needs no fallback byte."""
    chat = ChatFormat.load(model_files.resolve(model))
    fallback = fallback_ids(chat.tokenizer)
    return [
        problem
        for problem in problems
        if fallback.isdisjoint(chat.prompt_ids(prompts.first_answer(problem.question, wording=model.prompts)))
    ]
