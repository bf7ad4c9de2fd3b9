"""Verified debates -> labelled steps that a process reward model learns from (Eq. 7, method.md section 3).

    completions                                labels          weights     negatives
    ["Step 1: 3 + 4 = 7\n", "Hm.\n", "7 .."]   [1.0, 0.0, 0.5] [1, 0, 1]   [[{"example_id": "9f..", "step": 0}], [], ..]

One row is one trace, in the columns of TRL's stepwise supervision; its steps join to the trace. A label is a value from
0 (wrong) to 1 (right), between them only with soft labels; a step without one has weight 0 and its `labels` entry, 0,
says nothing. `negatives` are r- of Eq. 7: for every positive step, wrong steps from the traces of *other agents* on the
same question, as row and step number. Eq. 7 knows two sides: a label of at least 1/2 is positive, one below negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from agentark_core import prompts
from agentark_core.config import ExamplesConfig
from agentark_core.errors import DataError
from agentark_core.examples import MESSAGES, example_id, refusal
from agentark_core.prompts import Wording
from agentark_core.records import TurnKey
from agentark_core.step_labels import StepLabel, evidence_labels, exact_labels, rollout_labels
from agentark_core.types import Debate, Reached, Turn, Verdict

PROCESS_VERSION = "process-2"
"""Changes with the labels and the choice of negatives: part of the fingerprint."""

BESIDE = ("candidates", "positive", "negative", "silent", "contrasts")
"""Counts that are no fate of a candidate."""

NEGATIVE = pa.struct([pa.field("example_id", pa.string(), False), pa.field("step", pa.int32(), False)])


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("example_id", pa.string()),
            ("problem_id", pa.string()),
            ("prompt", MESSAGES),
            ("completions", _list(pa.string())),
            ("labels", _list(pa.float64())),
            ("weights", _list(pa.float64())),
            ("reasons", _list(pa.string())),
            ("negatives", _list(_list(NEGATIVE))),
            ("correct", pa.bool_()),
            ("source_fingerprint", pa.string()),
            ("work_id", pa.string()),
            ("round", pa.int32()),
            ("agent", pa.int32()),
        )
    ]
)
"""reasons: why each step has its label (step_labels.Reason); correct: the verdict on the trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A trace with its labelled steps. labels: their values from 0 to 1, None: unlabelled. right, wrong: numbers of the
    steps on either side of 1/2."""

    example_id: str
    turn: Turn
    correct: bool
    steps: list[StepLabel]
    labels: list[float | None]
    right: list[int]
    wrong: list[int]

    def position(self, number: int) -> float:
        """Of the middle of a step: 0 to 1."""
        return (number + 0.5) / len(self.steps)


Counts = dict[str, int]


def build(
    debates: Sequence[Debate],
    verdicts: Mapping[TurnKey, Verdict],
    *,
    config: ExamplesConfig,
    wording: Wording,
    source_fingerprint: str,
    rollouts: Mapping[TurnKey, Sequence[Reached]] | None = None,
) -> tuple[pa.Table, Counts]:
    """The table, and the counts: `candidates` and their fates (`kept`, statuses other than ok, `undecided`,
    `unverified`, `duplicate`: the text of an earlier row of the question, `unlabelled`: no step has a label); beside
    them, of the kept, `positive`, `negative` and `silent` steps, and `contrasts`: positive steps with a negative.

    rollouts: of every trace with a verdict, if step_labels asks for them (step_rollouts.py).
    Raises DataError if step_labels is `exact` and a question is not arkling's, or needs rollouts and has none.
    """
    counts: Counter[str] = Counter(candidates=0, kept=0)
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for debate in debates:
        prompt = prompts.first_answer(debate.problem.question, wording=wording)
        rows = _rows(debate, verdicts, config=config, source=source_fingerprint, rollouts=rollouts, counts=counts)
        for row in rows:
            negatives = [_negatives(row, number, rows=rows, config=config) for number in range(len(row.steps))]
            counts.update(
                positive=len(row.right),
                negative=len(row.wrong),
                silent=row.labels.count(None),
                contrasts=sum(map(bool, negatives)),
            )
            values = {
                "example_id": row.example_id,
                "problem_id": row.turn.problem_id,
                "prompt": prompt,
                "completions": [row.turn.text[step.start : step.end] for step in row.steps],
                "labels": [label or 0.0 for label in row.labels],
                "weights": [0.0 if label is None else 1.0 for label in row.labels],
                "reasons": [step.reason for step in row.steps],
                "negatives": negatives,
                "correct": row.correct,
                "source_fingerprint": source_fingerprint,
                "work_id": row.turn.work_id,
                "round": row.turn.round,
                "agent": row.turn.agent,
            }
            for name, value in values.items():
                columns[name].append(value)
    return pa.table(columns, schema=SCHEMA), dict(sorted(counts.items()))


def candidates(debate: Debate, *, config: ExamplesConfig) -> list[Turn]:
    """The turns of one question whose steps are labelled, if they have a verdict."""
    agents = [turn for turn in debate.turns if turn.role == "agent"]
    turns = agents if config.negatives == "any_round" else list(debate.final_turns)
    if config.include_summary and debate.summary is not None:
        turns.append(debate.summary)
    return turns


def refused(turn: Turn, verdicts: Mapping[TurnKey, Verdict]) -> str:
    """Why a candidate gets no labels; empty if it has a verdict, right or wrong."""
    reason = refusal(turn, verdicts)
    return "" if reason == "incorrect" else reason


def _rows(
    debate: Debate,
    verdicts: Mapping[TurnKey, Verdict],
    *,
    config: ExamplesConfig,
    source: str,
    rollouts: Mapping[TurnKey, Sequence[Reached]] | None,
    counts: Counter[str],
) -> list[_Row]:
    """The traces of one question that have a label, with their labels; the fates of all are added to counts."""
    turns = candidates(debate, config=config)
    counts["candidates"] += len(turns)
    reasons = [refused(turn, verdicts) for turn in turns]
    counts.update(filter(None, reasons))
    decided = [(turn, verdicts[turn.key]) for turn, reason in zip(turns, reasons, strict=True) if not reason]
    # Labels first: two agents with one text are witnesses of each other.
    labelled = _labels(debate, decided, how=config.step_labels, rollouts=rollouts)
    rows: dict[str, _Row] = {}
    for (turn, verdict), steps in zip(decided, labelled, strict=True):
        if turn.text in rows:
            counts["duplicate"] += 1
        elif all(step.label is None for step in steps):
            counts["unlabelled"] += 1
        else:
            labels = [_value(step, soft=config.step_labels.startswith("soft")) for step in steps]
            rows[turn.text] = _Row(
                example_id=example_id(turn, source=source),
                turn=turn,
                correct=verdict.label == "correct",
                steps=steps,
                labels=labels,
                right=[number for number, label in enumerate(labels) if label is not None and label >= 0.5],
                wrong=[number for number, label in enumerate(labels) if label is not None and label < 0.5],
            )
    counts["kept"] += len(rows)
    return list(rows.values())


def _value(step: StepLabel, *, soft: bool) -> float | None:
    return step.soft if soft or step.label is None else float(step.label)


def _labels(
    debate: Debate,
    decided: list[tuple[Turn, Verdict]],
    *,
    how: str,
    rollouts: Mapping[TurnKey, Sequence[Reached]] | None,
) -> list[list[StepLabel]]:
    texts = [turn.text for turn, _ in decided]
    if how == "exact":
        return [exact_labels(text, question=debate.problem.question) for text in texts]
    labels = [verdict.label for _, verdict in decided]
    if how.endswith("rollouts"):
        if rollouts is None:
            raise DataError(f"step_labels is {how} and there are no rollouts; extract with a flow, which makes them")
        return [
            rollout_labels(turn.text, rollouts[turn.key], correct=label == "correct")
            for (turn, _), label in zip(decided, labels, strict=True)
        ]
    return evidence_labels(texts, labels, question=debate.problem.question, task=debate.problem.task)


def _negatives(row: _Row, number: int, *, rows: list[_Row], config: ExamplesConfig) -> list[dict[str, object]]:
    """One wrong step from each incorrect trace of another agent, for a positive step; none for any other."""
    if number not in row.right:
        return []
    found = []
    for other in rows:
        if other.correct or other.turn.agent == row.turn.agent or not other.wrong:
            continue
        step = other.wrong[0]
        if config.negatives != "first_wrong":
            step = min(other.wrong, key=lambda wrong: abs(other.position(wrong) - row.position(number)))
        found.append({"example_id": other.example_id, "step": step})
    return found
