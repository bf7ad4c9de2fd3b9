"""A data card as Markdown and as one HTML page without scripts or links: the same sections in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agentark_core import card_figures, page, yields
from agentark_core.card import Card
from agentark_core.dynamics import Share
from agentark_core.ledger import atomic_write_text
from agentark_core.page import Section, Table

_BAR = 30


def write(card: Card, folder: Path) -> list[Path]:
    """card.md and card.html in folder, each replaced at once."""
    paths = [folder / "card.md", folder / "card.html"]
    for path, text in zip(paths, (render_markdown(card), render_html(card)), strict=True):
        atomic_write_text(path, text)
    return paths


def render_markdown(card: Card) -> str:
    """GitHub Markdown."""
    return page.render_markdown(_title(card), list(sections(card)))


def render_html(card: Card) -> str:
    """One page for any browser: no network, no script, light and dark."""
    return page.render_html(_title(card), list(sections(card)))


def sections(card: Card) -> Iterator[Section]:
    """Everything that a card shows, in order."""
    origin = Table(headers=("what", "value"), rows=[*card.origin.items()], left=2)
    yield Section(title="Where it comes from", tables=[origin])
    yield Section(
        title="Yield",
        tables=[
            Table(headers=yields.COLUMNS, rows=[yields.cells(row) for row in card.yields], left=3, note=yields.NOTE),
            Table(headers=yields.PAPER_COLUMNS, rows=yields.PAPER, note=yields.PAPER_NOTE),
        ],
    )
    yield Section(
        title="What became of everything",
        tables=[Table(headers=("what went in", "what came out", "number", "share, %"), rows=[*_fates(card)], left=2)],
        note="The parts of each sum to what went in; they are checked whenever a card is written.",
    )
    yield _changes(card)
    yield _lengths(card)
    for kind, samples in card.samples.items():
        yield Section(
            title=f"Rows of {kind}",
            note=f"{len(samples)} of {card.totals[kind]['rows']:,}, drawn with a fixed seed.",
            samples=samples,
        )
    yield Section(
        title="Files",
        tables=[
            Table(
                headers=("kind", "folder in the ledger", "digest of what is committed"),
                rows=[(kind, folder, digest) for kind, (folder, digest) in card.folders.items()],
                left=3,
            )
        ],
    )


def _title(card: Card) -> str:
    return f"Data card: what was learned from {card.dataset}, debates {card.run}"


def _fates(card: Card) -> Iterator[tuple[str, str, str, str]]:
    for what, parts in card.fates.items():
        whole = sum(parts.values())
        for part, number in parts.items():
            yield what, part, f"{number:,}", f"{100 * number / whole:.1f}"
        yield what, "all", f"{whole:,}", "100.0" if whole else "-"


def _changes(card: Card) -> Section:
    found = card.dynamics
    shown = (
        ("wrong agent turns right, by round", found.to_right_in),
        ("right agent turns wrong, by round", found.to_wrong_in),
        ("wrong agent turns right, by right peers", found.to_right),
        ("right agent turns wrong, by right peers", found.to_wrong),
        ("right minority of round 1 wins the last vote, by its size", found.minority),
    )
    rows = [(what, str(at), *_share(share)) for what, shares in shown for at, share in shares.items()]
    if not rows:
        return Section(title="What the debates changed", note="Nothing to see: no debate has two decided rounds.")
    counts = card.totals["trajectories"]["counts"]
    return Section(
        title="What the debates changed",
        figures=[card_figures.flips(found)],
        tables=[Table(headers=("what", "at", "share, % [95 %]", "changed", "of", "questions"), rows=rows)],
        note=(
            f"{counts['to_right']:,} flips to right and {counts['to_wrong']:,} to wrong are kept as trajectories, "
            f"{counts['followed']:,} of them following a peer with the new answer. The table counts agents between "
            "consecutive rounds with decided solutions; the intervals take questions as the unit, because the agents "
            "of one question are not independent."
        ),
    )


def _share(share: Share) -> tuple[str, str, str, str]:
    interval = f"{100 * share.share:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
    return interval, f"{share.k:,}", f"{share.n:,}", f"{share.questions:,}"


def _lengths(card: Card) -> Section:
    by_kind: dict[str, dict[str, int]] = {k: total["lengths"] for k, total in card.totals.items() if total["lengths"]}
    if not by_kind:
        return Section(title="Lengths", note="No row has a text to learn.")
    tops = sorted({top for bins in by_kind.values() for top in bins}, key=int)
    rows = [(card_figures.span(top), *(f"{bins.get(top, 0):,}" for bins in by_kind.values())) for top in tops]
    return Section(
        title="Lengths",
        figures=[card_figures.lengths(by_kind)],
        sketch="\n\n".join(_bars(kind, by_kind[kind], tops=tops) for kind in by_kind),
        tables=[Table(headers=("characters", *(f"rows of {kind}" for kind in by_kind)), rows=rows)],
    )


def _bars(kind: str, bins: Mapping[str, int], *, tops: Sequence[str]) -> str:
    most, numbers = max(bins.values()), [(top, bins.get(top, 0)) for top in tops]
    return "\n".join(
        [kind, *(f"{card_figures.span(top):>12} {'█' * round(_BAR * n / most)} {n:,}" for top, n in numbers)]
    )
