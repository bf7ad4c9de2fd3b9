r"""How well the step splitter gives back the steps of ProcessBench, and its speed.

    python benchmarks/steps_agreement.py --data ../shared/data/process

ProcessBench (arXiv 2412.06559) holds solutions as lists of steps. Its authors had a 72B model set the boundaries, as
paragraphs, and people then labelled the steps: the boundaries are accepted by people, not drawn by them. The separators
are not kept, so the text is formed again by joining the stripped steps with each of three:

    "\n\n"  how the authors formed it, and easy: a step holds no blank line, so blank lines alone give everything back
    "\n"    hard: 43 of 100 line breaks lie inside steps
    " "     nothing marks a boundary: a step is a line or a paragraph, and these texts are mostly one line

Precision, recall and F1 are over boundaries between steps (offsets in the joined text), pooled over problems; the
interval is a 95 % percentile bootstrap over problems. The rules were chosen on these problems, so the figures are not
an estimate for unseen texts. `blank lines` and `all lines` split at every blank line and at every line break.
Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agentark_core.steps import STEPS_VERSION, spans

FILES = {"gsm8k": "processbench_gsm8k.json", "math": "processbench_math.json.gz"}
SEPARATORS = ("\n\n", "\n", " ")
RESAMPLES = 2_000


def ours(text: str) -> set[int]:
    """Offsets at which a step begins, but the first."""
    return {start for start, _ in spans(text)[1:]}


SPLITTERS: dict[str, Callable[[str], set[int]]] = {
    "ours": ours,
    "blank lines": lambda text: {match.end() for match in re.finditer(r"\n\n+", text)},
    "all lines": lambda text: {match.end() for match in re.finditer(r"\n+", text)},
}


def read(path: Path) -> list[list[str]]:
    """Steps of each problem, stripped, without empty ones. The file is one JSON list or JSON lines, perhaps gzipped."""
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    return [[step.strip() for step in row["steps"] if step.strip()] for row in rows]


def counts(steps: list[str], separator: str, splitter: Callable[[str], set[int]]) -> tuple[int, int, int]:
    """(found, found wrongly, missed) boundaries of one problem."""
    wanted, at = set(), 0
    for step in steps[:-1]:
        at += len(step) + len(separator)
        wanted.add(at)
    found = splitter(separator.join(steps))
    return len(found & wanted), len(found - wanted), len(wanted - found)


def scores(totals: np.ndarray) -> np.ndarray:
    """(..., 3) counts -> (..., 3) precision, recall, F1; 0 where undefined."""
    right, wrong, missed = totals[..., 0], totals[..., 1], totals[..., 2]
    parts = ((right, right + wrong), (right, right + missed), (2 * right, 2 * right + wrong + missed))
    return np.stack([np.divide(x, y, out=np.zeros_like(x), where=y > 0) for x, y in parts], axis=-1)


def agreement(problems: list[list[str]], separator: str, splitter: Callable[[str], set[int]]) -> dict[str, Any]:
    """Pooled scores of one way to split, with their intervals."""
    table = np.array([counts(steps, separator, splitter) for steps in problems], dtype=float)
    weights = np.random.default_rng(0).multinomial(len(table), [1 / len(table)] * len(table), size=RESAMPLES)
    low, high = np.percentile(scores(weights @ table), [2.5, 97.5], axis=0)
    point = scores(table.sum(axis=0))
    report: dict[str, Any] = {"problems": len(table), "boundaries": int(table[:, 0].sum() + table[:, 2].sum())}
    for k, name in enumerate(("precision", "recall", "f1")):
        report[name] = [round(float(value[k]), 4) for value in (point, low, high)]
    return report


def megabytes_per_second(texts: list[str], *, repeats: int = 5) -> float:
    """UTF-8 megabytes a second, one core, best of `repeats` passes over all texts."""
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        for text in texts:
            spans(text)
        best = min(best, time.perf_counter() - begun)
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) / best / 1e6


def main() -> None:
    """Print a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"folder with {' and '.join(FILES.values())}")
    data = parser.parse_args().data
    if data is None or not all((data / name).is_file() for name in FILES.values()):
        print("skipped: ProcessBench is not part of the project; name the folder that holds it: --data DIR")
        return
    sets = {name: read(data / file) for name, file in FILES.items()}
    sets["both"] = [steps for problems in sets.values() for steps in problems]
    rows = [
        {"set": name, "separator": separator, "splitter": splitter}
        | agreement(problems, separator, SPLITTERS[splitter])
        for separator in SEPARATORS
        for splitter in SPLITTERS
        for name, problems in sets.items()
        if splitter == "ours" or name == "both"
    ]
    print(
        f"{'separator':<10}{'splitter':<13}{'set':<7}{'n':>6}{'bounds':>8}   precision   recall      F1 (95 % interval)"
    )
    for row in rows:
        f1, low, high = (100 * value for value in row["f1"])
        print(
            f"{row['separator']!r:<10}{row['splitter']:<13}{row['set']:<7}{row['problems']:>6}{row['boundaries']:>8}"
            f"{100 * row['precision'][0]:>11.1f}{100 * row['recall'][0]:>10.1f}{f1:>9.1f} ({low:.1f} to {high:.1f})"
        )
    speed = {repr(s): round(megabytes_per_second([s.join(steps) for steps in sets["both"]]), 1) for s in SEPARATORS}
    print("MB/s:", ", ".join(f"{separator} {value}" for separator, value in speed.items()))
    print(json.dumps({"version": STEPS_VERSION, "rows": rows, "megabytes_per_second": speed}))


if __name__ == "__main__":
    main()
