"""The figures of a data card as SVG for a page: text stays text, and takes the page's colour, light or dark."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

from agentark_core.dynamics import Dynamics, Share

BLUE, ORANGE = "#2E8BC0", "#D55E00"  # both at least 3 : 1 on white and on black
_PAGE = "#010203"
"""Drawn instead of black; becomes `currentColor`."""


def lengths(by_kind: Mapping[str, Mapping[str, int]]) -> str:
    """Bars: rows by the length of their text. by_kind: rows by the highest length of their bin, in characters."""
    tops = sorted({int(top) for bins in by_kind.values() for top in bins})
    label = "Bar chart of rows by length in characters. " + " ".join(
        f"{kind}: most rows, {max(bins.values()):,}, have {span(max(bins, key=lambda top: bins[top]))}."
        for kind, bins in by_kind.items()
        if bins
    )
    with _style("lengths"):
        figure, (axes,) = _panels(1)
        width = 0.8 / len(by_kind)
        for index, (kind, bins) in enumerate(by_kind.items()):
            places = [place + width * (index - (len(by_kind) - 1) / 2) for place in range(len(tops))]
            heights = [bins.get(str(top), 0) for top in tops]
            axes.bar(places, heights, width=width * 0.95, color=(BLUE, ORANGE)[index % 2], label=kind)
        axes.set_xticks(range(len(tops)), [span(str(top)) for top in tops])
        axes.set_xlabel("length of what is learned, in characters")
        axes.set_ylabel("rows")
        axes.legend(frameon=False)
        return _svg(figure, name="lengths", label=label)


def span(top: str) -> str:
    """The lengths in one bin: "255" holds 128 to 255 characters."""
    return f"{(int(top) + 1) // 2}–{top}"


def flips(found: Dynamics) -> str:
    """Points with 95 % intervals: the share of wrong agents that turn right and of right ones that turn wrong."""
    panels = (
        ("round in which they wrote again", found.to_right_in, found.to_wrong_in),
        ("right peers", found.to_right, found.to_wrong),
    )
    label = "Two charts of the share of agents that change, with 95 % intervals. " + " ".join(
        f"By {what}: {name} {', '.join(f'{100 * s.share:.0f} % at {key}' for key, s in shares.items()) or 'none'}."
        for what, right, wrong in panels
        for name, shares in (("wrong to right", right), ("right to wrong", wrong))
    )
    with _style("flips"):
        figure, axes = _panels(2)
        for panel, (what, right, wrong) in zip(axes, panels, strict=True):
            _points(panel, right, colour=BLUE, marker="o", offset=-0.08, label="wrong agent turns right")
            _points(panel, wrong, colour=ORANGE, marker="s", offset=0.08, label="right agent turns wrong")
            places = sorted({*right, *wrong})
            panel.set_xticks(places)
            panel.set_xlim(places[0] - 0.5, places[-1] + 0.5)
            panel.set_xlabel(what)
            panel.set_ylim(-4, 104)
        axes[0].set_ylabel("agents that change, % [95 %]")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
        return _svg(figure, name="flips", label=label)


def _points(axes: Any, shares: Mapping[int, Share], *, colour: str, marker: str, offset: float, label: str) -> None:
    values = [100 * share.share for share in shares.values()]
    axes.errorbar(
        [key + offset for key in shares],
        values,
        yerr=[
            [value - 100 * share.low for value, share in zip(values, shares.values(), strict=True)],
            [100 * share.high - value for value, share in zip(values, shares.values(), strict=True)],
        ],
        fmt=marker,
        color=colour,
        capsize=4,
        label=label,
    )


def _style(name: str) -> AbstractContextManager[None]:
    """Lines and text in the page's colour; the same drawing has the same ids."""
    from matplotlib import rc_context

    colours = {f"{what}.color": _PAGE for what in ("text", "xtick", "ytick")}
    colours |= {f"axes.{what}color": _PAGE for what in ("edge", "label")}
    shape = {"svg.fonttype": "none", "svg.hashsalt": name, "axes.spines.top": False, "axes.spines.right": False}
    style: AbstractContextManager[None] = rc_context(colours | shape)
    return style


def _panels(number: int) -> tuple[Any, Any]:
    """A figure and its axes, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots(1, number, squeeze=False, sharey=True)[0]
    for one in axes:
        one.grid(visible=True, axis="y", alpha=0.25, color=_PAGE)
        one.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, *, name: str, label: str) -> str:
    """The figure as an element of a page. name sets its ids apart from those of the page's other figures."""
    stream = StringIO()
    unstated = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # a date would make every card another one
    figure.savefig(stream, format="svg", transparent=True, metadata=unstated)
    drawn = stream.getvalue().replace(_PAGE, "currentColor")
    drawn = re.sub(r'( id="|"#|url\(#)', rf"\g<1>{name}-", drawn[drawn.index("<svg") :])
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
