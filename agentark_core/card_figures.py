"""The figures of a data card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentark_core.dynamics import Dynamics, Share
from agentark_core.figures import BLUE, ORANGE, panels, style, svg


def lengths(by_kind: Mapping[str, Mapping[str, int]]) -> str:
    """Bars: rows by the length of their text. by_kind: rows by the highest length of their bin, in characters."""
    tops = sorted({int(top) for bins in by_kind.values() for top in bins})
    label = "Bar chart of rows by length in characters. " + " ".join(
        f"{kind}: most rows, {max(bins.values()):,}, have {span(max(bins, key=lambda top: bins[top]))}."
        for kind, bins in by_kind.items()
        if bins
    )
    with style("lengths"):
        figure, (axes,) = panels(1)
        width = 0.8 / len(by_kind)
        for index, (kind, bins) in enumerate(by_kind.items()):
            places = [place + width * (index - (len(by_kind) - 1) / 2) for place in range(len(tops))]
            heights = [bins.get(str(top), 0) for top in tops]
            axes.bar(places, heights, width=width * 0.95, color=(BLUE, ORANGE)[index % 2], label=kind)
        axes.set_xticks(range(len(tops)), [span(str(top)) for top in tops])
        axes.set_xlabel("length of what is learned, in characters")
        axes.set_ylabel("rows")
        axes.legend(frameon=False)
        return svg(figure, key="lengths", label=label)


def span(top: str) -> str:
    """The lengths in one bin: "255" holds 128 to 255 characters."""
    return f"{(int(top) + 1) // 2}–{top}"


def flips(found: Dynamics, *, name: str = "flips") -> str:
    """Points with 95 % intervals: the share of wrong agents that turn right and of right ones that turn wrong."""
    halves = (
        ("round in which they wrote again", found.to_right_in, found.to_wrong_in),
        ("right peers", found.to_right, found.to_wrong),
    )
    label = "Two charts of the share of agents that change, with 95 % intervals. " + " ".join(
        f"By {what}: {change} {', '.join(f'{100 * s.share:.0f} % at {key}' for key, s in shares.items()) or 'none'}."
        for what, right, wrong in halves
        for change, shares in (("wrong to right", right), ("right to wrong", wrong))
    )
    with style(name):
        figure, axes = panels(2)
        for panel, (what, right, wrong) in zip(axes, halves, strict=True):
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
        return svg(figure, key=name, label=label)


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
