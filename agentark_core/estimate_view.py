"""Estimates and their comparison with a finished run, as tables of 100 columns."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentark_core.estimate import COUNTERS, group_order

WIDTH = 100
NAMES = {
    "turns": "turns",
    "prompt_tokens": "prompt tokens",
    "cached_tokens": "of them cached",
    "completion_tokens": "decoded tokens",
    "parquet_bytes": "Parquet",
    "journal_bytes": "journals",
    "engine_hours": "engine time",
    "wall_hours": "wall time",
    "cost": "cost",
}


def render(estimate: dict[str, Any]) -> str:
    """The predicted bill, then other configurations on paper."""
    console = _console()
    questions, sampled = estimate["questions"], estimate["sampled"]
    console.print(
        Text(f"{questions:,} questions of {estimate['dataset']}, predicted from {sampled}; run {estimate['run']}")
    )
    console.print(Text(f"in brackets: {estimate['interval']}"))
    table = _table("", *(NAMES[counter] for counter in COUNTERS))
    for group in sorted(estimate["rounds"], key=group_order):
        row = estimate["rounds"][group]
        _row(table, group, *(_interval(counter, row[counter]) for counter in COUNTERS))
    console.print(table)
    speed = estimate["speed"]
    table = _table("", "predicted", "")
    for name, figure in estimate["figures"].items():
        note = ""
        if name == "engine_hours":
            note = f"at {_si(speed['tokens_per_s'])} decoded tokens/s an engine, prefills included"
        if name == "wall_hours":
            note = f"on {estimate['num_engines']} engine(s), without their start"
        at_most = name.endswith("_hours") and not speed["full_batch"]
        value = f"at most {_value(name, figure['high'])}" if at_most else _interval(name, figure)
        _row(table, NAMES[name], value, note)
    console.print(table)
    console.print(Text(_speed_note(estimate)))
    if "paper" in estimate:
        _paper(console, estimate)
    return _text(console)


def render_comparison(comparison: dict[str, Any]) -> str:
    """Predicted and actual, line by line."""
    console = _console()
    table = _table("", "predicted", "actual", "ratio", "inside")
    known = [line for line in comparison["lines"] if line["inside"] is not None]
    for line in comparison["lines"]:
        group, _, name = line["name"].rpartition(": ")
        actual = line["actual"]
        _row(
            table,
            f"{group}: {NAMES[name]}" if group else NAMES[name],
            _interval(name, line),
            "-" if actual is None else _value(name, actual),
            f"{actual / line['value']:.2f}" if actual is not None and line["value"] else "-",
            {True: "yes", False: "no", None: "-"}[line["inside"]],
        )
    console.print(
        Text(
            f"run {comparison['run']}: {comparison['questions']:,} questions, predicted from {comparison['sampled']}; "
            f"{sum(line['inside'] for line in known)} of {len(known)} figures in their interval"
        )
    )
    console.print(table)
    return _text(console)


def _speed_note(estimate: dict[str, Any]) -> str:
    speed = estimate["speed"]
    if speed["full_batch"]:
        return (
            f"The speed was measured over {speed['seconds']:.0f} s in which the batch was full. The intervals of the "
            "times hold what varies between questions, not the speed."
        )
    at_once = estimate["sampled"] * estimate["debate"]["num_agents"]
    slots = estimate["max_num_seqs"]
    return (
        f"The sample had at most {min(at_once, slots)} requests at once in the engine's {slots} places, so its speed "
        "is a lower bound and the times are upper bounds. --fill asks enough questions to measure a full batch; the "
        "run keeps their turns."
    )


def _paper(console: Console, estimate: dict[str, Any]) -> None:
    sizes = estimate["sizes"]
    ended = ", ".join(f"round {k}: {share:.0%}" for k, share in enumerate(estimate["ended"], start=1))
    console.print(
        Text(
            f"\nOn paper, tokens a question, from what the sample shows: question {sizes['question']:.0f}, completion "
            f"{sizes['trace']:.0f}, shown solution {sizes['shown']:.0f}, suffix {sizes['suffix']:.0f}; debates end "
            f"with {ended}. Prefill: left by a perfect prefix cache (without one). Context: longest prompt of an "
            "average question and max_tokens."
        )
    )
    layouts = list(dict.fromkeys(row["layout"] for row in estimate["paper"]))
    table = _table("n", "K", "rounds", "decode", *(f"prefill {name}" for name in layouts), "context p/h/b")
    cells: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in estimate["paper"]:
        cells.setdefault((row["num_agents"], row["num_rounds"]), []).append(row)
    own = (estimate["debate"]["num_agents"], estimate["debate"]["num_rounds"])
    for (num_agents, num_rounds), rows in cells.items():
        _row(
            table,
            f"{num_agents}{'*' if (num_agents, num_rounds) == own else ''}",
            str(num_rounds),
            f"{rows[0]['rounds_held']:.2f}",
            _si(rows[0]["decode"]),
            *(f"{_si(row['prefill'])} ({_si(row['prompt'])})" for row in rows),
            " ".join(_si(row["context"]) for row in rows),
        )
    console.print(table)
    console.print(Text("* as configured. Of more agents than sampled, and of more rounds, the end is extrapolated."))


def _interval(name: str, figure: dict[str, Any]) -> str:
    low, high = _value(name, figure["low"]), _value(name, figure["high"])
    return f"{_value(name, figure['value'])} [{low}, {high}]"


def _value(name: str, value: float) -> str:
    if name.endswith("_hours"):
        seconds = value * 3600
        return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min" if value < 2 else f"{value:.3g} h"
    return _si(value) + ("B" if name.endswith("_bytes") else "")


def _si(value: float) -> str:
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def _console() -> Console:
    return Console(file=StringIO(), width=WIDTH, color_system=None, highlight=False)


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 else "right", no_wrap=number == 0)
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))


def _text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
