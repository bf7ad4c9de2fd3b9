"""How a run's solutions reason: `agentark perplexity` and `agentark qualities` measure, keep and print it.

Both look at the first answer of the first agent to each question (the only one of a student's evaluation run), because
its prompt is the question alone. A seeded draw of the complete ones is taken; what is left out is counted.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentark_core import model_files, reasoning
from agentark_core.benchmark_prompts import shot_chat
from agentark_core.config import ModelConfig
from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.local_judge import LocalJudge
from agentark_core.mean_interval import mean_interval, show
from agentark_core.perplexity import Sample, reasoning_perplexity
from agentark_core.prompts import first_answer
from agentark_core.qualities import QUALITIES, Rating, Solution, rate, self_agreement, step_correlation
from agentark_core.reasoning import MeanPerplexity, MeanScore, Rated
from agentark_core.step_labels import exact_labels
from agentark_core.stored import debate_runs, debate_store, read_debates
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


def runs_of(home: Path, run: str) -> dict[str, str]:
    """Debates to look at, by what they are: a fingerprint's own, or of an evaluated run's name the greedy answers.

    Raises ConfigError if the home knows neither.
    """
    if run in debate_runs(home):
        return {run: run}
    path = home / "reports" / run / "evaluation.json"
    stated = json.loads(path.read_bytes()).get("made_from", {}) if path.is_file() else {}
    found = {name: of["debates"] for name, of in stated.items() if name.endswith(" greedy")}
    if not found:
        raise ConfigError(
            f"{run}: neither the fingerprint of a debate run (`agentark debates --home {home}` lists them) nor a run "
            "with an evaluation that names its debates"
        )
    return found


def measure_perplexity(home: Path, run: str, *, model: str, sample: int, seed: int) -> MeanPerplexity:
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
    found = MeanPerplexity(
        model=model,
        mean=made.mean,
        interval=mean_interval(made.values),
        n=len(made.values),
        tokens=made.tokens,
        no_reasoning=made.no_reasoning,
        too_long=made.too_long,
        incomplete=drawn.incomplete,
    )
    reasoning.keep(home, run, found)
    return found


def perplexity_text(found: MeanPerplexity) -> str:
    """Two lines: the figure, and what was left out."""
    return (
        f"reasoning perplexity under {found.model}: {show(found.mean, found.interval, form='.3f')} (mean of {found.n} "
        f"samples, 95 % bootstrap interval; {found.tokens} reasoning tokens)\n"
        f"left out: {found.no_reasoning} without reasoning, {found.too_long} over the model's context; "
        f"{found.incomplete} questions of the run have no complete first answer"
    )


def measure_qualities(home: Path, run: str, *, judge: LocalJudge, sample: int, seed: int) -> Rated:
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
    means = {}
    for name in QUALITIES:
        if scores := [float(rating.scores[name]) for rating in first if rating.scores]:
            means[name] = MeanScore(mean=sum(scores) / len(scores), interval=mean_interval(scores), n=len(scores))
    found = Rated(
        judge=config.model.path,
        solutions=len(first),
        unrated=sum(not rating.scores for rating in first),
        means=means,
        agreement=self_agreement(first, second),
        correlations=step_correlation(first, steps) if steps is not None else {},
    )
    reasoning.keep(home, run, found)
    return found


def right_steps(solutions: Sequence[Solution]) -> list[float] | None:
    """Share of right steps of each, checked exactly; None if a question is not arkling's own."""
    try:
        labels = [exact_labels(solution.text, question=solution.question) for solution in solutions]
    except DataError:
        return None
    return [sum(label.label is True for label in found) / max(1, len(found)) for found in labels]


COLUMNS = ("quality", "mean [95 %]", "n", "equal again", "kappa")
NOTE = (
    "1 to 5, the median of the judge's votes. equal again: share of equal scores when all is rated again under other "
    "seeds; kappa: Cohen's, quadratic weights."
)


def qualities_text(found: Rated) -> str:
    """One line a quality, and what the figures are of."""
    lines = ["{:27}{:>20}{:>6}{:>13}{:>8}".format(*COLUMNS)]
    lines += ["{:27}{:>20}{:>6}{:>13}{:>8}".format(*cells) for cells in quality_cells(found)]
    for name, one in found.correlations.items():
        shown = "none: one side does not vary" if one.rho is None else rho(found, name)
        lines.append(f"rank correlation of {name} with the share of right steps: {shown} (n = {one.n})")
    why = "unreadable votes, or too long for the judge"
    lines.append(f"{found.unrated} of {found.solutions} solutions without a rating ({why}). {NOTE}")
    return "\n".join(lines)


def quality_cells(found: Rated) -> list[tuple[str, str, str, str, str]]:
    """Cells of COLUMNS, a row for each quality."""
    rows = []
    for name in QUALITIES:
        score, again = found.means.get(name), found.agreement[name]
        rows.append(
            (
                name,
                show(score.mean, score.interval, form=".2f") if score else "-",
                str(score.n if score else 0),
                f"{100 * again.equal:.0f} %" if again.n else "-",
                "-" if again.kappa is None else f"{again.kappa:.2f}",
            )
        )
    return rows


def rho(found: Rated, quality: str) -> str:
    """Rank correlation of a quality with the share of right steps; "" where it was not held against them."""
    one = found.correlations.get(quality)
    if one is None:
        return ""
    return "-" if one.rho is None else f"{one.rho:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"
