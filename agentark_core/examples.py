"""Verified debates -> R-SFT examples (method.md section 3), and their table in TRL's conversational columns.

    prompt                                  completion                                        round  agent  corrective
    [{"role": "user", "content": "Q: .."}]  [{"role": "assistant", "content": "Step 1: .."}]  2      4      true

One row is one agent's correct trace of the last round (or the correct summary), asked with the question alone: the
student learns to write what the debate arrived at. Corrective traces, of agents that were wrong earlier, come first.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from agentark_core import prompts
from agentark_core.config import ExamplesConfig
from agentark_core.errors import DataError
from agentark_core.prompts import Wording
from agentark_core.records import TurnKey
from agentark_core.types import Debate, SFTExample, Turn, Verdict

EXAMPLES_VERSION = "examples-1"
"""Changes with the selection rules: part of the examples' fingerprint."""

_MESSAGES = pa.list_(
    pa.field("element", pa.struct([pa.field(name, pa.string(), nullable=False) for name in ("role", "content")]), False)
)
SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("prompt", _MESSAGES, nullable=False),
        pa.field("completion", _MESSAGES, nullable=False),
        pa.field("source_fingerprint", pa.string(), nullable=False),
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("agent", pa.int32(), nullable=False),
        pa.field("corrective", pa.bool_(), nullable=False),
    ]
)


def build(
    debates: Iterable[Debate],
    verdicts: Mapping[TurnKey, Verdict],
    *,
    config: ExamplesConfig,
    wording: Wording,
    source_fingerprint: str,
) -> tuple[list[SFTExample], dict[str, int]]:
    """Select the correct final traces; return them with the counts by fate of every turn that was looked at.

    Candidates are the final round's turns and, with include_summary, the summary. The counts are `candidates` and
    its parts: `kept`, the statuses other than ok, `incorrect`, `undecided`, `unverified` (no verdict), `duplicate`
    (same text again within the question) and `over_cap`; beside them `corrective` (of the kept).
    """
    examples: list[SFTExample] = []
    counts: Counter[str] = Counter()
    for debate in debates:
        candidates = list(debate.final_turns)
        if config.include_summary and debate.summary is not None:
            candidates.append(debate.summary)
        counts["candidates"] += len(candidates)
        correct = []
        for turn in candidates:
            reason = _refusal(turn, verdicts)
            if reason:
                counts[reason] += 1
            else:
                correct.append(turn)
        wrong_before = _wrong_before(debate, verdicts)
        correct.sort(key=lambda turn: (turn.agent not in wrong_before, turn.role == "summariser", turn.agent))
        first_with_text: dict[str, Turn] = {}
        for turn in correct:
            first_with_text.setdefault(turn.text, turn)
        distinct = list(first_with_text.values())
        counts["duplicate"] += len(correct) - len(distinct)
        kept = distinct[: config.max_per_problem] if config.max_per_problem else distinct
        counts["over_cap"] += len(distinct) - len(kept)
        counts["kept"] += len(kept)
        counts["corrective"] += sum(turn.agent in wrong_before for turn in kept)
        examples += [
            _example(debate, turn, corrective=turn.agent in wrong_before, wording=wording, source=source_fingerprint)
            for turn in kept
        ]
    fates = sum(number for fate, number in counts.items() if fate not in ("candidates", "corrective"))
    if fates != counts["candidates"]:
        raise DataError(f"examples: {counts['candidates']} candidate traces in, {fates} accounted for: {dict(counts)}")
    return examples, {"candidates": 0, "kept": 0, "corrective": 0} | dict(sorted(counts.items()))


def _refusal(turn: Turn, verdicts: Mapping[TurnKey, Verdict]) -> str:
    """Why a turn may not be trained on; empty if it may."""
    if turn.status != "ok":
        return turn.status
    verdict = verdicts.get((turn.work_id, turn.round, turn.agent))
    if verdict is None:
        return "unverified"
    return "" if verdict.label == "correct" else verdict.label


def _wrong_before(debate: Debate, verdicts: Mapping[TurnKey, Verdict]) -> set[int]:
    """Agents that the verifier found incorrect in a round before the last (the summariser speaks once)."""
    wrong = set()
    for turn in debate.turns:
        verdict = verdicts.get((turn.work_id, turn.round, turn.agent))
        if turn.role == "agent" and turn.round < debate.final_round and verdict and verdict.label == "incorrect":
            wrong.add(turn.agent)
    return wrong


def _example(debate: Debate, turn: Turn, *, corrective: bool, wording: Wording, source: str) -> SFTExample:
    messages = prompts.first_answer(debate.problem.question, wording=wording)
    key = f"{source}\0{turn.work_id}\0{turn.round}\0{turn.agent}"
    return SFTExample(
        example_id=hashlib.sha256(key.encode()).hexdigest()[:16],
        problem_id=turn.problem_id,
        prompt=tuple((message["role"], message["content"]) for message in messages),
        completion=turn.text,
        source_fingerprint=source,
        work_id=turn.work_id,
        round=turn.round,
        agent=turn.agent,
        corrective=corrective,
    )


def to_table(examples: Sequence[SFTExample]) -> pa.Table:
    """One row per example; prompt and completion are lists of {role, content}, nothing is null."""
    columns: dict[str, list[object]] = {
        name: [getattr(example, name) for example in examples] for name in SCHEMA.names if name != "prompt"
    }
    columns["prompt"] = [[{"role": role, "content": text} for role, text in example.prompt] for example in examples]
    columns["completion"] = [[{"role": "assistant", "content": example.completion}] for example in examples]
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def from_table(table: pa.Table) -> list[SFTExample]:
    """The inverse of to_table."""
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise DataError(f"examples table: columns {', '.join(sorted(missing))} are missing; write it with to_table")
    return [
        SFTExample(
            **{
                **row,
                "prompt": tuple((message["role"], message["content"]) for message in row["prompt"]),
                "completion": row["completion"][0]["content"],
            }
        )
        for row in table.select(SCHEMA.names).to_pylist()
    ]
