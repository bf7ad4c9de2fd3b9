"""Pages of sections, as Markdown and as one HTML file that needs no network: data cards and reports.

Text of models and data is shown, never obeyed: escaped for its format, with control and direction characters spelled
out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from agentark_core.markdown import fenced, inline, table
from agentark_core.terminal import safe

SHOWN = 1_500
"""Characters of a text that are shown, from its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row: what it is, and its texts by what they are."""

    name: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells of plain text, the first `left` columns aligned left, and our own words about them."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What there is to see: figures for HTML, a sketch of them in characters for Markdown; points are a list of plain
    text, note is our own words."""

    title: str
    points: Sequence[str] = ()
    figures: Sequence[str] = ()
    sketch: str = ""
    tables: Sequence[Table] = ()
    note: str = ""
    samples: Sequence[Sample] = ()


def render_markdown(title: str, sections: Sequence[Section]) -> str:
    """GitHub Markdown."""
    return f"# {inline(title)}\n\n{render_sections(sections)}"


def render_sections(sections: Sequence[Section]) -> str:
    """The same without the title."""
    parts = []
    for section in sections:
        parts.append(f"## {inline(section.title)}")
        parts.append("\n".join(f"- {inline(point, limit=1_000)}" for point in section.points))
        if section.sketch:
            parts.append(fenced(section.sketch))
        for shown in section.tables:
            headers, *rows = ([_cell(cell) for cell in cells] for cells in (shown.headers, *shown.rows))
            parts += [table(headers, rows, left=shown.left).strip(), shown.note]
        parts.append(section.note)
        for sample in section.samples:
            parts.append(f"### {inline(sample.name)}")
            parts += [f"{inline(what)}{_cut(text)}\n\n{fenced(text[:SHOWN])}" for what, text in sample.texts.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_html(title: str, sections: Sequence[Section], *, template: str = "page.html.jinja", **more: Any) -> str:
    """One page for any browser: no network, light and dark. more: what the template asks for besides."""
    environment = Environment(
        loader=PackageLoader("agentark_core", "."),
        autoescape=select_autoescape(["jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"safe_text": safe, "cut": _cut, "figure": Markup}
    return environment.get_template(template).render(title=title, sections=sections, shown=SHOWN, **more)


def _cell(text: str) -> str:
    """Numbers and intervals as they are, anything else escaped."""
    return text if re.fullmatch(r"[-+0-9., /%\[\]]*", text) else inline(text)


def _cut(text: str) -> str:
    return f" (first {SHOWN:,} of {len(text):,} characters)" if len(text) > SHOWN else ""
