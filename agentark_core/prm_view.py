"""A process reward model on ProcessBench files: scores, threshold, figures; as text, JSON and a reliability plot.

    prm-1/model (9f3c..): threshold 0.412, the best first-error F1 on 80 solutions of 75 questions (seed 0)

    processbench_gsm8k.json: 320 solutions of 300 other questions
      first-error F1       0.412 [0.351, 0.470], n = 320
      ...

A solution says of its steps up to the first wrong one which are right; of those behind it, nothing. AUC and calibration
are of the steps that are labelled so. The threshold is chosen on a drawn part of the questions of all files, never on
those that are measured. It is drawn because the rows have an order (ProcessBench begins with the wrong solutions).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentark_core import heavy, model_files, prm_metrics, process_bench, prompts
from agentark_core.errors import ConfigError, DataError
from agentark_core.ledger import atomic_write_json
from agentark_core.prm_metrics import Measured, Scored
from agentark_core.process_bench import Marked

if TYPE_CHECKING:
    from agentark_core.training.prm_model import PRM


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The part that chose the threshold: questions drawn with seed, and their solutions."""

    seed: int
    questions: int
    solutions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFigures:
    """What was measured on the other solutions of one file. too_long: left out, they exceed the model's context."""

    file: str
    sha256: str
    solutions: int
    questions: int
    too_long: int
    figures: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A model (its folder and content hash) on all files."""

    model: str
    revision: str
    wording: prompts.Wording
    threshold: float
    selection: Selection
    files: list[FileFigures]


def evaluate(
    model: Path, files: Sequence[Path], *, wording: prompts.Wording, selection: float = 0.2, seed: int = 0
) -> Evaluated:
    """Score every solution of the files (torch, here) and measure. selection: share of the questions that choose the
    threshold; wording: how the question is asked, as in the model's training.

    Raises DataError naming the file that is not of ProcessBench or lacks solutions with or without a wrong step,
    ConfigError if a file is named twice, ModelError if the model is no process reward model.
    """
    if len({file.resolve() for file in files}) < len(files):
        raise ConfigError("prm-metrics: a file is named twice; give each once")
    marked = {file: process_bench.read(file) for file in files}
    questions = sorted({one.question for solutions in marked.values() for one in solutions})
    if len(questions) < 2:
        raise DataError(f"{', '.join(map(str, files))}: fewer than two questions; one part chooses the threshold")
    drawn = min(max(1, round(selection * len(questions))), len(questions) - 1)
    chosen = set(random.Random(seed).sample(questions, drawn))
    with heavy.imports():
        from agentark_core.training.prm_model import PRM

    prm = PRM.load(model)
    scored = {file: _score(prm, solutions, wording=wording) for file, solutions in marked.items()}
    choosing = [one for found in scored.values() for one in found if one.question in chosen]
    try:
        threshold = prm_metrics.choose_threshold(
            [one.scores for one in choosing], [one.first_error for one in choosing]
        )
    except DataError as error:
        raise DataError(f"the {drawn} questions that choose the threshold: {error}, or raise --selection") from None
    return Evaluated(
        model=str(model),
        revision=model_files.revision(model),
        wording=wording,
        threshold=threshold,
        selection=Selection(seed=seed, questions=drawn, solutions=len(choosing)),
        files=[
            _figures(
                file,
                [one for one in found if one.question not in chosen],
                too_long=len(marked[file]) - len(found),
                threshold=threshold,
            )
            for file, found in scored.items()
        ],
    )


def _score(prm: PRM, solutions: list[Marked], *, wording: prompts.Wording) -> list[Scored]:
    """Those that the model can read, in order."""
    from agentark_core.step_tokens import tokenise

    asked = [(one, prompts.first_answer(one.question, wording=wording)) for one in solutions]
    fitting = [
        (one, prompt) for one, prompt in asked if len(tokenise(prm.chat, prompt, one.steps).input_ids) <= prm.context
    ]
    found = prm.step_scores([prompt for _, prompt in fitting], [one.steps for one, _ in fitting])
    return [
        Scored(question=one.question, scores=scores, labels=one.labels)
        for (one, _), scores in zip(fitting, found, strict=True)
    ]


def _figures(file: Path, scored: list[Scored], *, too_long: int, threshold: float) -> FileFigures:
    try:
        figures = prm_metrics.measure(scored, threshold=threshold)
    except DataError as error:
        left_out = f" ({too_long} are longer than the model's context)" if too_long else ""
        raise DataError(f"{file}: of its {len(scored)} solutions to measure{left_out}: {error}") from None
    return FileFigures(
        file=str(file),
        sha256=model_files.file_sha256(file),
        solutions=len(scored),
        questions=len({one.question for one in scored}),
        too_long=too_long,
        figures=figures,
    )


def render(found: Evaluated) -> str:
    """Plain text: every figure with n and its 95 % interval, from 0 to 1."""
    part = found.selection
    lines = [
        f"{found.model} ({found.revision}): threshold {found.threshold:.3f}, the best first-error F1 on "
        f"{part.solutions} solutions of {part.questions} questions (seed {part.seed})",
    ]
    for one in found.files:
        error = one.figures.first_error
        left_out = f"; {one.too_long} left out, longer than the model's context" if one.too_long else ""
        lines += ["", f"{one.file}: {one.solutions} solutions of {one.questions} other questions{left_out}"]
        for name, estimate, of in (
            ("first-error F1", error.f1, "solutions"),
            ("  with a wrong step", error.erroneous, "solutions"),
            ("  all steps right", error.correct, "solutions"),
            ("step AUC", one.figures.auc, "steps up to the first wrong one"),
            ("calibration error", one.figures.calibration_error, "steps up to the first wrong one"),
        ):
            lines.append(f"  {name:<20} {estimate} {of}")
    return "\n".join(lines)


def write(found: Evaluated, folder: Path) -> list[Path]:
    """prm-metrics.json and reliability.png (share of right steps by score, one line a file); returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, plot = folder / "prm-metrics.json", folder / "reliability.png"
    atomic_write_json(figures, asdict(found))
    prm_metrics.plot_reliability({one.file: one.figures.reliability for one in found.files}, plot)
    return [figures, plot]
