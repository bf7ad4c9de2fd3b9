"""The files of a report: report.html, report.md and, where the debates fill more than one page, report-2.html, ..."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from itertools import chain, pairwise
from pathlib import Path

from markupsafe import Markup

from agentark_core import page
from agentark_core.ledger import atomic_write_text
from agentark_core.page import Section
from agentark_core.report import viewer_data
from agentark_core.report.gather import Facts, folder
from agentark_core.report.sections import sections
from agentark_core.report.verdict import Verdict, verdict
from agentark_core.report.viewer_data import PageData
from agentark_core.terminal import safe


def write(facts: Facts) -> list[Path]:
    """Write the report of a run, in place of an earlier one; returns its files, report.html first."""
    out = folder(facts.home, facts.name)
    said, shown = verdict(facts), list(sections(facts))
    paths = [out / "report.html", out / "report.md"]
    atomic_write_text(paths[1], render_markdown(facts, said, shown))
    for number, (data, following) in enumerate(_with_next(viewer_data.pages(facts)), start=1):
        path = paths[0] if number == 1 else out / f"report-{number}.html"
        text = render_html(
            facts, said if number == 1 else None, shown if number == 1 else [], data, number=number, more=following
        )
        atomic_write_text(path, text)
        paths += [path] if number > 1 else []
    for old in set(out.glob("report-*.html")) - set(paths):
        old.unlink()
    return paths


def render_verdict(facts: Facts) -> str:
    """The verdict alone, as Markdown."""
    said = verdict(facts)
    return page.render_markdown(_title(facts), [Section(title="Verdict", points=[said.headline, *said.reasons])])


def render_text(facts: Facts) -> str:
    """The verdict alone, for a terminal."""
    said = verdict(facts)
    parts = [said.headline, *(f"- {reason}" for reason in said.reasons), *(f"Missing: {part}" for part in said.missing)]
    return safe("\n".join(parts))


def render_markdown(facts: Facts, said: Verdict, shown: list[Section]) -> str:
    """The verdict and all sections; the debates are in the HTML."""
    lead = Section(title="Verdict", points=[said.headline, *said.reasons])
    missing = [Section(title="Not in this report", points=said.missing)] if said.missing else []
    return page.render_markdown(_title(facts), [lead, *shown, *missing])


def render_html(
    facts: Facts, said: Verdict | None, shown: list[Section], data: PageData, *, number: int, more: bool
) -> str:
    """One page: number 1 begins with the verdict and the sections; more: another page follows."""
    script, css = (
        files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("viewer.js", "viewer.css")
    )
    return page.render_html(
        _title(facts),
        shown,
        template="report/report.html.jinja",
        verdict=said,
        data=data,
        titles=[f"{one.title}, {one.fingerprint}" for one in facts.sets],
        total=sum(min(one.questions, viewer_data.SHOWN) for one in facts.sets),
        cut=any(one.questions > viewer_data.SHOWN for one in facts.sets),
        limit=viewer_data.SHOWN,
        before="" if number == 1 else "report.html" if number == 2 else f"report-{number - 1}.html",
        after=f"report-{number + 1}.html" if more else "",
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        css=Markup(css),
    )


def _title(facts: Facts) -> str:
    return f"Report of {facts.name}"


def _with_next(pages: Iterator[PageData]) -> Iterator[tuple[PageData, bool]]:
    """Every page, and whether another one follows."""
    for data, following in pairwise(chain(pages, [None])):
        assert data is not None
        yield data, following is not None
