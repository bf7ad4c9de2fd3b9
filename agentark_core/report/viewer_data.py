"""Debates as data of a page: an index of all, for list and filters, and packs of whole debates that the page opens when
they are looked at.

A pack is JSON, gzipped, in base64: no character of a trace can end the element that holds it. Control and direction
characters are spelled out. viewer.js reads:

    index    [[set, work id, question (cut), gold, vote, to right, to wrong, agreement at first, at last, rounds], ..]
    pack     [{"q": question, "g": gold, "a": decision, "e": how it ended, "t": turns, "f": flips}, ..]
    turn     [round, agent, role, status, answer, verdict, completion tokens, thinking, text or pieces]
    piece    [step, "+" right | "-" wrong | "" not labelled, score or null]
    flip     [agent, round before, round after, to right, followed agent | 0, shared operations, peers, right peers]

Verdicts are "c", "i", "u", and "" where there is none.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentark_core import answers
from agentark_core.ledger import Store
from agentark_core.report.debate_sets import DebateSet, Verdicts, verdicts_of
from agentark_core.report.gather import Facts
from agentark_core.rounds import solutions, vote_label
from agentark_core.steps import split
from agentark_core.stored import read_debates
from agentark_core.terminal import safe
from agentark_core.trajectories import Flip, flips
from agentark_core.types import Debate, Turn

PACK_BYTES = 512 * 1024
"""Of JSON before it is compressed: what the page reads to show one debate."""
PAGE_BYTES = 14_000_000
"""Of packs in one page; with figures and tables it stays below 15 MB."""
SHOWN = 20_000
"""Debates of one set that are shown, from its beginning."""
SNIPPET = 110
"""Characters of a question in the list."""

Marks = Mapping[tuple[str, str], list[list[Any]]]
"""[step, mark] of every step, by work id and text: extraction labels a text once, whoever wrote it."""


@dataclass(slots=True, kw_only=True)
class PageData:
    """The debates of one page. first: number of its first debate among all, from 1."""

    first: int
    index: list[list[Any]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """Place in the index of the first debate of each pack."""
    packs: list[str] = field(default_factory=list)

    @property
    def packed_index(self) -> str:
        return pack(json.dumps({"index": self.index, "starts": self.starts}, ensure_ascii=False))


def pages(facts: Facts) -> Iterator[PageData]:
    """All debates of a run in pages; memory holds one page."""
    page, waiting, waiting_bytes, size = PageData(first=1), list[str](), 0, 0

    def close_pack() -> None:
        nonlocal waiting, waiting_bytes, size
        page.packs.append(pack(f"[{','.join(waiting)}]"))
        size += len(page.packs[-1])
        waiting, waiting_bytes = [], 0

    for row, text in _debates(facts):
        if waiting and waiting_bytes + len(text) > PACK_BYTES:
            close_pack()
            if size > PAGE_BYTES:
                yield page
                page, size = PageData(first=page.first + len(page.index)), 0
        if not waiting:
            page.starts.append(len(page.index))
        page.index.append(row)
        size += 100  # at most, of the index
        waiting.append(text)
        waiting_bytes += len(text)
    if waiting:
        close_pack()
    yield page


def pack(text: str) -> str:
    """gzip in base64; the same text gives the same pack."""
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), compresslevel=6, mtime=0)).decode("ascii")


def _debates(facts: Facts) -> Iterator[tuple[list[Any], str]]:
    for place, one in enumerate(facts.sets):
        left = SHOWN
        for shard in one.shards:
            if left <= 0:
                break
            verdicts, marks = verdicts_of(facts.home, one, shard=shard), _marks(facts, one, shard=shard)
            for debate in read_debates(facts.home, fingerprint=one.fingerprint, shards=[shard]):
                if left > 0:
                    found = flips(debate, verdicts)
                    whole = _whole(debate, verdicts, found, marks=marks, facts=facts)
                    yield _row(debate, verdicts, found, place=place), whole
                    left -= 1


def _row(debate: Debate, verdicts: Verdicts, found: list[Flip], *, place: int) -> list[Any]:
    rounds, problem = list(solutions(debate).values()), debate.problem
    question = " ".join(problem.question.split())
    changed = [flip.to_right for flip in found]
    return [
        place,
        safe(debate.work_id),
        safe(question if len(question) <= SNIPPET else question[: SNIPPET - 1] + "…"),
        safe(problem.gold),
        vote_label(debate, debate.final_turns, verdicts)[0],
        sum(changed),
        len(changed) - sum(changed),
        _agreement(rounds[0], task=problem.task) if rounds else 0,
        _agreement(rounds[-1], task=problem.task) if rounds else 0,
        len(rounds),
    ]


def _agreement(turns: tuple[Turn, ...], *, task: str) -> float:
    """Share of the agents that gave the most frequent answer."""
    return round(answers.agreement([turn.answer for turn in turns], task=task), 2)


def _whole(debate: Debate, verdicts: Verdicts, found: list[Flip], *, marks: Marks, facts: Facts) -> str:
    return json.dumps(
        {
            "q": safe(debate.problem.question),
            "g": safe(debate.problem.gold),
            "a": None if debate.answer is None else safe(debate.answer),
            "e": safe(debate.stop_reason),
            "i": safe(debate.problem.problem_id),
            "t": [_turn(turn, verdicts, marks=marks, facts=facts) for turn in debate.turns],
            "f": [
                [
                    flip.after.agent,
                    flip.before.round,
                    flip.after.round,
                    int(flip.to_right),
                    flip.followed.agent if flip.followed else 0,
                    flip.shared_operations,
                    flip.peers,
                    flip.peers_right,
                ]
                for flip in found
            ],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _turn(turn: Turn, verdicts: Verdicts, *, marks: Marks, facts: Facts) -> list[Any]:
    verdict = verdicts.get(turn.key)
    scores = facts.step_scores.get(turn.key)
    pieces = marks.get((turn.work_id, turn.text))
    if scores is not None:
        steps = [[step, ""] for step in split(turn.text)] if pieces is None else pieces
        pieces = [[*piece, score] for piece, score in zip(steps, scores, strict=False)]
    return [
        turn.round,
        turn.agent,
        turn.role,
        turn.status,
        None if turn.answer is None else safe(turn.answer),
        verdict.label[0] if verdict else "",
        turn.completion_tokens,
        safe(turn.thinking),
        safe(turn.text) if pieces is None else [[safe(piece[0]), *piece[1:]] for piece in pieces],
    ]


def _marks(facts: Facts, one: DebateSet, *, shard: str) -> Marks:
    """Steps with the labels that a process reward model learns from, if the run was extracted."""
    columns = ["work_id", "completions", "labels", "weights"]
    stores = []
    for config in (facts.home / "ledger").glob("process-*/config.json"):
        if json.loads(config.read_bytes()).get("debates") == one.fingerprint:
            stores.append((config.stat().st_mtime_ns, config.parent.name))
    for _, name in sorted(stores, reverse=True):
        store = Store(facts.home, stage="process", fingerprint=name.removeprefix("process-"))
        if store.entry(shard) is not None:
            return {
                (row["work_id"], "".join(row["completions"])): [
                    [step, "" if not weight else "+" if label else "-"]
                    for step, label, weight in zip(row["completions"], row["labels"], row["weights"], strict=True)
                ]
                for row in store.read(shards=[shard], columns=columns).to_pylist()
            }
    return {}
