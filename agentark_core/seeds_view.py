"""Arms over their seeds for the eye: a table of their means, and one of paired differences.

Every arm is set against the base, and chosen pairs against each other, by question; seed and question variance are kept
apart (seeds.py). Two arms of one seed each are not compared: nothing is known of their seeds. p-values have Holm's
correction over all differences; one that is not significant has the detectable difference beside it, for a single test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
