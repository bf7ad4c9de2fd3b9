"""One committed shard of debates -> what is learned from it, by kind, each kind in a ledger stage of its own.

    rsft           every correct final trace, corrective first (examples.py)
    answer         the final answer alone, one row a question: the baseline SFT (examples.py)
    augmentation   up to three correct traces a question that differ in structure (examples.py)
    process        labelled steps with their negatives from other agents, for a process reward model (process.py)
    trajectories   flips: wrong to right with both texts, right to wrong as negatives (trajectories.py)
    prompts        one row a question for GRPO: prompt, gold, task, and how often the first round was right

Shards are extracted once: when a run grows, only its new shards are read. A shard of a kind is committed with its
counts, and the digests of the debates, verdicts, selections and rollouts that it came from. What goes in is the sum of
what comes out by fate, in every shard and over the run (`check_totals`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pyarrow as pa

from agentark_core import (
    dynamics,
    examples,
    process,
    prompts,
    question_filter,
    records,
    selections,
    step_rollouts,
    trajectories,
)
from agentark_core.config import ExamplesConfig
from agentark_core.errors import CorruptData, DataError
from agentark_core.examples import EXAMPLES_VERSION
from agentark_core.ledger import ManifestEntry, Store, fingerprint
from agentark_core.process import PROCESS_VERSION
from agentark_core.records import TurnKey
from agentark_core.selections import SelectionJob, SelectorKey
from agentark_core.step_rollouts import RolloutJob, RolloutsKey
from agentark_core.steps import STEPS_VERSION
from agentark_core.stored import JudgeKey, debate_store, digest, parents, read_debates, verdict_store
from agentark_core.structure import STRUCTURE_VERSION
from agentark_core.types import Debate, Reached, Selection, Verdict

Kind = Literal["rsft", "answer", "augmentation", "process", "trajectories", "prompts"]
KINDS: tuple[Kind, ...] = get_args(Kind)

EXTRACTION_VERSION = "extraction-3"

T = TypeVar("T")

_SHAPED_BY: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rsft": (
        ("include_summary", "max_per_problem", "rsft_traces", "round", "select"),
        (EXAMPLES_VERSION,),
    ),
    "answer": (("include_summary",), (EXAMPLES_VERSION,)),
    "augmentation": (("augmentation_traces",), (EXAMPLES_VERSION, STRUCTURE_VERSION)),
    "process": (("include_summary", "step_labels", "negatives"), (PROCESS_VERSION, STEPS_VERSION)),
    "trajectories": ((), (STRUCTURE_VERSION,)),
    "prompts": ((), ()),
}
"""Per kind the options of ExamplesConfig and the versions of the rules that shape it. (test_sets shape the questions
that are dropped.)"""

PROMPT_SCHEMA = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("prompt", examples.MESSAGES, nullable=False),
        pa.field("gold", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("source_fingerprint", pa.string(), nullable=False),
        pa.field("decided", pa.int32(), nullable=False),
        pa.field("correct", pa.int32(), nullable=False),
    ]
)
"""decided, correct: first-round solutions with a decided verdict, and those of them that are right."""


FIRST_ROUND = ("all right", "split", "none right", "none decided")
"""How a question of `prompts` can have gone in the first round, by its decided solutions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractJob:
    """What shapes the extraction of one debate run; small enough to go to a worker process.

    debates and dropped are the fingerprints of a debate run and of its question_filter list. judge: whose verdicts
    count; None takes those of the rules alone. selector: whose selections shape the kind augmentation; None takes the
    rules. rollouts: those that shape the kind process, if step_labels asks for them.
    """

    home: Path
    debates: str
    dropped: str
    config: ExamplesConfig
    wording: prompts.Wording
    judge: JudgeKey | None = None
    selector: SelectorKey | None = None
    rollouts: RolloutsKey | None = None

    @property
    def verdicts(self) -> Store:
        """The verdicts that count."""
        return verdict_store(self.home, debates=self.debates, judge=self.judge)

    @property
    def selections(self) -> Store | None:
        """The selections of the selector, if there is one."""
        if self.selector is None:
            return None
        return SelectionJob(
            home=self.home,
            debates=self.debates,
            judge=self.judge,
            limit=self.config.augmentation_traces,
            selector=self.selector,
        ).store

    @property
    def step_rollouts(self) -> Store | None:
        """The rollouts from steps, if there are any."""
        if self.rollouts is None:
            return None
        return RolloutJob(
            home=self.home, debates=self.debates, judge=self.judge, config=self.config, rollouts=self.rollouts
        ).store

    def made_from(self, kind: Kind) -> Store | None:
        """What a kind is made from beside debates and verdicts, where there is such a stage."""
        return {"augmentation": self.selections, "process": self.step_rollouts}.get(kind)

    def store(self, kind: Kind) -> Store:
        """The ledger stage of one kind."""
        options, versions = _SHAPED_BY[kind]
        shape: dict[str, Any] = {
            "kind": kind,
            "debates": self.debates,
            "dropped": self.dropped,
            "verdicts": self.verdicts.fingerprint,
            "options": self.config.model_dump(mode="json", include=set(options)),
            "wording": self.wording,
            "prompt_hash": prompts.prompt_hash(),
            "versions": [EXTRACTION_VERSION, *versions],
        }
        if (beside := self.made_from(kind)) is not None:
            shape[beside.stage] = beside.fingerprint
        return Store(self.home, stage=kind, fingerprint=fingerprint("extract", **shape), config=shape)

    def missing(self) -> list[str]:
        """Verified shards of the run of which some kind is not committed yet, in order."""
        return sorted(self.verdicts.committed().difference(self.done()))

    def done(self) -> list[str]:
        """Shards of which every kind is committed, in order."""
        return sorted(set.intersection(*(self.store(kind).committed() for kind in KINDS)))


def extract_shard(job: ExtractJob, shard: str) -> dict[str, int]:
    """Commit every kind of one shard; returns the rows by kind. Kinds that are committed already are left as they are.

    Raises DataError if what it is made from is not committed, CorruptData if a committed kind (or the selections) came
    from other debates or verdicts than there are now.
    """
    verdicts = job.verdicts
    came_from = parents(job.home, debates=job.debates, verdicts=verdicts, shard=shard)
    reasons = question_filter.reasons(Store(job.home, stage=question_filter.STAGE, fingerprint=job.dropped))
    all_debates = list(read_debates(job.home, fingerprint=job.debates, shards=[shard]))
    dropped = Counter(reasons[d.problem.problem_id] for d in all_debates if d.problem.problem_id in reasons)
    material = Material(
        debates=[debate for debate in all_debates if debate.problem.problem_id not in reasons],
        verdicts=records.table_to_verdicts(verdicts.read(shards=[shard])),
        selections=_read(selections.read, job.selections, shard, came_from=came_from),
        rollouts=_read(step_rollouts.read, job.step_rollouts, shard, came_from=came_from),
    )
    rows: dict[str, int] = {}
    for kind in KINDS:
        store = job.store(kind)
        entry = store.entry(shard)
        beside = job.made_from(kind)
        of_kind = came_from if beside is None else {**came_from, beside.stage: digest(beside, shard)}
        if entry is None:
            table, counts = _BUILD[kind](job, material)
            _check_counts(kind, rows=table.num_rows, counts=counts)
            meta = {
                "questions": {"kept": len(material.debates), **dropped},
                "counts": counts,
                "lengths": _lengths(table),
                "parents": of_kind,
            }
            if kind == "trajectories":
                meta["dynamics"] = dynamics.tally(material.debates, material.verdicts)
            with store.lease(shard, timeout_s=60) as lease:
                entry = store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta=meta)
        _check_parents(store, shard, entry, came_from=of_kind)
        rows[kind] = entry.rows
    return rows


def _read(read: Callable[[Store, str], T], store: Store | None, shard: str, *, came_from: dict[str, str]) -> T | None:
    """What another stage made of the same shard; None where there is no such stage."""
    if store is None:
        return None
    digest(store, shard)  # raises if it is not committed
    _check_parents(store, shard, store.entries()[shard], came_from=came_from)
    return read(store, shard)


def _check_parents(store: Store, shard: str, entry: ManifestEntry, *, came_from: dict[str, str]) -> None:
    if entry.meta["parents"] != came_from:
        raise CorruptData(
            f"{store.root}: shard {shard} came from other debates than the ledger has now; remove the folder"
        )


def fates(kind: Kind, counts: Mapping[str, int]) -> tuple[str, tuple[str, ...]]:
    """What a kind's counts divide, and the names of its parts: ("candidates", ("kept", "incorrect", ...))."""
    if kind == "trajectories":
        return "flips", ("to_right", "to_wrong")
    if kind == "prompts":
        return "questions", FIRST_ROUND
    beside = process.BESIDE if kind == "process" else examples.BESIDE
    return "candidates", tuple(fate for fate in counts if fate not in beside)


def _check_counts(kind: Kind, *, rows: int, counts: Mapping[str, int]) -> None:
    """Every row is one that the counts know, and all that went in has one fate. Raises DataError."""
    whole, parts = fates(kind, counts)
    known = counts["kept"] if whole == "candidates" else counts.get(whole, rows)
    if rows != known or counts.get(whole, rows) != sum(counts.get(part, 0) for part in parts):
        raise DataError(f"{kind}: {rows} rows and these counts do not add up: {dict(counts)}; please report it")


def _lengths(table: pa.Table) -> dict[str, int]:
    """Rows by the length of what is learned, in characters: {"255": 3} are three rows of 128 to 255 characters."""
    if "completion" not in table.column_names:
        return {}
    texts = (message[0]["content"] for message in table["completion"].to_pylist())
    bins = Counter(2 ** len(text).bit_length() - 1 for text in texts)
    return {str(top): bins[top] for top in sorted(bins)}


Built = tuple[pa.Table, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What every kind is made from: debates that may be learned from, the verdicts, selections by work_id, and rollouts
    from the steps of each trace."""

    debates: Sequence[Debate]
    verdicts: Mapping[TurnKey, Verdict]
    selections: Mapping[str, Selection] | None
    rollouts: Mapping[TurnKey, Sequence[Reached]] | None


def _examples(kind: examples.Kind) -> Callable[[ExtractJob, Material], Built]:
    def build(job: ExtractJob, material: Material) -> Built:
        rows, counts = examples.build(
            material.debates,
            material.verdicts,
            kind=kind,
            config=job.config,
            wording=job.wording,
            source_fingerprint=job.debates,
            selections=material.selections,
        )
        return examples.to_table(rows), counts

    return build


def _process(job: ExtractJob, material: Material) -> Built:
    return process.build(
        material.debates,
        material.verdicts,
        config=job.config,
        wording=job.wording,
        source_fingerprint=job.debates,
        rollouts=material.rollouts,
    )


def _trajectories(job: ExtractJob, material: Material) -> Built:
    flips = [flip for debate in material.debates for flip in trajectories.flips(debate, material.verdicts)]
    right = sum(flip.to_right for flip in flips)
    followed = sum(flip.followed is not None for flip in flips)
    counts = {"debates": len(material.debates), "to_right": right, "to_wrong": len(flips) - right, "followed": followed}
    return trajectories.to_table(flips), counts


def _prompts(job: ExtractJob, material: Material) -> Built:
    counts: Counter[str] = Counter(questions=len(material.debates))
    rows = []
    for debate in material.debates:
        first = [t for t in debate.turns if t.role == "agent" and t.round == 1]
        labels = [material.verdicts[t.key].label for t in first]
        correct, decided = labels.count("correct"), len(labels) - labels.count("undecided")
        split = "split" if correct else "none right"
        counts["none decided" if not decided else "all right" if correct == decided else split] += 1
        rows.append(
            {
                "problem_id": debate.problem.problem_id,
                "prompt": prompts.first_answer(debate.problem.question, wording=job.wording),
                "gold": debate.problem.gold,
                "task": debate.problem.task,
                "work_id": debate.work_id,
                "source_fingerprint": job.debates,
                "decided": decided,
                "correct": correct,
            }
        )
    return pa.Table.from_pylist(rows, schema=PROMPT_SCHEMA), dict(counts)


_BUILD: dict[Kind, Callable[[ExtractJob, Material], Built]] = {
    "rsft": _examples("rsft"),
    "answer": _examples("answer"),
    "augmentation": _examples("augmentation"),
    "process": _process,
    "trajectories": _trajectories,
    "prompts": _prompts,
}


def totals(job: ExtractJob, kind: Kind) -> dict[str, Any]:
    """Sums of one kind over the shards that are done: rows, questions kept and dropped, counts by fate, lengths."""
    committed = job.store(kind).entries()
    entries = [committed[shard] for shard in job.done()]
    sums: dict[str, Counter[str]] = {name: Counter() for name in ("questions", "counts", "lengths")}
    for entry in entries:
        for name, total in sums.items():
            total.update(entry.meta[name])
    return {
        "shards": len(entries),
        "rows": sum(entry.rows for entry in entries),
        **{name: dict(sorted(total.items())) for name, total in sums.items()},
    }


def check_totals(job: ExtractJob) -> None:
    """What went in is the sum of what came out at every stage: turns, verdicts, questions, and each kind's counts.

    Reads manifests only. Raises CorruptData naming the stage whose sums differ, DataError if one is gone.
    """
    shards = job.done()
    debates, verdicts = debate_store(job.home, job.debates).entries(), job.verdicts.entries()
    for shard in shards:
        if shard not in debates or shard not in verdicts:
            raise DataError(
                f"{job.home}/ledger: {job.debates}: shard {shard} was extracted and its debates or verdicts are gone; "
                "run build-traces (or the import) and then `agentark run extract` again"
            )
    turns, judged = sum(debates[s].meta["turns"] for s in shards), sum(verdicts[s].rows for s in shards)
    questions = sum(debates[s].meta["questions"] for s in shards)
    found = {
        "turns of all statuses": (turns, sum(sum(debates[s].meta["statuses"].values()) for s in shards)),
        "verdicts": (turns, judged),
        "verdicts of all labels": (judged, sum(sum(verdicts[s].meta.values()) for s in shards)),
    }
    for kind in KINDS:
        total = totals(job, kind)
        _check_counts(kind, rows=total["rows"], counts=total["counts"])
        found[f"{kind}: questions kept and left out"] = (questions, sum(total["questions"].values()))
    for name, (expected, number) in found.items():
        if number != expected:
            raise CorruptData(
                f"{job.home}/ledger: {job.debates}: {name} are {number}, expected {expected}; remove the folders that "
                "`agentark run extract` made of this run and extract again"
            )
