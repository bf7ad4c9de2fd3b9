"""The command line `agentark`. Each command imports what it needs when it runs, so that --help stays fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentark_core import __version__
from agentark_core.commands import harness, measures, runs, views
from agentark_core.commands.options import DEFAULT_HOME, Home
from agentark_core.errors import AgentArkError

app = typer.Typer(
    name="agentark",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Distil multi-agent debate into one model.\n\n"
    "Start with `agentark doctor`, then `agentark run full-pipeline --config deployments/laptop.yaml`. "
    "Everything a run makes lies under its `run.home` (default: agentark-home).",
)
arkling_app = typer.Typer(
    no_args_is_help=True, help="The embedded tiny models and their task (word problems with checkable steps)."
)
app.add_typer(arkling_app, name="arkling")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Options of the program itself."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def doctor(home: Home = DEFAULT_HOME) -> None:
    """Check this machine before any work: versions against the tested matrix, cores, memory, disk, GPU, ports.

    Each failed check prints its remedy; the exit code is non-zero if one must be mended first.
    """
    from agentark_core import doctor as checks

    raise typer.Exit(checks.main(home))


for command in (
    *(runs.run, runs.estimate, runs.import_),
    *(measures.verify, measures.audit, measures.perplexity, measures.qualities, measures.prm_metrics),
    *(views.debates, views.card, views.report, views.watch, views.consensus, views.seeds, views.models),
    *(harness.lm_eval, harness.export_samples),
):
    app.command(command.__name__.strip("_").replace("_", "-"))(command)


@arkling_app.command()
def pretrain(
    model: Annotated[str, typer.Option("--model", help="teacher | student | small")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write (hub layout).")],
    tokens: Annotated[int, typer.Option(min=1, help="Training tokens; 0 is not allowed.")],
    seed: Annotated[int, typer.Option(help="Seed of data and initialisation.")] = 0,
) -> None:
    """Train a tiny model from scratch on generated word problems (a teacher takes tens of minutes on one core)."""
    from agentark_core.arkling.pretrain import main

    raise typer.Exit(main(["--model", model, "--out", str(out), "--tokens", str(tokens), "--seed", str(seed)]))


ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Telemetry of the parts stays off unless the user turns it on. On a busy laptop Prefect's temporary server needs more
than its default 20 s."""


def main() -> None:
    """Entry point: errors that the user can mend become one line and an exit code."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except AgentArkError as error:
        from agentark_core import terminal

        print(f"agentark: {terminal.safe(str(error))}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
