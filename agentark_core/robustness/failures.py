"""Failures: questions that are right as they are and wrong when perturbed; their rate against the gate.

    perturbation  asked  broke/right  mended  failure % [95 %]  < 1 %       points [95 %]      p  MDD
    renamed         600       31/245      28  12.7 [9.1, 17.4]   fail   -0.5 [-3.0, +2.0]  0.795  3.8

A model that guesses breaks some answers and mends others by chance, at temperature 0 too, so `mended` stands beside
`broke`, and the difference of the two has its paired test. Undecided answers are in neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentark_core import markdown, page, terminal
from agentark_core.evaluation_report import test_cells
from agentark_core.paired_tests import Outcomes, PairedTest, in_family, paired_or_none
from agentark_core.robustness.perturbations import PERTURBATIONS
from agentark_core.statistics import Estimate, Judgement, below, detectable_drop, share, unpaired

GATE = 0.01
"""A failure rate is to be below this."""

_WIDTH = 100

COLUMNS = ("perturbation", "asked", "broke/right", "mended", "failure % [95 %]", "< 1 %", "points [95 %]", "p", "MDD")
NOTE = (
    "asked: questions that the perturbation applies to. broke/right: wrong perturbed, of those right clean; mended: "
    "the other way. failure: broke of right, Wilson interval; < 1 %: pass if the whole interval is below, fail if "
    "none of it is, else not shown (0 of 381 is the least that passes). points: perturbed minus clean, Newcombe; p: "
    "McNemar, Holm; MDD: where p is 0.05 or more, the true difference in points found with a chance of 80 %. numbers "
    "asks other questions, so what breaks there includes ordinary errors."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """One perturbation. asked: perturbed questions; left_out: reason -> questions that were not asked. rate: of the
    questions that are right clean and decided both times; None if there is none. test: perturbed minus clean."""

    name: str
    asked: int
    left_out: dict[str, int]
    right_clean: int
    broke: int
    mended: int
    rate: Estimate | None
    judgement: Judgement
    test: PairedTest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of one perturbation: the outcomes by the id of the clean question, and why others were not asked."""

    name: str
    outcomes: Outcomes
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Accuracy on n_other questions minus that on n_clean clean ones, in [-1, 1], unpaired.

    detectable: the true drop, positive, found at 0.05 with a chance of 80 %; None where the interval leaves 0 out, and
    if no drop could be found. n_clean, n_other and detectable are None in older reports, n counts both.
    """

    value: float
    low: float
    high: float
    n: int
    n_clean: int | None = None
    n_other: int | None = None
    detectable: float | None = None


def table(clean: Outcomes, asked: Sequence[Asked]) -> list[Failures]:
    """A row for each perturbation; one family of tests."""
    rows = [_row(clean, found) for found in asked]
    return [replace(row, test=test) for row, test in zip(rows, in_family([row.test for row in rows]), strict=True)]


def _row(clean: Outcomes, asked: Asked) -> Failures:
    both = [
        (clean[key], found) for key, found in asked.outcomes.items() if clean[key] is not None and found is not None
    ]
    right_clean = sum(before is True for before, _ in both)
    broke = sum(before is True and after is False for before, after in both)
    rate = share(broke, right_clean) if right_clean else None
    return Failures(
        name=asked.name,
        asked=len(asked.outcomes),
        left_out=asked.left_out,
        right_clean=right_clean,
        broke=broke,
        mended=sum(before is False and after is True for before, after in both),
        rate=rate,
        judgement=judge(rate),
        test=paired_or_none(asked.outcomes, clean),
    )


def judge(rate: Estimate | None) -> Judgement:
    """Whether a failure rate is shown to be below the gate, or at or above it."""
    return "not shown" if rate is None else below(GATE, low=rate.low, high=rate.high)


def drop(clean: Outcomes, other: Outcomes) -> Drop:
    """Accuracy on other questions (out of distribution) against that on clean ones: Newcombe's interval."""
    there, here = (share(sum(found is True for found in part.values()), len(part)) for part in (other, clean))
    found = unpaired(there, here)
    return Drop(
        value=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        n_clean=here.n,
        n_other=there.n,
        detectable=detectable_drop(here.value, here.n, there.n) if found.low <= 0 <= found.high else None,
    )


def from_json(data: Sequence[Mapping[str, Any]]) -> list[Failures]:
    """The rows of evaluation.json."""
    return [
        Failures(
            **{
                **row,
                "rate": Estimate(**row["rate"]) if row["rate"] else None,
                "test": PairedTest(**row["test"]) if row["test"] else None,
            }
        )
        for row in data
    ]


def drop_text(found: Drop) -> str:
    """The drop in one line."""
    value, low, high = (100 * number for number in (found.value, found.low, found.high))
    if found.n_other is None:
        asked = f"{found.n} questions in all"
    else:
        asked = f"{found.n_other} questions against {found.n_clean}"
    detectable = "" if found.detectable is None else f"; MDD {100 * found.detectable:.1f}"
    return (
        f"{value:+.1f} points [{low:+.1f}, {high:+.1f}] against the clean questions "
        f"(unpaired, Newcombe; {asked}{detectable})"
    )


def page_table(rows: Sequence[Failures]) -> page.Table:
    """The table for a page, with what explains it."""
    return page.Table(headers=COLUMNS, rows=[_cells(row) for row in rows], note=NOTE)


def render_text(rows: Sequence[Failures]) -> str:
    """The table, what was left out and why, and a note, for a terminal."""
    console = terminal.page()
    console.width = _WIDTH
    made = terminal.table(*COLUMNS)
    for row in rows:
        terminal.add_row(made, *_cells(row))
    console.print(made)
    for line in left_out(rows):
        console.print(line)
    console.print(NOTE)
    return terminal.text(console)


def render_markdown(rows: Sequence[Failures]) -> str:
    """The same as Markdown."""
    parts = [markdown.table(COLUMNS, [_cells(row) for row in rows], left=1), *left_out(rows), NOTE]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _cells(row: Failures) -> tuple[str, ...]:
    *_, points, _, p_holm, detectable = test_cells(row.test)
    return (
        row.name,
        str(row.asked),
        f"{row.broke}/{row.right_clean}",
        str(row.mended),
        terminal.share(row.broke, row.right_clean),
        row.judgement,
        points,
        p_holm,
        detectable,
    )


def left_out(rows: Sequence[Failures]) -> list[str]:
    """A line for each perturbation and reason why questions were not asked."""
    lines = []
    for row in rows:
        for reason, count in row.left_out.items():
            lines.append(f"{row.name} ({PERTURBATIONS[row.name].what}): {count} not asked, {reason}")
    return lines
