"""Commands that make something: runs of flows, their estimate, imported debates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentark_core.commands.options import DEFAULT_HOME, Home
from agentark_core.errors import ConfigError


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
