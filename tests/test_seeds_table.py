"""The table over seeds: what is read, what is compared, what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentark_core import seeds_view
from agentark_core.seeds import difference_over_seeds, mean_over_seeds
from agentark_core.statistics import holm
from experiments import seeds_table

ROWS: list[dict[str, Any]] = [
    {"arm": "base", "seed": None, "test": {"outcomes": "0001000100"}},
    {"arm": "R-SFT", "seed": 0, "test": {"outcomes": "1101010100"}},
    {"arm": "R-SFT", "seed": 1, "test": {"outcomes": "0111010110"}},
    {"arm": "R-SFT", "seed": 2, "test": {"outcomes": "1101110100"}},
    {"arm": "DA $2", "seed": 0, "test": {"outcomes": "0101010110"}},
]


def written(folder: Path, rows: object) -> Path:
    (folder / "strategies.json").write_text(json.dumps(rows))
    return folder / "strategies.json"


def test_arms_are_combined_over_seeds_and_compared_by_question(tmp_path: Path) -> None:
    arms = seeds_table.read(written(tmp_path, ROWS))["test"]
    assert {arm: outcomes.shape for arm, outcomes in arms.items()} == {
        "base": (1, 10),
        "R-SFT": (3, 10),
        "DA $2": (1, 10),
    }
    assert seeds_view.mean_of(arms["R-SFT"]) == mean_over_seeds(arms["R-SFT"])
    first, second = seeds_view.differences({"test": arms}, [["R-SFT", "DA $2"]])
    assert (first.a, first.b, second.a, second.b) == ("R-SFT", "base", "R-SFT", "DA $2"), "one seed is left to McNemar"
    assert first.found == difference_over_seeds(arms["R-SFT"], arms["base"])
    p_values = [item.found.p_value or 0.0 for item in (first, second)]
    assert [first.p_holm, second.p_holm] == holm(p_values)


def test_tables_and_figure_are_written_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds_table.main([str(written(tmp_path, ROWS)), "--minus", "R-SFT", "DA $2"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    mean = 100 * np.mean([[int(c) for c in row["test"]["outcomes"]] for row in ROWS[1:4]])
    assert f"{mean:.1f} [" in printed and "R-SFT - DA $2" in printed
    assert "| R-SFT | test, n = 10 | 3 |" in (tmp_path / "strategies-seeds.md").read_text()
    assert (tmp_path / "strategies-seeds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("rows", "minus", "message"),
    [
        ({"a": 1}, [], "not a table of strategies_arkling"),
        ([{"arm": "base", "test": {}}], [], "not a table of strategies_arkling"),
        (ROWS[1:], [], "no row of the arm 'base'"),
        ([*ROWS, {"arm": "x", "seed": 0, "test": {"outcomes": "01"}}], [], "different numbers of questions"),
        (ROWS, ["--minus", "R-SFT", "PAD"], "no arm 'PAD' in split test; there are: base, R-SFT"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, rows: object, minus: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        seeds_table.main([str(written(tmp_path, rows)), *minus])
