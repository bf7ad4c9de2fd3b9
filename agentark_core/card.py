"""What a data card says about one extraction: figures from the manifests, and a few rows drawn from the parts.

Memory holds one shard of one kind, whatever the size of the run. The same committed data give the same card.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from agentark_core import dynamics, extraction, problems, yields
from agentark_core.dynamics import Dynamics
from agentark_core.errors import ConfigError
from agentark_core.extraction import KINDS, ExtractJob, Kind
from agentark_core.ledger import Store, fingerprint
from agentark_core.page import Sample
from agentark_core.stored import debate_store

SAMPLES = 2
"""Rows of each kind that a card shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One extraction of one debate run.

    origin: what is known of the questions, the debates and the verdicts, by name, as text. fates: by what went in
    (turns, debates, questions, each kind's candidates), its parts by status or reason, which sum to it. totals: as of
    extraction.totals.
    """

    run: str
    dataset: str
    origin: dict[str, str]
    fates: dict[str, dict[str, int]]
    yields: list[yields.Row]
    totals: dict[Kind, dict[str, Any]]
    dynamics: Dynamics
    samples: dict[Kind, list[Sample]]
    folders: dict[Kind, tuple[str, str]]
    """The ledger folder of each kind and the digest of what is committed in it."""


def folder(job: ExtractJob) -> Path:
    """Where the card of an extraction lies: its name follows from the debates and from all that shapes the rows."""
    shape = fingerprint("card", kinds=[job.store(kind).fingerprint for kind in KINDS])
    return job.home / "cards" / f"{job.debates}-{shape}"


def newest(home: Path, run: str) -> Path:
    """The page of a run's latest card. Raises ConfigError if there is none."""
    pages = [page for page in home.glob("cards/*/card.html") if page.parent.name.rpartition("-")[0] == run]
    if not pages:
        raise ConfigError(
            f"{run}: no data card under {home}/cards; run `agentark run extract` with it in `traces`, or check --home"
        )
    return max(pages, key=lambda page: page.stat().st_mtime_ns)


def describe(job: ExtractJob) -> Card:
    """The card of what is extracted now. Raises CorruptData if the manifests do not add up."""
    extraction.check_totals(job)
    shards = job.done()
    debates, verdicts = debate_store(job.home, job.debates).entries(), job.verdicts.entries()
    totals = {kind: extraction.totals(job, kind) for kind in KINDS}
    flips = job.store("trajectories").entries()
    return Card(
        run=job.debates,
        dataset=debate_store(job.home, job.debates).config["dataset"],
        origin=_origin(job, questions=sum(debates[s].meta["questions"] for s in shards), shards=len(shards)),
        fates={
            "turns, by status": _sum(debates[s].meta["statuses"] for s in shards),
            "turns, by verdict": _sum(verdicts[s].meta for s in shards),
            "debates, by how they ended": _sum(debates[s].meta["stop_reasons"] for s in shards),
            "questions": totals["rsft"]["questions"],
            **{f"{kind}: {what}": parts for kind in KINDS for what, parts in _fates(kind, totals[kind]["counts"])},
        },
        yields=yields.rows(job),
        totals=totals,
        dynamics=dynamics.shares(dynamics.add(flips[s].meta["dynamics"] for s in shards)),
        samples={kind: [_sample(kind, row) for row in _drawn(job, kind)] for kind in KINDS},
        folders={kind: (job.store(kind).root.name, job.store(kind).digest()) for kind in KINDS},
    )


def _sum(parts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def _fates(kind: Kind, counts: Mapping[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
    what, parts = extraction.fates(kind, counts)
    yield what, {part: counts[part] for part in parts if counts.get(part)}
    if kind == "process":
        yield "steps", {part: counts[part] for part in ("positive", "negative", "silent") if counts.get(part)}


def _origin(job: ExtractJob, *, questions: int, shards: int) -> dict[str, str]:
    debates = debate_store(job.home, job.debates)
    asked = Store(job.home, stage="problems", fingerprint=debates.config["problems"])
    source, how, judge = asked.config.get("problems"), debates.config.get("debate"), job.verdicts.config.get("judge")
    strategy = f"{how['strategy']}, {how['num_agents']} agents, {how['num_rounds']} rounds" if how else ""
    file = Path(source["path"]).name if source else ""
    known = {
        "data set": debates.config["dataset"],
        "questions from": f"{source['source']}, split {source['split']}" if source else "imported debates",
        "file": file,
        "revision": asked.config.get("revision", ""),
        "licence of the questions": problems.licence_of(asked) or "not stated",
        "teacher": debates.config.get("model_revision") or f"imported from {debates.config['imported_from']}",
        "discussion": strategy or "as imported",
        "verified by": f"rules, then a judge ({judge['model']})" if judge else "rules",
        "steps labelled by": f"rollouts ({job.rollouts['model']})" if job.rollouts else "",
        "debate run": job.debates,
        "extracted": f"{questions:,} questions, shards: {shards:,}",
    }
    return {what: text for what, text in known.items() if text}


# ---- sample rows


def _drawn(job: ExtractJob, kind: Kind) -> list[dict[str, Any]]:
    """A few rows of one kind, the same for the same committed data; reads the shards that hold them, one at a time."""
    store = job.store(kind)
    committed = store.entries()
    shards = [shard for shard in job.done() if committed[shard].rows]
    ends = list(accumulate(committed[shard].rows for shard in shards))
    rows = ends[-1] if ends else 0
    drawn = []
    for place in sorted(random.Random(store.digest()).sample(range(rows), min(SAMPLES, rows))):
        index = bisect_right(ends, place)
        within = place - (ends[index - 1] if index else 0)
        drawn += store.read(shards=[shards[index]]).slice(within, 1).to_pylist()
    return drawn


def _sample(kind: Kind, row: Mapping[str, Any]) -> Sample:
    if kind == "trajectories":
        what = "to right" if row["to_right"] else "to wrong"
        followed = f", following agent {row['followed_agent']}" if row["followed_agent"] else ""
        return Sample(
            name=f"{row['problem_id']}, agent {row['agent']}, {what}{followed}",
            texts={f"round {row[f'{when}_round']}": row[when] for when in ("before", "after")},
        )
    prompt = "\n\n".join(message["content"] for message in row["prompt"])
    if kind == "prompts":
        name = f"{row['problem_id']}, {row['correct']} of {row['decided']} first answers right"
        return Sample(name=name, texts={"prompt": prompt, "gold": row["gold"]})
    who = f"agent {row['agent']}" if row["agent"] else "summary"
    if kind == "process":
        steps = zip(row["completions"], row["labels"], row["weights"], strict=True)
        marked = [
            f"[{'+' if label >= 0.5 else '-' if weight else ' '}] {step.rstrip()}" for step, label, weight in steps
        ]
        verdict = "right" if row["correct"] else "wrong"
        return Sample(
            name=f"{row['problem_id']}, {who}, round {row['round']}, {verdict}",
            texts={"prompt": prompt, "steps: right (+), wrong (-), without a label": "\n".join(marked)},
        )
    corrective = ", corrective" if row["corrective"] else ""
    return Sample(
        name=f"{row['problem_id']}, {who}, round {row['round']}{corrective}, weight {row['weight']:.2g}",
        texts={"prompt": prompt, "completion": row["completion"][0]["content"]},
    )
