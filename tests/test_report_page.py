"""The page of a report: hostile text stays text, nothing is fetched, and readers find what they look for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, browser
from debate_helpers import RUN
from report_home import DEBATES, make_report_home
from test_card import HOSTILE, Page

from agentark_core.page import Section, render_markdown
from agentark_core.report import write
from agentark_core.report.gather import gather
from agentark_core.report.sections import sections
from agentark_core.report.verdict import verdict
from agentark_core.terminal import safe

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def page(home: Path) -> Path:
    return write.write(gather(home, "first"))[0]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def show(
    tab: Browser, page: Path, *, width: int = 1280, height: int = 900, theme: str = "light", kind: str = ""
) -> None:
    tab.size(width, height)
    tab.media(theme=theme, kind=kind)
    tab.open(page.as_uri(), ready="document.documentElement?.dataset.ready === 'true'")


# ---- hostile text


def test_only_our_script_may_run_and_hostile_text_is_text(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert not {"img", "iframe", "textarea", "object", "base"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name == "src"]
    assert all(value.startswith("#") for name, value in parsed.attributes if name in ("href", "xlink:href"))
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)
    assert [attributes for attributes, _ in scripts if "application/octet-stream" not in attributes] == [""]
    digest = base64.b64encode(hashlib.sha256(scripts[-1][1].encode()).digest()).decode()
    assert f"form-action 'none'; script-src 'sha256-{digest}'; require-trusted-types-for 'script'\">" in text
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none';" in text
    for attributes, packed in scripts[:-1]:
        assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed), attributes
    assert safe(HOSTILE) in "".join(parsed.texts)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)


def test_hostile_text_stays_text_in_markdown(home: Path) -> None:
    from markdown_it import MarkdownIt

    facts = gather(home, "first")
    text = write.render_markdown(facts, verdict(facts), list(sections(facts)))
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    kinds = {token.type for block in tokens for token in [block, *(block.children or [])]}
    assert not {"html_block", "html_inline", "link_open", "image", "softbreak_html", "code_inline", "em_open"} & kinds
    assert render_markdown("a", [Section(title="b", points=["<b> `x`"])]).endswith("- \\<b\\> \\`x\\`\n")


@needs_browser
def test_no_script_of_a_trace_runs_and_nothing_is_fetched(tab: Browser, page: Path) -> None:
    show(tab, page)
    seen = ""
    for number in range(4):
        tab.eval(f"document.querySelectorAll('#list button')[{number}].click()")
        tab.wait(f"document.querySelectorAll('#list button')[{number}].hasAttribute('aria-current')")
        tab.eval("[...document.querySelectorAll('#debate button')].find((b) => b.textContent === 'All traces').click()")
        seen += tab.eval("document.getElementById('debate').textContent")
    assert safe(HOSTILE) in seen and seen.count("owned") > 20
    assert tab.eval("document.title") == "Report of first"
    assert tab.eval("document.querySelectorAll('#debate img, #debate a, #debate script, #debate iframe').length") == 0
    assert tab.requests == [page.as_uri()]
    assert tab.complaints == []


@needs_browser
def test_a_script_that_got_into_the_page_would_not_run(tab: Browser, page: Path, tmp_path: Path) -> None:
    smuggled = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{smuggled}</main>"), encoding="utf-8")
    show(tab, broken)
    assert tab.eval("document.title") == "Report of first"
    assert len(tab.complaints) >= 2  # the browser says what it blocked


@needs_browser
def test_a_hostile_name_of_a_run_is_text(tab: Browser, home: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title='owned'>$x$"
    (tmp_path / "ledger").symlink_to(home / "ledger")
    for run in (name, "other"):
        folder = tmp_path / "reports" / run
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_bytes((home / "reports" / "first" / "evaluation.json").read_bytes())
    show(tab, write.write(gather(tmp_path, name))[0])
    assert tab.eval("document.title") == f"Report of {name}"
    assert tab.eval("document.images.length") == 0


# ---- reading it


@needs_browser
def test_filters_and_search_find_the_debates(tab: Browser, home: Path) -> None:
    show(tab, write.write(gather(home, RUN))[0])

    def choose(**values: str) -> list[str]:
        tab.eval("document.querySelector('form').reset()")
        for name, value in values.items():
            tab.eval(f"document.getElementById('{name}').value = {json.dumps(value)}")
        tab.eval("document.getElementById('filters').requestSubmit()")
        tab.eval("new Promise((done) => setTimeout(done, 100))")
        found: list[str] = tab.eval("[...document.querySelectorAll('#list button')].map((b) => b.dataset.place)")
        return found

    assert choose() == ["0", "1", "2", "3"]
    assert choose(outcome="c") == ["0", "3"]
    assert choose(flips="right") == ["0"] and choose(flips="wrong") == ["1", "2"] and choose(flips="none") == ["3"]
    assert choose(agreement="all") == ["3"] and choose(agreement="joined") == ["0"]
    assert choose(search="BOXED{9}") == ["3"] and choose(search="=cmd|") == ["0", "1"]
    assert choose(search="nowhere") == []
    assert tab.eval("document.getElementById('count').textContent").startswith("0 of 4 debates")


@needs_browser
def test_the_viewer_works_with_the_keyboard_alone(tab: Browser, page: Path) -> None:
    show(tab, page)
    tab.eval("document.getElementById('agreement').focus()")
    for _ in range(2):  # the button Clear, then the list, which is one stop
        tab.press("Tab", code=9)
    assert tab.eval("document.activeElement.dataset.place") == "0"
    tab.press("ArrowDown", code=40)
    tab.press("ArrowDown", code=40)
    tab.press("ArrowUp", code=38)
    assert tab.eval("document.activeElement.dataset.place") == "1"
    tab.press("Enter", code=13, text="\r")
    tab.wait("document.activeElement.id === 'debate'")
    assert tab.eval("document.getElementById('debate-title').textContent") == "Question t-0000000000000001"
    assert tab.eval("location.hash").startswith("#debate-w-t-0000000000000001")
    for _ in range(2):
        tab.press("Tab", code=9)
    assert tab.eval("document.activeElement.textContent") == "Next →"
    assert tab.eval("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@needs_browser
def test_a_link_opens_its_debate(tab: Browser, page: Path) -> None:
    tab.size(1280, 900)
    tab.open(f"{page.as_uri()}#debate-{DEBATES[2].work_id}", ready="document.documentElement?.dataset.ready === 'true'")
    assert tab.eval("document.getElementById('debate-title').textContent") == "Question t-0000000000000002"


@needs_browser
def test_a_flip_shows_the_traces_before_and_after_and_the_one_followed(tab: Browser, page: Path) -> None:
    show(tab, page)
    titles = tab.eval("[...document.querySelectorAll('.story h5')].map((title) => title.textContent)")
    assert titles == [
        "Before the flip: agent 1, round 1",
        "The trace that likely caused it: agent 2, round 1",
        "After the flip: agent 1, round 2",
    ]
    assert tab.eval("document.querySelectorAll('.story meter').length") > 0


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_scrolls_only_down(tab: Browser, page: Path, width: int) -> None:
    show(tab, page, width=width, height=800)
    tab.eval("[...document.querySelectorAll('#debate button')].find((b) => b.textContent === 'All traces').click()")
    assert tab.eval("document.documentElement.scrollWidth") <= width


CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  const shown = ["p", "td", "th", "a", ".headline", ".about", ".answer.c", ".answer.i", "pre", "select", "h1"];
  for (const selector of shown) {
    const element = document.querySelector(selector), layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
    const [a, b] = [light(paint(...layers)), light(paint(...layers, getComputedStyle(element).color))].sort();
    found[selector] = (b + 0.05) / (a + 0.05);
  }
  return found;
})()
"""


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_in_both_themes(tab: Browser, page: Path, theme: str) -> None:
    show(tab, page, theme=theme)
    contrast = tab.eval(CONTRAST)
    assert len(contrast) == 11 and min(contrast.values()) >= 4.5, contrast
    dark = tab.eval("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (theme == "dark")


@needs_browser
def test_everything_has_a_name_for_a_screen_reader(tab: Browser, page: Path) -> None:
    show(tab, page)
    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    roles = (
        "button",
        "searchbox",
        "combobox",
        "image",
        "img",
        "link",
        "region",
        "search",
        "heading",
        "meter",
        "article",
    )
    assert {role for role, name in named if role in roles and not name} == set()
    counted = {role: sum(1 for one, _ in named if one == role) for role in ("button", "combobox", "searchbox")}
    assert counted["searchbox"] == 1 and counted["combobox"] >= 3 and counted["button"] > 8
    figures = [name for role, name in named if role in ("image", "img")]
    assert any("distilled student greedy: 50.0 % at 40 tokens" in name for name in figures)
    assert tab.eval("document.documentElement.lang") == "en"


@needs_browser
def test_print_holds_the_figures_and_leaves_the_controls_out(tab: Browser, page: Path) -> None:
    show(tab, page, width=720, kind="print")
    for selector in ("nav", "#filters", ".list", ".steps-between"):
        assert tab.eval(f"getComputedStyle(document.querySelector('{selector}')).display") == "none"
    assert tab.eval("document.querySelectorAll('figure svg').length") >= 3
    assert tab.eval("document.documentElement.scrollWidth") <= 720
    assert tab.pdf().startswith(b"%PDF")
