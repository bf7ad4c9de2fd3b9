"""The arms of an experiment combined over their seeds, with paired differences of chosen arms.

    python -m experiments.seeds_table HOME/strategies.json --minus "R-SFT" "rejection-sampled" --minus "DA" "R-SFT"

Reads what `experiments.strategies_arkling` writes, also while it runs: an arm, its seed, the outcome of every question
of each split. What is compared: agentark_core/seeds_view.py. Writes FILE-seeds.md and FILE-seeds.png beside the file,
or where --out says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agentark_core.errors import DataError
from agentark_core.seeds_view import BASE, Arms, differences, mean_of, render_markdown, render_text
from experiments.arkling_evaluation import decoded


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
        split: {arm: np.array([decoded(o) for o in outcomes], float) for arm, outcomes in arms.items()}
        for split, arms in sorted(found.items())
    }


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
