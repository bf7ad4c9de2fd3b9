"""The arms of an experiment combined over their seeds, with paired differences of chosen arms.

    python -m experiments.seeds_table HOME/strategies.json --minus "R-SFT" "rejection-sampled" --minus "DA" "R-SFT"

Reads what `experiments.strategies_arkling` writes, also while it runs: an arm, its seed, the outcome of every question
of each split. Every arm is set against the base, and the pairs of --minus against each other, by question; seed and
question variance are kept apart (agentark_core.seeds). Two arms of one seed each are not compared: nothing is known of
their seeds. p-values have Holm's correction over all differences of the table; a difference that is not significant has
the detectable one beside it, for a single test. Writes FILE-seeds.md and FILE-seeds.png beside the file, or where --out
says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agentark_core import markdown, terminal
from agentark_core.errors import DataError
from agentark_core.evaluation_report import p_text
from agentark_core.seeds import OverSeeds, difference_over_seeds, mean_over_seeds
from agentark_core.statistics import ALPHA, Array, Estimate, holm, share

BASE = "base"
ARMS = ("arm", "split", "seeds", "accuracy % [95 %]", "s.e. seeds", "s.e. questions", "s.e. rest")
MINUS = ("difference", "split", "seeds", "points [95 %]", "p", "p (Holm)", "MDD")
NOTE = (
    "Accuracy in % of n questions, its standard errors in points: of the choice of seeds, of questions, and of what is "
    "neither. One seed: Wilson, over questions alone. Differences paired by question; MDD: the true difference, in "
    "points, that this one test finds with a chance of 80 %."
)

Arms = dict[str, Array]
"""Arm -> outcomes (seeds, questions) of one split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Arm a minus arm b on a split; p_holm: over all differences of the table."""

    a: str
    b: str
    split: str
    found: OverSeeds
    p_holm: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables, and write them with the figure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.seeds_table", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="strategies.json")
    parser.add_argument(
        "--minus", nargs=2, action="append", default=[], metavar=("A", "B"), help="compare arm A with B"
    )
    parser.add_argument("--out", type=Path, help="folder of the Markdown and the figure; default: beside the file")
    given = parser.parse_args(arguments)
    try:
        splits = read(given.file)
        compared = differences(splits, given.minus)
    except DataError as error:
        raise SystemExit(f"{given.file}: {error}") from None
    print(render_text(splits, compared))
    folder = given.out or given.file.parent
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{given.file.stem}-seeds"
    stem.with_suffix(".md").write_text(render_markdown(splits, compared), encoding="utf-8")
    plot(splits, stem.with_suffix(".png"))


def read(file: Path) -> dict[str, Arms]:
    """Split -> arms in the order of the file. DataError where an arm lacks a split or has other questions."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        found: dict[str, dict[str, list[str]]] = {}
        for row in rows:
            for split in row.keys() - {"arm", "seed"}:
                found.setdefault(split, {}).setdefault(row["arm"], []).append(row[split]["outcomes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not a table of strategies_arkling ({type(error).__name__}: {error})") from None
    arms_of = {
        split: {arm: [len(o) for o in outcomes] for arm, outcomes in arms.items()} for split, arms in found.items()
    }
    for split, lengths in arms_of.items():
        if len({length for several in lengths.values() for length in several}) != 1:
            raise DataError(f"split {split}: the arms have different numbers of questions, {lengths}; run them again")
    if not found or any(BASE not in arms for arms in found.values()):
        raise DataError(f"no row of the arm {BASE!r}, against which every other is set")
    return {
        split: {arm: np.array([[c == "1" for c in o] for o in outcomes], float) for arm, outcomes in arms.items()}
        for split, arms in sorted(found.items())
    }


def differences(splits: dict[str, Arms], minus: Sequence[Sequence[str]]) -> list[Difference]:
    """Every arm minus the base, then the chosen pairs, of every split; one family. DataError for an unknown arm."""
    pairs = []
    for split, arms in splits.items():
        for arm in (arm for pair in minus for arm in pair):
            if arm not in arms:
                raise DataError(f"no arm {arm!r} in split {split}; there are: {', '.join(arms)}")
        pairs += [(arm, BASE, split) for arm in arms if arm != BASE] + [(a, b, split) for a, b in minus]
    comparable = [(a, b, split) for a, b, split in pairs if max(len(splits[split][a]), len(splits[split][b])) > 1]
    found = [difference_over_seeds(splits[split][a], splits[split][b]) for a, b, split in comparable]
    adjusted = holm([difference.p_value if difference.p_value is not None else 1.0 for difference in found])
    return [
        Difference(a=a, b=b, split=split, found=difference, p_holm=p_holm)
        for (a, b, split), difference, p_holm in zip(comparable, found, adjusted, strict=True)
    ]


def mean_of(outcomes_S_Q: Array) -> OverSeeds | Estimate:
    """Accuracy of an arm: over seeds and questions, or over questions alone where it has one seed."""
    if len(outcomes_S_Q) > 1:
        return mean_over_seeds(outcomes_S_Q)
    return share(int(outcomes_S_Q.sum()), outcomes_S_Q.shape[1])


def render_text(splits: dict[str, Arms], compared: Sequence[Difference]) -> str:
    """Both tables for a terminal."""
    page = terminal.page()
    page.width = 100
    for headers, rows in ((ARMS, arm_rows(splits)), (MINUS, minus_rows(compared))):
        table = terminal.table(*headers)
        for row in rows:
            terminal.add_row(table, *row)
        page.print(table)
    page.print(NOTE)
    return terminal.text(page)


def render_markdown(splits: dict[str, Arms], compared: Sequence[Difference]) -> str:
    """Both tables as Markdown."""
    tables = [
        markdown.table(headers, [[markdown.inline(row[0]), *row[1:]] for row in rows], left=2)
        for headers, rows in ((ARMS, arm_rows(splits)), (MINUS, minus_rows(compared)))
    ]
    return "\n".join([*tables, NOTE, ""])


def arm_rows(splits: dict[str, Arms]) -> list[tuple[str, ...]]:
    """Cells of ARMS."""
    rows = []
    for split, arms in splits.items():
        for arm, outcomes_S_Q in arms.items():
            found = mean_of(outcomes_S_Q)
            apart = (
                [f"{100 * part:.1f}" for part in (found.se_seeds, found.se_questions, found.se_rest)]
                if isinstance(found, OverSeeds)
                else ["-", "-", "-"]
            )
            figure = f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
            rows.append((arm, f"{split}, n = {outcomes_S_Q.shape[1]}", str(len(outcomes_S_Q)), figure, *apart))
    return rows


def minus_rows(compared: Sequence[Difference]) -> list[tuple[str, ...]]:
    """Cells of MINUS."""
    rows: list[tuple[str, ...]] = []
    for item in compared:
        found = item.found
        assert found.p_value is not None and found.detectable is not None
        rows.append(
            (
                f"{item.a} - {item.b}",
                item.split,
                f"{found.seeds[0]} - {found.seeds[1]}",
                f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]",
                p_text(found.p_value),
                p_text(item.p_holm),
                f"{100 * found.detectable:.1f}" if item.p_holm >= ALPHA else "",
            )
        )
    return rows


def plot(splits: dict[str, Arms], path: Path) -> None:
    """PNG: a row for each arm, its mean with the interval, and every seed as a dot; a panel for each split."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(arm for arms in splits.values() for arm in arms))
    figure = Figure(figsize=(4.5 * len(splits) + 2, 0.4 * len(names) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, (split, arms) in zip(panels, splits.items(), strict=True):
        for arm, outcomes_S_Q in arms.items():
            at, found = names.index(arm), mean_of(outcomes_S_Q)
            error = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
            axes.errorbar(100 * found.value, at, xerr=error, fmt="s", color="#0072B2", capsize=4)
            axes.plot(100 * outcomes_S_Q.mean(axis=1), [at + 0.2] * len(outcomes_S_Q), ".", color="#D55E00")
        axes.set(xlabel=f"accuracy in % of {outcomes_S_Q.shape[1]} questions (95 %), dots: seeds", title=split)
        axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
        axes.grid(visible=True, axis="x", alpha=0.25)
    panels[0].invert_yaxis()
    figure.savefig(path, format="png", dpi=130)


if __name__ == "__main__":
    main()
