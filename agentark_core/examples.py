"""Verified debates -> examples to learn from (method.md section 3), and their table in TRL's conversational columns.

    prompt                                  completion                                        agent  corrective  weight
    [{"role": "user", "content": "Q: .."}]  [{"role": "assistant", "content": "Step 1: .."}]  4      true        1.0

One row is one agent's correct trace of the last round (or the correct summary), asked with the question alone: the
student learns to write what the debate arrived at. Corrective traces, of agents that were wrong earlier, come first.

Controls: kind `answer` is SFT on the final answer alone, one row for each question that R-SFT learns from; the options
rsft_traces, round and select make R-SFT without corrective traces or on them alone, on rejection-sampled single
answers, and on what the majority says.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pyarrow as pa

from agentark_core import prompts
from agentark_core.answers import equivalent, majority
from agentark_core.config import ExamplesConfig
from agentark_core.diverse import diverse
from agentark_core.errors import DataError
from agentark_core.near_duplicates import near_duplicate_traces
from agentark_core.prompts import Wording
from agentark_core.records import TurnKey
from agentark_core.types import Debate, SelectedBy, Selection, SFTExample, Turn, Verdict

EXAMPLES_VERSION = "examples-4"
"""Changes with the selection rules: part of the examples' fingerprint."""

MIN_CORRECT_AGENTS = 2
"""Fewer leave a question out of data augmentation (method.md section 2)."""

SELECTORS: dict[SelectedBy, str] = {"llm": "selector_llm", "retried": "selector_retried", "rules": "selector_fallback"}
"""Questions by who chose their traces, where an LLM was to choose."""

BESIDE = ("candidates", "corrective", "k1", "k2", "k3", *SELECTORS.values())
"""Counts that are no fate of a candidate."""

Kind = Literal["rsft", "augmentation", "answer"]

ANSWER = "\\boxed{{{gold}}}"
"""The final answer alone, in the form that every wording of prompts.py asks for."""


MESSAGES = pa.list_(
    pa.field("element", pa.struct([pa.field(name, pa.string(), nullable=False) for name in ("role", "content")]), False)
)
SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("completion", MESSAGES, nullable=False),
        pa.field("source_fingerprint", pa.string(), nullable=False),
        pa.field("work_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("agent", pa.int32(), nullable=False),
        pa.field("corrective", pa.bool_(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
    ]
)


Counts = dict[str, int]
"""`candidates` and its parts, the fates of every turn that was looked at; beside them figures about the kept ones."""


def build(
    debates: Iterable[Debate],
    verdicts: Mapping[TurnKey, Verdict],
    *,
    kind: Kind = "rsft",
    config: ExamplesConfig,
    wording: Wording,
    source_fingerprint: str,
    selections: Mapping[str, Selection] | None = None,
) -> tuple[list[SFTExample], Counts]:
    """Examples of one kind from many debates (a shard of them: they are held in memory), and the counts by fate.

    Candidates are the final round's turns and, with include_summary, the summary (not for augmentation, nor for the
    first round of rsft). Fates: `kept`, the statuses other than ok, `incorrect`, `undecided`, `unverified` (no verdict)
    or, by majority, `minority`, `duplicate` and `near_duplicate` (the text of another one of the question, or hardly a
    word differs); for rsft `over_cap` and `not_asked_for` (by rsft_traces); for answer `same_question`; for
    augmentation `few_correct` (fewer than two agents are right, so the question is left out) and `same_structure`.
    Beside them `corrective` (of the kept) and, for augmentation, `k1`, `k2`, `k3`: questions with so many chosen
    traces. An augmented example weighs 1/k.

    selections: what an LLM chose of the debates with two or more different correct traces, by work_id, and then one of
    SELECTORS beside the fates; None: the rules choose.
    """
    total: Counter[str] = Counter(candidates=0, kept=0, corrective=0, duplicate=0, near_duplicate=0)
    examples: list[SFTExample] = []
    for debate, distinct, right in distinct_correct(debates, verdicts, kind=kind, config=config, counts=total):
        wrong_before = _wrong_before(debate, verdicts, rounds=_rounds(kind, config))
        if kind == "rsft":
            kept, left = _capped(distinct, wrong_before=wrong_before, config=config)
        elif kind == "augmentation":
            selection = selections[debate.work_id] if selections is not None and len(distinct) > 1 else None
            kept, left = _diverse(distinct, right=right, selection=selection, config=config)
        else:
            kept, left = distinct[:1], {"same_question": len(distinct[1:])}
        total.update(left)
        total.update(kept=len(kept), corrective=sum(turn.agent in wrong_before for turn in kept))
        examples += [
            _example(
                debate,
                turn,
                completion=ANSWER.format(gold=debate.problem.gold) if kind == "answer" else turn.text,
                corrective=turn.agent in wrong_before,
                weight=1 / len(kept) if kind == "augmentation" else 1.0,
                wording=wording,
                source=source_fingerprint,
            )
            for turn in kept
        ]
    fates = sum(number for fate, number in total.items() if fate not in BESIDE)
    if fates != total["candidates"]:
        raise DataError(f"{kind}: {total['candidates']} candidate traces in, {fates} accounted for: {dict(total)}")
    return examples, dict(sorted(total.items()))


def distinct_correct(
    debates: Iterable[Debate],
    verdicts: Mapping[TurnKey, Verdict],
    *,
    kind: Kind,
    config: ExamplesConfig,
    counts: Counter[str],
) -> list[tuple[Debate, list[Turn], int]]:
    """Of every debate its different correct candidates, of agents that were wrong before first, then the summary; and
    how many were right, repeats included. `candidates` and the fates of the others are added to counts."""
    found = [(debate, _correct(debate, verdicts, kind=kind, config=config, counts=counts)) for debate in debates]
    # Of kind answer only the first is used.
    repeats = {} if kind == "answer" else _repeats([turn for _, correct in found for turn in correct])
    counts.update(repeats.values())
    return [(debate, [turn for turn in correct if turn.key not in repeats], len(correct)) for debate, correct in found]


def _correct(
    debate: Debate, verdicts: Mapping[TurnKey, Verdict], *, kind: Kind, config: ExamplesConfig, counts: Counter[str]
) -> list[Turn]:
    """The correct candidates: of agents that were wrong before, other agents, the summary. The others are counted."""
    first = _rounds(kind, config) == "first"
    candidates = [turn for turn in debate.turns if turn.role == "agent" and turn.round == 1] if first else []
    candidates = candidates or list(debate.final_turns)
    agents = list(candidates)
    if kind != "augmentation" and config.include_summary and debate.summary is not None and not first:
        candidates.append(debate.summary)
    if kind == "rsft" and config.select == "majority":
        voted = majority([turn.answer for turn in agents], task=debate.problem.task)
        reasons = [_outvoted(turn, voted, task=debate.problem.task) for turn in candidates]
    else:
        reasons = [refusal(turn, verdicts) for turn in candidates]
    counts.update(candidates=len(candidates))
    counts.update(filter(None, reasons))
    correct = [turn for turn, reason in zip(candidates, reasons, strict=True) if not reason]
    wrong_before = _wrong_before(debate, verdicts, rounds=_rounds(kind, config))
    return sorted(correct, key=lambda turn: (turn.agent not in wrong_before, turn.role == "summariser", turn.agent))


def _rounds(kind: Kind, config: ExamplesConfig) -> Literal["last", "first"]:
    return config.round if kind == "rsft" else "last"


def _repeats(turns: Sequence[Turn]) -> dict[TurnKey, str]:
    """The turns that repeat an earlier one of the same question, and how."""
    matches = near_duplicate_traces([turn.text for turn in turns], [turn.work_id for turn in turns])
    return {turns[match.index].key: "duplicate" if match.rule == "exact" else "near_duplicate" for match in matches}


def _capped(distinct: list[Turn], *, wrong_before: set[int], config: ExamplesConfig) -> tuple[list[Turn], Counts]:
    """What R-SFT learns from (Eq. 1), corrective first, and the fates of the rest."""
    match config.rsft_traces:
        case "all":
            used = distinct
        case "first":
            used = sorted(distinct, key=lambda turn: (turn.round, turn.agent))[:1]
        case "corrective":
            used = [turn for turn in distinct if turn.agent in wrong_before]
        case "uncorrected":
            used = [turn for turn in distinct if turn.agent not in wrong_before]
    kept = used[: config.max_per_problem] if config.max_per_problem else used
    left = {"over_cap": len(used) - len(kept)}
    return kept, left if config.rsft_traces == "all" else {**left, "not_asked_for": len(distinct) - len(used)}


def _diverse(
    distinct: list[Turn], *, right: int, selection: Selection | None, config: ExamplesConfig
) -> tuple[list[Turn], Counts]:
    """The structurally different turns that data augmentation learns from (Eq. 2), and the fates of the rest.

    right: agents that are right, whether with a text of their own or not.
    """
    if right < MIN_CORRECT_AGENTS:
        return [], {"few_correct": len(distinct)}
    counts = {}
    if selection is None:
        chosen = [distinct[place] for place in diverse([t.text for t in distinct], limit=config.augmentation_traces)]
    else:
        by_key = {(turn.round, turn.agent): turn for turn in distinct}
        chosen = [by_key[key] for key in selection.turns]
        counts[SELECTORS[selection.by]] = 1
    return chosen, {"same_structure": len(distinct) - len(chosen), f"k{len(chosen)}": 1, **counts}


def refusal(turn: Turn, verdicts: Mapping[TurnKey, Verdict]) -> str:
    """Why a turn may not be trained on: its status, `unverified`, or a verdict other than correct; empty if it may."""
    if turn.status != "ok":
        return turn.status
    verdict = verdicts.get(turn.key)
    if verdict is None:
        return "unverified"
    return "" if verdict.label == "correct" else verdict.label


def _outvoted(turn: Turn, voted: str | None, *, task: str) -> str:
    """Why a turn is not one of the majority; empty if it is. What is true plays no part."""
    if turn.status != "ok":
        return turn.status
    agrees = voted is not None and turn.answer is not None and equivalent(turn.answer, voted, task=task)
    return "" if agrees else "minority"


def _wrong_before(debate: Debate, verdicts: Mapping[TurnKey, Verdict], *, rounds: Literal["last", "first"]) -> set[int]:
    """Agents that the verifier found incorrect in a round before the candidates' (the summariser speaks once)."""
    wrong: set[int] = set()
    for turn in debate.turns if rounds == "last" else ():
        verdict = verdicts.get(turn.key)
        if turn.role == "agent" and turn.round < debate.final_round and verdict and verdict.label == "incorrect":
            wrong.add(turn.agent)
    return wrong


def _example(
    debate: Debate, turn: Turn, *, completion: str, corrective: bool, weight: float, wording: Wording, source: str
) -> SFTExample:
    messages = prompts.first_answer(debate.problem.question, wording=wording)
    return SFTExample(
        example_id=example_id(turn, source=source),
        problem_id=turn.problem_id,
        prompt=tuple((message["role"], message["content"]) for message in messages),
        completion=completion,
        source_fingerprint=source,
        work_id=turn.work_id,
        round=turn.round,
        agent=turn.agent,
        corrective=corrective,
        weight=weight,
    )


def example_id(turn: Turn, *, source: str) -> str:
    """16 hex digits that name a row made from a turn of the debate run source."""
    key = f"{source}\0{turn.work_id}\0{turn.round}\0{turn.agent}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


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
