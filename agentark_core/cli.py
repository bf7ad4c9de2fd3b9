"""The command line `agentark`. Each command imports what it needs when it runs, so that --help stays fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentark_core import __version__
from agentark_core.cli_options import DEFAULT_HOME, Home
from agentark_core.errors import AgentArkError, ConfigError
from agentark_core.harness import commands as harness

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
app.command("lm-eval")(harness.lm_eval)
app.command("export-samples")(harness.export_samples)

Judge = Annotated[
    str, typer.Option("--judge", metavar="MODEL", help="Hub id or model directory, or a YAML file of JudgeConfig.")
]
MEASURED = "Fingerprint of a debate run, or name of an evaluated run: all its greedy answers."


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


@app.command()
def run(
    flow: Annotated[
        str, typer.Argument(help="build-traces | extract | distil | evaluate-model | full-pipeline | sweep")
    ],
    config: Annotated[Path, typer.Option("--config", help="YAML or JSON file with the flow's parameters.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key, e.g. --set debate.num_agents=3. Repeatable.")
    ] = None,
) -> None:
    """Run a flow in this process (no server needed; with PREFECT_API_URL set, the run shows in that UI).

    Interrupted runs go on where they stopped: start the same command again.
    """
    from agentark_core.flow_runner import run_flow

    run_flow(flow, config=config, overrides=set_ or [])


@app.command()
def estimate(
    config: Annotated[Path | None, typer.Option("--config", help="Config of build-traces or full-pipeline.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one key. Repeatable.")] = None,
    questions: Annotated[int, typer.Option(min=2, help="Questions to debate for real.")] = 20,
    fill: Annotated[bool, typer.Option("--fill", help="Ask enough to measure the speed of a full batch.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    compare: Annotated[str, typer.Option("--compare", help="Fingerprint of a finished run with an estimate.")] = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Predict what the debates of a config will cost, from a few of its questions; or compare with what they did.

    Tokens by round, engine time, wall time and disk, with intervals, and on paper for other agents, rounds and
    layouts. The turns of the sample are kept for the run. `--compare RUN --home HOME` afterwards.
    """
    from agentark_core.flow_runner import compare_estimate, run_estimate

    if bool(compare) == (config is not None):
        raise ConfigError("estimate: give either --config FILE, before a run, or --compare RUN --home HOME, after it")
    if config is not None:
        run_estimate(config, overrides=set_ or [], questions=questions, fill=fill, out=json_)
    else:
        compare_estimate(home, compare, out=json_)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Recorded debates (.jsonl, .json, also .gz).")],
    format: Annotated[str, typer.Option("--format", help="llm-multiagent-debate | agentark | maslab")],
    task: Annotated[str, typer.Option("--task", help="The verifier's rules: gsm8k, math, medmcqa, ...")] = "gsm8k",
    dataset: Annotated[str, typer.Option("--dataset", help="Name used in ids and reports.")] = "imported",
    max_bad_row_share: Annotated[float, typer.Option(help="Stop if more of the rows than this are bad.")] = 0.01,
    license: Annotated[str, typer.Option("--license", help="Licence of the questions, for data cards.")] = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Turn recorded debates into committed debates of the ledger, and print the fingerprint for `distil`."""
    from agentark_core.import_debates import import_file

    imported = import_file(
        file,
        format=format,
        task=task,
        dataset=dataset,
        home=home,
        max_bad_row_share=max_bad_row_share,
        license=license,
    )
    typer.echo(
        f"{imported.debates} debates, {imported.turns} turns committed; {imported.bad_rows} bad rows kept aside\n"
        f"fingerprint {imported.fingerprint}\n"
        f"next: agentark debates --run {imported.fingerprint}, or `traces: [{imported.fingerprint}]` in a distil config"
    )


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def debates(
    run: Annotated[str, typer.Option("--run", help="Fingerprint of a debate run; default: list the runs.")] = "",
    show: Annotated[str, typer.Option("--show", help="Id of one debate (work id or question id): print it.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Debates to list.")] = 20,
    home: Home = DEFAULT_HOME,
) -> None:
    """List debate runs; the debates of one run and what its rounds changed; or print one debate. Running ones too."""
    from agentark_core import debates_view

    typer.echo(debates_view.render(home, run=run, show=show, limit=limit))


@app.command()
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


@app.command()
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


@app.command()
def watch(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Fingerprints; default: newest.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Show a running job's debates until they end: progress, tokens/s, cache hits, accuracy so far, time left.

    It only reads files; Ctrl-C ends the view, not the job.
    """
    from agentark_core import live_view

    typer.echo(live_view.watch_runs(home, runs or []))


@app.command()
def consensus(
    run: Annotated[str, typer.Argument(help="Fingerprint of a debate run made with debate.quorum=0.")],
    quorum: Annotated[float, typer.Option(help="Share of the agents that must agree to stop.")] = 1.0,
    home: Home = DEFAULT_HOME,
) -> None:
    """What stopping at a consensus would have changed: same answers, accuracy, turns and tokens saved."""
    from agentark_core.consensus import render

    typer.echo(render(home, run=run, quorum=quorum))


@app.command()
def models(home: Home = DEFAULT_HOME) -> None:
    """Show the model registry: versions, aliases, metrics and lineage."""
    from agentark_core import registry_view
    from agentark_core.config import TrackingConfig
    from agentark_core.tracking import tracking_uri

    typer.echo(registry_view.render_models(registry_view.list_models(tracking_uri(TrackingConfig(), home=home))))


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
