"""The commands `agentark lm-eval` and `agentark export-samples`; cli.py puts them into the program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentark_core.commands.options import DEFAULT_HOME, Home


def lm_eval(
    model: Annotated[
        str,
        typer.Argument(help="Registered student (NAME, NAME@ALIAS or NAME/VERSION), model folder, arkling:student."),
    ],
    extra: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="More options of `lm_eval run`; they win.")
    ] = None,
    tasks: Annotated[
        str, typer.Option("--tasks", help="Tasks of the harness, with commas; arkling is ours.")
    ] = "arkling",
    limit: Annotated[int, typer.Option(min=0, help="Questions of each task; 0: all (arkling: 600).")] = 0,
    split: Annotated[
        Literal["test", "ood"], typer.Option("--split", help="arkling only: which held-out questions.")
    ] = "test",
    seed: Annotated[int, typer.Option(min=0, help="arkling only: run.seed of the evaluation to compare with.")] = 0,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option("--dtype", help="Weights.")
    ] = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of results; default: HOME/lm-eval/MODEL.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Evaluate a student with lm-evaluation-harness, in an environment of its own that the first call makes.

    The student's chat template is applied. Example: `agentark lm-eval agentark-student@candidate --tasks arkling,gsm8k`
    """
    from agentark_core.harness import run
    from agentark_core.named_model import find_model

    student = find_model(model, home=home)
    made = run.evaluate(
        student,
        tasks=[task.strip() for task in tasks.split(",") if task.strip()],
        limit=limit,
        split=split,
        seed=seed,
        dtype=dtype,
        out=out or home / "lm-eval" / student.label,
        extra=extra or [],
    )
    typer.echo("\n".join(run.summary(path) for path in made))


def export_samples(
    run: Annotated[str, typer.Argument(help="Name (`run.name`) of a run with an evaluation.")],
    method: Annotated[
        str, typer.Option("--method", help="Row of the evaluation's table.")
    ] = "distilled student greedy",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: in HOME/reports/RUN/samples/METHOD.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="samples_*.jsonl of lm_eval: compare question by question.")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="--against: a metric of both that is 0 or 1 by question; em for prose.")
    ] = "exact_match",
    home: Home = DEFAULT_HOME,
) -> None:
    """Write what our evaluation recorded of each question in the sample format of lm-evaluation-harness."""
    from agentark_core.harness import agreement, export, samples

    made = export.evaluated(home, run, method=method)
    path = out or export.default_path(home, run, method=method)
    samples.write_samples(path, made)
    typer.echo(f"{len(made)} questions of {method!r} -> {path}")
    if against is not None:
        found = agreement.agreement(samples.read_samples(path), samples.read_samples(against), metric=metric)
        typer.echo(agreement.render(found, names=("agentark", "lm_eval")))
