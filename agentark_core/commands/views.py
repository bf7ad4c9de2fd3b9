"""Commands that show what is there: debates, cards, reports, running jobs, the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentark_core.commands.options import DEFAULT_HOME, Home


def debates(
    run: Annotated[str, typer.Option("--run", help="Fingerprint of a debate run; default: list the runs.")] = "",
    show: Annotated[str, typer.Option("--show", help="Id of one debate (work id or question id): print it.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Debates to list.")] = 20,
    home: Home = DEFAULT_HOME,
) -> None:
    """List debate runs; the debates of one run and what its rounds changed; or print one debate. Running ones too."""
    from agentark_core import debates_view

    typer.echo(debates_view.render(home, run=run, show=show, limit=limit))


def card(
    run: Annotated[str, typer.Argument(help="Fingerprint of a debate run that was extracted.")],
    open_: Annotated[bool, typer.Option("--open", help="Show the page, with its figures, in a browser.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Print the data card of what was learned from a debate run: the newest, if it was extracted in several ways."""
    from agentark_core.card import newest

    page = newest(home, run)
    typer.echo(page.with_suffix(".md").read_text(encoding="utf-8"))
    typer.echo(f"with figures: {page}")
    if open_:
        typer.launch(str(page))


def report(
    run: Annotated[str, typer.Argument(help="Name of a run (`run.name`), or the fingerprint of a debate run.")],
    scores: Annotated[
        int, typer.Option(min=0, help="First score the steps of so many questions with the run's reward model.")
    ] = 0,
    against: Annotated[
        str, typer.Option("--against", metavar="RUN2", help="Pair its evaluation with that of another run of the home.")
    ] = "",
    open_: Annotated[bool, typer.Option("--open", help="Show the report in a browser.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write the report of a run: verdict, accuracy against tokens, flips, cost, lineage, and its debates to search.

    One HTML file that needs no network (more of them beyond 15 MB of debates), and the same figures in Markdown.
    Flows that evaluate write it too.
    """
    from agentark_core.report import step_scores
    from agentark_core.report.gather import gather
    from agentark_core.report.write import render_text, write

    if scores:
        step_scores.score(home, run, questions=scores)
    facts = gather(home, run, against=against)
    paths = write(facts)
    typer.echo(render_text(facts) + "\n")
    typer.echo("\n".join(str(path) for path in paths))
    if open_:
        typer.launch(str(paths[0]))


def watch(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Fingerprints; default: newest.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Show a running job's debates until they end: progress, tokens/s, cache hits, accuracy so far, time left.

    It only reads files; Ctrl-C ends the view, not the job.
    """
    from agentark_core import live_view

    typer.echo(live_view.watch_runs(home, runs or []))


def consensus(
    run: Annotated[str, typer.Argument(help="Fingerprint of a debate run made with debate.quorum=0.")],
    quorum: Annotated[float, typer.Option(help="Share of the agents that must agree to stop.")] = 1.0,
    home: Home = DEFAULT_HOME,
) -> None:
    """What stopping at a consensus would have changed: same answers, accuracy, turns and tokens saved."""
    from agentark_core.consensus import render

    typer.echo(render(home, run=run, quorum=quorum))


def seeds(
    runs: Annotated[
        list[str], typer.Argument(help="Names of evaluated runs that differ in the training's seed alone.")
    ],
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="RUN", help="A run of the other arm; give it for each.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="Whose answers, as the evaluation names them.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Markdown file to write.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Combine several trainings on the same test questions: accuracy over seeds, and paired differences.

    The intervals hold the variance of seeds and that of questions. The runs are set against the base student, and
    with `--against` against the runs of another arm.
    """
    from agentark_core import seed_runs, seeds_view
    from agentark_core.evaluation import STUDENT
    from agentark_core.ledger import atomic_write_text

    arms = {"questions": seed_runs.arms_of(home, runs, against=against or (), method=method or STUDENT)}
    compared = seeds_view.differences(arms, [(seed_runs.RUNS, seed_runs.AGAINST)] if against else [])
    typer.echo(seeds_view.render_text(arms, compared))
    if out is not None:
        atomic_write_text(out, seeds_view.render_markdown(arms, compared))
        typer.echo(f"-> {out}")


def models(home: Home = DEFAULT_HOME) -> None:
    """Show the model registry: versions, aliases, metrics and lineage."""
    from agentark_core import registry_view
    from agentark_core.config import TrackingConfig
    from agentark_core.tracking import tracking_uri

    typer.echo(registry_view.render_models(registry_view.list_models(tracking_uri(TrackingConfig(), home=home))))
