"""Commands that measure answers and reasoning: verdicts, label noise, perplexity, judged qualities, reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentark_core.commands.options import DEFAULT_HOME, Home
from agentark_core.errors import ConfigError

Judge = Annotated[
    str, typer.Option("--judge", metavar="MODEL", help="Hub id or model directory, or a YAML file of JudgeConfig.")
]
MEASURED = "Fingerprint of a debate run, or name of an evaluated run: all its greedy answers."


def verify(
    cases: Annotated[Path, typer.Argument(help="JSON lines {id, task, gold, response}; .gz is read too.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: id, status, method, extracted.")],
    workers: Annotated[int, typer.Option(min=1, help="Worker processes for what the fast rules leave.")] = 2,
    judge: Judge = "",
) -> None:
    """Verify recorded answers against gold answers by rules: correct, incorrect or undecided.

    With `--judge` an LLM takes what the rules leave undecided; it sees question, gold and extracted answer only.
    """
    from agentark_core.verify import verify_file

    if not judge:
        counts, decided = verify_file(cases, out=out, workers=workers), ""
    else:
        from agentark_core.local_judge import open_judge

        with open_judge(judge) as opened:
            counts = verify_file(cases, out=out, workers=workers, judge=opened.decide)
            decided = f" ({opened.decided} by the judge)"
    shown = ", ".join(f"{n} {label}" for label, n in counts.items())
    typer.echo(f"{sum(counts.values())} rows -> {out}: {shown}{decided}")


def audit(
    run: Annotated[str, typer.Argument(help="Fingerprint of a verified debate run.")] = "",
    cases: Annotated[
        Path | None, typer.Option("--cases", help="Audit a file of cases (as of `verify`) instead.")
    ] = None,
    sample: Annotated[int, typer.Option(min=2, help="Verdicts to check again, half of them correct ones.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    judge: Judge = "",
    out: Annotated[Path | None, typer.Option("--out", help="Markdown file to write: the disagreeing cases.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Estimate label noise: let a second, independent checker decide a seeded sample of the verdicts again.

    The second checker is Math-Verify with its own search in the whole response (for choices, a second reader of
    letters), or an LLM with `--judge`.
    """
    from contextlib import nullcontext

    from agentark_core import audit as audits
    from agentark_core import audit_view
    from agentark_core.ledger import atomic_write_text
    from agentark_core.local_judge import open_judge

    if bool(run) == (cases is not None):
        raise ConfigError("audit: give either the fingerprint of a run (`agentark debates` lists them) or --cases FILE")
    with open_judge(judge) if judge else nullcontext() as opened:
        if cases is not None:
            done = audits.audit_cases(cases, sample=sample, seed=seed, judge=opened)
        else:
            done = audits.audit_run(home, run, sample=sample, seed=seed, judge=opened)
    typer.echo(audit_view.summary(done))
    if out is not None:
        atomic_write_text(out, audit_view.markdown(done))
        typer.echo(f"\n{len(done.disagreements)} cases to read -> {out}")


def perplexity(
    run: Annotated[str, typer.Argument(help=MEASURED)],
    model: Annotated[str, typer.Option("--model", help="Hub id, model directory or arkling:student.")],
    sample: Annotated[int, typer.Option(min=1, help="Questions to draw.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    home: Home = DEFAULT_HOME,
) -> None:
    """How likely a model finds the reasoning in a run's first answers: mean perplexity of the reasoning tokens.

    Kept for the reports of all runs that are evaluated on these answers.
    """
    from agentark_core.reasoning_view import measure_perplexity, perplexity_text, runs_of

    for name, of in runs_of(home, run).items():
        found = measure_perplexity(home, of, model=model, sample=sample, seed=seed)
        typer.echo(f"{name}\n{perplexity_text(found)}")


def qualities(
    run: Annotated[str, typer.Argument(help=MEASURED)],
    judge: Judge,
    sample: Annotated[int, typer.Option(min=1, help="Questions to draw.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    home: Home = DEFAULT_HOME,
) -> None:
    """Let an LLM rate how a run's first answers reason: four qualities from 1 to 5, and how far to trust the judge.

    It rates all of them twice with other seeds; on arkling its scores are set against exact step checks. Kept for the
    reports of all runs that are evaluated on these answers.
    """
    from agentark_core.local_judge import open_judge
    from agentark_core.reasoning_view import measure_qualities, qualities_text, runs_of

    asked = runs_of(home, run)
    with open_judge(judge) as opened:
        for name, of in asked.items():
            found = measure_qualities(home, of, judge=opened, sample=sample, seed=seed)
            typer.echo(f"{name}\n{qualities_text(found)}")


def prm_metrics(
    model: Annotated[
        str,
        typer.Argument(help="Folder of a process reward model, or a registered one (NAME, NAME@ALIAS, NAME/VERSION)."),
    ],
    files: Annotated[
        list[Path], typer.Argument(help="ProcessBench: JSON or JSON lines {problem, steps, label, ...}, perhaps .gz.")
    ],
    selection: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the questions, drawn, that chooses the threshold.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    wording: Annotated[
        Literal["general", "arkling"], typer.Option("--prompts", help="Wording of its training (student.prompts).")
    ] = "general",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write: prm-metrics.json and reliability.png.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Measure a process reward model on solutions whose first wrong step is marked: does it find that step?

    First-error F1 (the harmonic mean of the accuracies on solutions with and without a wrong step), step AUC and
    calibration, each with n and a 95 % interval, on the questions that did not choose the threshold.
    """
    from agentark_core import prm_view
    from agentark_core.named_model import find_model

    found = prm_view.evaluate(
        find_model(model, home=home).folder, files, wording=wording, selection=selection, seed=seed
    )
    typer.echo(prm_view.render(found))
    if out is not None:
        typer.echo("\n" + "\n".join(str(path) for path in prm_view.write(found, out)))
