"""How a run's solutions reason, as text: `agentark perplexity` and `agentark qualities`.

Both look at the first answer of the first agent to each question (the only one of a student's evaluation run), because
its prompt is the question alone. A seeded draw of the complete ones is taken; what is left out is counted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentark_core import model_files
from agentark_core.benchmark_prompts import shot_chat
from agentark_core.config import ModelConfig
from agentark_core.errors import DataError, EmptyDataset
from agentark_core.local_judge import LocalJudge
from agentark_core.mean_interval import mean_interval, show
from agentark_core.perplexity import Sample, reasoning_perplexity
from agentark_core.prompts import first_answer
from agentark_core.qualities import (
    QUALITIES,
    Agreement,
    Correlation,
    Rating,
    Solution,
    rate,
    self_agreement,
    step_correlation,
)
from agentark_core.step_labels import exact_labels
from agentark_core.stored import debate_store, read_debates
from agentark_core.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """answers: complete first answers with their questions; incomplete: questions of the run that have none."""

    answers: tuple[tuple[Problem, str], ...]
    incomplete: int


def draw(home: Path, run: str, *, sample: int, seed: int) -> Drawn:
    """At most `sample` complete first answers of a debate run. Raises EmptyDataset, or as Store does."""
    found: list[tuple[Problem, str]] = []
    incomplete = 0
    for debate in read_debates(home, fingerprint=run):
        turn = next((t for t in debate.turns if (t.round, t.role) == (1, "agent") and t.status == "ok"), None)
        if turn is None:
            incomplete += 1
        else:
            found.append((debate.problem, turn.text))
    if not found:
        raise EmptyDataset(f"{run}: no complete first answer; `agentark debates --run {run}` shows how turns ended")
    chosen = random.Random(seed).sample(range(len(found)), min(sample, len(found)))
    return Drawn(answers=tuple(found[number] for number in sorted(chosen)), incomplete=incomplete)


def perplexity_text(home: Path, run: str, *, model: str, sample: int, seed: int) -> str:
    """Reasoning perplexity (Eq. 11) of a run's first answers under a model (hub id, directory or arkling:student)."""
    drawn = draw(home, run, sample=sample, seed=seed)
    wording = debate_store(home, run).config.get("wording", "general")
    samples = [
        Sample(
            prompt=(*shot_chat(problem.shots, wording=wording), *first_answer(problem.question, wording=wording)),
            text=text,
        )
        for problem, text in drawn.answers
    ]
    made = reasoning_perplexity(samples, model_dir=model_files.resolve(ModelConfig(path=model)))
    shown = show(made.mean, mean_interval(made.values), form=".3f")
    return (
        f"reasoning perplexity under {model}: {shown} (mean of {len(made.values)} "
        f"samples, 95 % bootstrap interval; {made.tokens} reasoning tokens)\n"
        f"left out: {made.no_reasoning} without reasoning, {made.too_long} over the model's context; "
        f"{drawn.incomplete} questions of the run have no complete first answer"
    )


def qualities_text(home: Path, run: str, *, judge: LocalJudge, sample: int, seed: int) -> str:
    """Mean of each judged quality, how far the judge agrees with itself, and on arkling with exact step checks."""
    drawn = draw(home, run, sample=sample, seed=seed)
    solutions = [Solution(question=problem.question, text=text) for problem, text in drawn.answers]
    config = judge.setup.config

    def rated(base_seed: int) -> list[Rating]:
        return judge.run(
            lambda engine: rate(solutions, engine=engine, votes=config.votes, sampling=config.sampling, seed=base_seed)
        )

    first, second = rated(0), rated(1)
    steps = right_steps(solutions)
    correlations = step_correlation(first, steps) if steps is not None else {}
    return table(first, agreement=self_agreement(first, second), correlations=correlations)


def right_steps(solutions: Sequence[Solution]) -> list[float] | None:
    """Share of right steps of each, checked exactly; None if a question is not arkling's own."""
    try:
        labels = [exact_labels(solution.text, question=solution.question) for solution in solutions]
    except DataError:
        return None
    return [sum(label.label is True for label in found) / max(1, len(found)) for found in labels]


def table(ratings: Sequence[Rating], *, agreement: dict[str, Agreement], correlations: dict[str, Correlation]) -> str:
    """One line a quality, and what the figures are of."""
    lines = [f"{'quality':27}{'mean [95 %]':>20}{'n':>6}{'equal again':>13}{'kappa':>8}"]
    for name in QUALITIES:
        scores = [float(rating.scores[name]) for rating in ratings if rating.scores]
        shown = show(sum(scores) / len(scores), mean_interval(scores), form=".2f") if scores else "-"
        again = agreement[name]
        equal = f"{100 * again.equal:.0f} %" if again.n else "-"
        kappa = "-" if again.kappa is None else f"{again.kappa:.2f}"
        lines.append(f"{name:27}{shown:>20}{len(scores):>6}{equal:>13}{kappa:>8}")
    for name, found in correlations.items():
        rho = "none: one side does not vary"
        if found.rho is not None:
            rho = f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        lines.append(f"rank correlation of {name} with the share of right steps: {rho} (n = {found.n})")
    unread = sum(not rating.scores for rating in ratings)
    lines.append(
        f"{unread} of {len(ratings)} solutions without a rating (unreadable votes, or too long for the judge). equal "
        "again: share of equal scores under other seeds; kappa: Cohen's, quadratic weights."
    )
    return "\n".join(lines)
