"""Data cards of a real extraction: figures that add up, hostile text that stays text, and growth in place."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from debate_helpers import QUESTIONS, RUN, commit_debates, make_debate, make_home, put, verify
from markdown_it import MarkdownIt

from agentark_core import card, card_view, extraction, question_filter, yields
from agentark_core.config import ExamplesConfig, ProblemsConfig
from agentark_core.dynamics import dynamics
from agentark_core.errors import ConfigError, CorruptData, DataError
from agentark_core.extraction import KINDS, ExtractJob
from agentark_core.ledger import Store
from agentark_core.problems import licence_of, state_licence
from agentark_core.records import debates_to_table
from agentark_core.shards import shard_meta
from agentark_core.sources import LICENCES
from agentark_core.stored import read_debates, read_verdicts
from agentark_core.terminal import safe
from agentark_core.types import Debate
from tasks.trace_tasks import load_problems

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> [a](javascript:alert(1)) "
    "![b](https://example.com/b.png) <https://example.com> </pre></textarea> ``` ~~~ | a | {{ 7 * 7 }} \u202eright to "
    "left \x1b[31mred\x1b[0m\r\n````\n# heading\n=cmd|' /C calc'!A0"
)


def hostile(debate: Debate) -> Debate:
    """The same answers in hostile words."""
    turns = tuple(dataclasses.replace(turn, text=f"{HOSTILE}\n{turn.text}") for turn in debate.turns)
    problem = dataclasses.replace(debate.problem, question=f"{HOSTILE} {debate.problem.question}")
    return dataclasses.replace(debate, problem=problem, turns=turns, stop_reason=HOSTILE[:150])


DEBATES = [
    hostile(make_debate(0, [[5, 7, 7], [7, 7, 7]], gold=7)),
    hostile(make_debate(1, [[1, 2, 3], [1, 1, 4]], gold=4)),
    make_debate(2, [[2, 3, 3], [3, 3, None]], gold=2),
    make_debate(3, [[9, 9, 9]], gold=9, stop_reason="consensus"),
]


def extract(home: Path) -> ExtractJob:
    dropped = question_filter.dropped_questions(home, runs=[RUN], tests=[])
    job = ExtractJob(home=home, debates=RUN, dropped=dropped.fingerprint, config=ExamplesConfig(), wording="general")
    for shard in job.missing():
        extraction.extract_shard(job, shard)
    return job


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> ExtractJob:
    """Two shards, of which the first is hostile; not to be changed."""
    home = tmp_path_factory.mktemp("home")
    store = make_home(home, [d.problem for d in DEBATES[:2]], [d.problem for d in DEBATES[2:]])
    for shard, debates in (("00000", DEBATES[:2]), ("00001", DEBATES[2:])):
        commit_debates(store, shard, debates)
        verify(home, shard, debates)
    return extract(home)


@pytest.fixture
def job(extracted: ExtractJob, tmp_path: Path) -> ExtractJob:
    """A copy to change."""
    shutil.copytree(extracted.home, tmp_path / "home")
    return dataclasses.replace(extracted, home=tmp_path / "home")


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_what_went_in_is_the_sum_of_what_came_out_and_each_row_is_in_the_yield(extracted: ExtractJob) -> None:
    made = card.describe(extracted)
    sums = {what: sum(parts.values()) for what, parts in made.fates.items()}
    assert sums["turns, by status"] == sums["turns, by verdict"] == 21
    assert sums["questions"] == sums["debates, by how they ended"] == sums["prompts: questions"] == 4
    assert (sums["rsft: candidates"], sums["augmentation: candidates"], sums["process: candidates"]) == (12, 12, 21)
    assert made.fates["prompts: questions"] == {"all right": 1, "split": 2, "none right": 1}
    rows = {row["kind"]: row for row in made.yields}
    assert rows["rsft"]["candidates"] == 12 and rows["rsft"]["rows a question"] == made.totals["rsft"]["rows"] / 4
    assert "906k" in yields.render_markdown(made.yields) and "44,838" in yields.render_text(made.yields)


def test_sums_that_differ_between_stages_are_refused(tmp_path: Path) -> None:
    store = make_home(tmp_path, [DEBATES[2].problem])
    meta = {**shard_meta(DEBATES[2:3], replayed=0, seconds=1.0, plan=None), "questions": 5}
    put(store, "00000", debates_to_table(DEBATES[2:3]), meta)
    verify(tmp_path, "00000", DEBATES[2:3])
    with pytest.raises(CorruptData, match="rsft: questions kept and left out are 1, expected 5"):
        card.describe(extract(tmp_path))


def test_a_shard_whose_verdicts_are_gone_is_named(job: ExtractJob) -> None:
    (job.verdicts.root / "manifest" / "00001.json").unlink()
    with pytest.raises(DataError, match="shard 00001 was extracted"):
        card.describe(job)


def test_counts_that_lose_a_row_are_refused(job: ExtractJob, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        (job.store(kind).root / "manifest" / "00001.json").unlink()
    build = extraction._BUILD["trajectories"]

    def lose(*given: Any) -> Any:
        table, counts = build(*given)
        return table.slice(1), counts

    monkeypatch.setitem(extraction._BUILD, "trajectories", lose)
    with pytest.raises(DataError, match="trajectories: 0 rows and these counts do not add up"):
        extraction.extract_shard(job, "00001")


def test_flips_come_from_the_manifest_and_are_those_of_the_debates(extracted: ExtractJob) -> None:
    debates = list(read_debates(extracted.home, fingerprint=RUN))
    made = card.describe(extracted).dynamics
    assert made == dynamics(debates, read_verdicts(extracted.home, debates=RUN))
    assert {m: (s.k, s.n) for m, s in made.to_right_in.items()} == {2: (2, 5)}


def test_a_few_rows_are_read_from_one_part_at_a_time(extracted: ExtractJob, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    whole = Store.read

    def spy(store: Store, shards: Any = None, columns: Any = None) -> Any:
        read.append((store.stage, shards))
        return whole(store, shards, columns)

    monkeypatch.setattr(Store, "read", spy)
    made = card.describe(extracted)
    assert set(made.samples) == set(KINDS) and all(1 <= len(s) <= card.SAMPLES for s in made.samples.values())
    assert {stage for stage, _ in read} == set(KINDS) and all(len(shards) == 1 for _, shards in read)


def test_hostile_text_stays_text_in_the_page(job: ExtractJob) -> None:
    questions = Store(job.home, stage="problems", fingerprint=QUESTIONS)
    state_licence(questions, HOSTILE)
    _, path = card_view.write(card.describe(job), card.folder(job))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "a", "iframe", "textarea", "h4"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("href", "src")]
    assert all(value.startswith("#") for name, value in page.attributes if name == "xlink:href")
    shown = "".join(page.texts)
    assert safe(HOSTILE) in shown and "{{ 7 * 7 }}" in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "default-src 'none'" in text


def test_hostile_text_stays_text_in_markdown_even_where_html_is_on(job: ExtractJob) -> None:
    state_licence(Store(job.home, stage="problems", fingerprint=QUESTIONS), HOSTILE)
    path, _ = card_view.write(card.describe(job), card.folder(job))
    text = path.read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    kinds = {token.type for block in tokens for token in [block, *(block.children or [])]}
    blocks = ("heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td")
    assert kinds == {"inline", "text", "fence", *(f"{name}_{end}" for name in blocks for end in ("open", "close"))}
    assert safe(HOSTILE) in "".join(token.content for token in tokens if token.type == "fence")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)


def test_figures_are_named_for_those_who_do_not_see_them_and_take_the_colour_of_the_page(extracted: ExtractJob) -> None:
    text = card_view.render_html(card.describe(extracted))
    figures = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(figures) == 2
    for figure in figures:
        assert re.match(r'<svg role="img" aria-label="[^"]{40,}"', figure)
        assert "<text" in figure and "currentColor" in figure and "#000000" not in figure
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "wrong to right 40 % at 2" in figures[0]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_no_script_of_a_trace_runs_in_a_browser(job: ExtractJob, tmp_path: Path) -> None:
    _, path = card_view.write(card.describe(job), card.folder(job))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert f"<title>Data card: what was learned from t, debates {RUN}</title>" in done.stdout


def test_a_card_is_the_same_for_the_same_data_and_is_replaced_when_shards_are_added(job: ExtractJob) -> None:
    first = card_view.write(card.describe(job), card.folder(job))
    texts = [path.read_text(encoding="utf-8") for path in first]
    assert card_view.write(card.describe(job), card.folder(job)) == first
    assert [path.read_text(encoding="utf-8") for path in first] == texts
    for kind in KINDS:
        (job.store(kind).root / "manifest" / "00001.json").unlink()
    assert "questions, shards: 1" in card_view.render_markdown(card.describe(job))
    extraction.extract_shard(job, "00001")
    assert card_view.write(card.describe(job), card.folder(job)) == first
    assert [path.read_text(encoding="utf-8") for path in first] == texts
    assert sorted(path.name for path in first[0].parent.iterdir()) == ["card.html", "card.md"]
    assert card.newest(job.home, RUN) == first[1]
    with pytest.raises(ConfigError, match="agentark run extract"):
        card.newest(job.home, "0" * 16)


def test_a_run_without_rows_has_a_card_too(tmp_path: Path) -> None:
    debate = make_debate(0, [[5, 5]], gold=7)
    commit_debates(make_home(tmp_path, [debate.problem]), "00000", [debate])
    verify(tmp_path, "00000", [debate])
    text = card_view.render_html(card.describe(extract(tmp_path)))
    assert "No row has a text to learn." in text and "no debate has two decided rounds" in text


def test_a_licence_is_the_users_word_else_the_benchmarks_and_changes_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("question,answer\nWhat is 2 + 2?,4\n")

    def load(**changes: Any) -> Store:
        config = ProblemsConfig.model_validate({"source": "file", "path": "mine.csv", **changes})
        made = load_problems.fn(config, home=tmp_path, seed=0, shard_size=8)
        return Store(tmp_path, stage="problems", fingerprint=made.fingerprint)

    unstated = load()
    assert unstated.fingerprint == "ef30c388ab733958" and licence_of(unstated) == ""
    stated = load(license="CC-BY-4.0")
    assert stated.fingerprint == unstated.fingerprint and licence_of(stated) == "CC-BY-4.0"
    assert licence_of(load()) == "CC-BY-4.0"
    arkling = load_problems.fn(ProblemsConfig(limit=2), home=tmp_path, seed=0, shard_size=8)
    assert licence_of(Store(tmp_path, stage="problems", fingerprint=arkling.fingerprint)) == LICENCES["arkling"]
