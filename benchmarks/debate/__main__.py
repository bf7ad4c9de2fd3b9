"""All debate benchmarks one after the other, each in a process of its own, then one table.

python -m benchmarks.debate
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import figures

NAMES = ("prefill", "throughput", "barrier", "ledger_cost", "kill")


def main() -> None:
    """Stops at the first benchmark that fails; a missed goal is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=figures.OUT, help=f"folder for the JSON (default {figures.OUT})")
    out = parser.parse_args().out
    for name in (*NAMES, "accuracy"):
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.debate.{name}", "--out", str(out)], check=True)
    print(figures.table(NAMES, out=out))


if __name__ == "__main__":
    main()
