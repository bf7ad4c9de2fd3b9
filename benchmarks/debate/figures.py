"""One benchmark figure: its measurements, their median and range, and the goal; JSON and a printed table."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from agentark_core import terminal
from agentark_core.ledger import atomic_write_json

OUT = Path("bench-results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """values: one a pair of measurements, or a step. goal: for the median, on the given side (None: only reported).
    details: what else there is to know."""

    name: str
    values: tuple[float, ...]
    side: Literal["<=", ">="] = "<="
    goal: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median over the pairs."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal; None without one."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.side == "<=" else self.median >= self.goal


def arguments(doc: str | None, **defaults: int) -> argparse.Namespace:
    """Command line of a benchmark: one integer option a default, and --out for the folder of the JSON."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder for the JSON (default {OUT})")
    return parser.parse_args()


def report(name: str, figures: Sequence[Figure], *, out: Path, settings: dict[str, Any]) -> None:
    """Write <out>/<name>.json and print the table."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()}
    rows = [{**asdict(figure), "median": figure.median, "met": figure.met} for figure in figures]
    atomic_write_json(out / f"{name}.json", {"settings": settings, "machine": machine, "figures": rows})
    print(json.dumps({"settings": settings, "figures": rows}, indent=1))
    print(table([name], out=out), flush=True)


def table(names: Sequence[str], *, out: Path) -> str:
    """The printed table of the named reports, from their JSON."""
    page = terminal.page()
    rows = terminal.table("figure", "median", "range", "n", "goal", "met")
    for name in names:
        path = out / f"{name}.json"
        for figure in json.loads(path.read_text())["figures"] if path.exists() else []:
            values, goal = figure["values"], figure["goal"]
            terminal.add_row(
                rows,
                figure["name"],
                _shown(figure["median"]),
                f"{_shown(min(values))} to {_shown(max(values))}",
                str(len(values)),
                "-" if goal is None else f"{figure['side']} {goal:g}",
                {True: "yes", False: "no", None: "-"}[figure["met"]],
            )
    page.print(rows)
    return terminal.text(page)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
