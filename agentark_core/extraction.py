"""One committed shard of debates -> what is learned from it, by kind, each kind in a ledger stage of its own.

    rsft           every correct final trace, corrective first (examples.py)
    answer         the final answer alone, one row a question: the baseline SFT (examples.py)
    augmentation   up to three correct traces a question that differ in structure (examples.py)
    process        labelled steps with their negatives from other agents, for a process reward model (process.py)
    trajectories   flips: wrong to right with both texts, right to wrong as negatives (trajectories.py)
    prompts        one row a question for GRPO: prompt, gold, task, and how often the first round was right

Shards are extracted once: when a run grows, only its new shards are read. A shard of a kind is committed with its
counts, and the digests of the debates and verdicts that it came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from agentark_core import examples, process, prompts, question_filter, records, trajectories
from agentark_core.config import ExamplesConfig
from agentark_core.errors import CorruptData, DataError
from agentark_core.examples import EXAMPLES_VERSION
from agentark_core.ledger import Store, fingerprint
from agentark_core.process import PROCESS_VERSION
from agentark_core.steps import STEPS_VERSION
from agentark_core.stored import JudgeKey, read_debates, verdict_store
from agentark_core.structure import STRUCTURE_VERSION
from agentark_core.types import Debate, Verdict

Kind = Literal["rsft", "answer", "augmentation", "process", "trajectories", "prompts"]
KINDS: tuple[Kind, ...] = get_args(Kind)

EXTRACTION_VERSION = "extraction-2"

_SHAPED_BY: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rsft": (
        ("include_summary", "max_per_problem", "include_corrective", "round", "select"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractJob:
    """What shapes the extraction of one debate run; small enough to go to a worker process.

    debates and dropped are the fingerprints of a debate run and of its question_filter list. judge: whose verdicts
    count; None takes those of the rules alone.
    """

    home: Path
    debates: str
    dropped: str
    config: ExamplesConfig
    wording: prompts.Wording
    judge: JudgeKey | None = None

    @property
    def verdicts(self) -> Store:
        """The verdicts that count."""
        return verdict_store(self.home, debates=self.debates, judge=self.judge)

    def store(self, kind: Kind) -> Store:
        """The ledger stage of one kind."""
        options, versions = _SHAPED_BY[kind]
        shape = {
            "kind": kind,
            "debates": self.debates,
            "dropped": self.dropped,
            "verdicts": self.verdicts.fingerprint,
            "options": self.config.model_dump(mode="json", include=set(options)),
            "wording": self.wording,
            "prompt_hash": prompts.prompt_hash(),
            "versions": [EXTRACTION_VERSION, *versions],
        }
        return Store(self.home, stage=kind, fingerprint=fingerprint("extract", **shape), config=shape)

    def missing(self) -> list[str]:
        """Verified shards of the run of which some kind is not committed yet, in order."""
        verified = self.verdicts.committed()
        done = set.intersection(*(self.store(kind).committed() for kind in KINDS))
        return sorted(verified - done)


def extract_shard(job: ExtractJob, shard: str) -> dict[str, int]:
    """Commit every kind of one shard; returns the rows by kind. Kinds that are committed already are left as they are.

    Raises CorruptData if a committed kind came from other debates or verdicts than there are now.
    """
    verdicts = job.verdicts
    debates = Store(job.home, stage="debates", fingerprint=job.debates)
    parents = {store.stage: _digest(store, shard) for store in (debates, verdicts)}
    known = records.table_to_verdicts(verdicts.read(shards=[shard]))
    reasons = question_filter.reasons(Store(job.home, stage=question_filter.STAGE, fingerprint=job.dropped))
    all_debates = list(read_debates(job.home, fingerprint=job.debates, shards=[shard]))
    kept = [debate for debate in all_debates if debate.problem.problem_id not in reasons]
    dropped = Counter(reasons[d.problem.problem_id] for d in all_debates if d.problem.problem_id in reasons)
    rows: dict[str, int] = {}
    for kind in KINDS:
        store = job.store(kind)
        entry = store.entry(shard)
        if entry is None:
            table, counts = _BUILD[kind](job, kept, known)
            meta = {
                "questions": {"kept": len(kept), **dropped},
                "counts": counts,
                "lengths": _lengths(table),
                "parents": parents,
            }
            with store.lease(shard, timeout_s=60) as lease:
                entry = store.commit(shard, table, lease=lease, config_hash=store.fingerprint, meta=meta)
        if entry.meta["parents"] != parents:
            raise CorruptData(
                f"{store.root}: shard {shard} came from other debates than the ledger has now; remove the folder"
            )
        rows[kind] = entry.rows
    return rows


def _digest(store: Store, shard: str) -> str:
    entry = store.entry(shard)
    if entry is None:
        raise DataError(f"{store.root}: shard {shard} is not committed; build and verify the debates first")
    return entry.sha256


def _lengths(table: pa.Table) -> dict[str, int]:
    """Rows by the length of what is learned, in characters: {"255": 3} are three rows of 128 to 255 characters."""
    if "completion" not in table.column_names:
        return {}
    texts = (message[0]["content"] for message in table["completion"].to_pylist())
    bins = Counter(2 ** len(text).bit_length() - 1 for text in texts)
    return {str(top): bins[top] for top in sorted(bins)}


Built = tuple[pa.Table, dict[str, int]]
Verdicts = Mapping[records.TurnKey, Verdict]


def _examples(kind: examples.Kind) -> Callable[[ExtractJob, Sequence[Debate], Verdicts], Built]:
    def build(job: ExtractJob, debates: Sequence[Debate], verdicts: Verdicts) -> Built:
        rows, counts = examples.build(
            debates, verdicts, kind=kind, config=job.config, wording=job.wording, source_fingerprint=job.debates
        )
        return examples.to_table(rows), counts

    return build


def _process(job: ExtractJob, debates: Sequence[Debate], verdicts: Verdicts) -> Built:
    return process.build(debates, verdicts, config=job.config, wording=job.wording, source_fingerprint=job.debates)


def _trajectories(job: ExtractJob, debates: Sequence[Debate], verdicts: Verdicts) -> Built:
    flips = [flip for debate in debates for flip in trajectories.flips(debate, verdicts)]
    right = sum(flip.to_right for flip in flips)
    followed = sum(flip.followed is not None for flip in flips)
    counts = {"debates": len(debates), "to_right": right, "to_wrong": len(flips) - right, "followed": followed}
    return trajectories.to_table(flips), counts


def _prompts(job: ExtractJob, debates: Sequence[Debate], verdicts: Verdicts) -> Built:
    counts: Counter[str] = Counter(questions=len(debates))
    rows = []
    for debate in debates:
        first = [t for t in debate.turns if t.role == "agent" and t.round == 1]
        labels = [verdicts[t.key].label for t in first]
        correct, decided = labels.count("correct"), len(labels) - labels.count("undecided")
        counts["all right" if correct == decided else "split" if correct else "none right"] += 1
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


_BUILD: dict[Kind, Callable[[ExtractJob, Sequence[Debate], Verdicts], Built]] = {
    "rsft": _examples("rsft"),
    "answer": _examples("answer"),
    "augmentation": _examples("augmentation"),
    "process": _process,
    "trajectories": _trajectories,
    "prompts": _prompts,
}


def totals(job: ExtractJob, kind: Kind) -> dict[str, Any]:
    """Sums over the committed shards of one kind: shards, rows, questions kept and dropped, counts by fate, lengths."""
    entries = job.store(kind).entries().values()
    sums: dict[str, Counter[str]] = {name: Counter() for name in ("questions", "counts", "lengths")}
    for entry in entries:
        for name, total in sums.items():
            total.update(entry.meta[name])
    return {
        "shards": len(entries),
        "rows": sum(entry.rows for entry in entries),
        **{name: dict(sorted(total.items())) for name, total in sums.items()},
    }
