"""Figures as SVG for a page: text stays text, takes the page's colour, light or dark, and is named for those who do not
see it."""

from __future__ import annotations

import html
import re
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

from agentark_core.terminal import safe

BLUE, ORANGE, GREEN = "#2E8BC0", "#D55E00", "#009E73"  # each at least 3 : 1 on white and on black
PAGE = "#010203"
"""Drawn instead of black; becomes `currentColor`."""


def style(key: str) -> AbstractContextManager[None]:
    """Lines and text in the page's colour; the same drawing has the same ids."""
    from matplotlib import rc_context

    colours = {f"{what}.color": PAGE for what in ("text", "xtick", "ytick")}
    colours |= {f"axes.{what}color": PAGE for what in ("edge", "label")}
    shape: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": key,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    shape |= {"text.parse_math": False}  # a name with two dollar signs stays one
    context: AbstractContextManager[None] = rc_context(colours | shape)
    return context


def panels(number: int, *, height: float = 3.6) -> tuple[Any, Any]:
    """A figure of 8 inches by height and its axes, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots(1, number, squeeze=False, sharey=True)[0]
    for one in axes:
        one.grid(visible=True, axis="y", alpha=0.25, color=PAGE)
        one.set_axisbelow(True)
    return figure, axes


def log_scale(axes: Any) -> None:
    """A log scale of x with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def name(text: str) -> str:
    """A name of the user's as it is drawn: one line, not too long."""
    line = safe(" ".join(text.split()))
    return line if len(line) <= 48 else f"{line[:47]}…"


def svg(figure: Any, *, key: str, label: str) -> str:
    """The figure as an element of a page. key sets its ids apart from those of the page's other figures."""
    stream = StringIO()
    unstated = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # a date would make every card another one
    figure.savefig(stream, format="svg", transparent=True, metadata=unstated)
    drawn = stream.getvalue().replace(PAGE, "currentColor")
    drawn = re.sub(r'( id="|"#|url\(#)', rf"\g<1>{key}-", drawn[drawn.index("<svg") :])
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(safe(label))}" ', 1)
