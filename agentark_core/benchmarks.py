"""The published row formats of the benchmarks: one function each, from a raw row to question, gold and task.

    {"question": "Ann has ...", "answer": "3 + 4 = 7\\n#### 7"}  ->  RowParts(question="Ann has ...", gold="7", ...)

A row that does not fit raises RejectedRow with the reason. Columns beyond the question and the gold that help to read
a report (level, subject, type) go into meta.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agentark_core.errors import DataError
from agentark_core.rows import PlacedRow, RejectedRow, check_text, text_of

NUMBER = re.compile(r"[-+]?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)")
BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
CHOICES = ("opa", "opb", "opc", "opd")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowParts:
    """What is read from one row. row_id is the user's own id (empty: the id follows from the content).

    context: what the question is about; solution: worked steps to the gold, if the row has them (for worked examples);
    references, wrong_references: see types.Problem.
    """

    question: str
    gold: str
    task: str
    meta: dict[str, str] = field(default_factory=dict)
    row_id: str = ""
    context: str = ""
    solution: str = ""
    references: tuple[str, ...] = ()
    wrong_references: tuple[str, ...] = ()


def gsm8k(row: dict[str, Any]) -> RowParts:
    """{"question": ..., "answer": "steps\\n#### 1,200"} -> gold "1200"."""
    answer = text_of(row, "answer")
    if "####" not in answer:
        raise RejectedRow("answer: no gold, it does not end with '#### N'")
    gold = gold_of(answer, task="gsm8k")
    return RowParts(question=text_of(row, "question"), gold=gold, task="gsm8k", solution=answer)


def math(row: dict[str, Any]) -> RowParts:
    """{"problem": ..., "solution": "... \\boxed{2}", "level": ..., "type" or "subject": ...}, optional "answer".

    The box of the solution comes before `answer`: they agree in MATH-500, but copies of the training split carry an
    `answer` stripped of spaces and row breaks ("\\frac{\\}{p}i2", "-80\\leqg(x)"), wrong or broken in about ten rows.
    Two solutions of the training split box nothing and are bad rows.
    """
    solution = text_of(row, "solution") if row.get("answer") is None or "solution" in row else ""
    answer = "" if row.get("answer") is None else text_of(row, "answer", allow_empty=True).strip()
    gold = last_boxed(solution) or answer
    if not gold:
        raise RejectedRow("no gold: neither a filled \\boxed{...} in the solution nor an answer")
    meta = meta_of(row, "level", "type", "subject", "unique_id")
    return RowParts(question=text_of(row, "problem"), gold=gold, task="math", meta=meta, solution=solution)


def medmcqa(row: dict[str, Any], *, base: int) -> RowParts:
    """{"question": ..., "opa".."opd": choices, "cop": 0..3 on the hub, 1..4 in the authors' release} -> gold A..D.

    base is what `cop_base` found for the whole file.
    """
    cop = _cop(row)
    if cop == -1:
        raise RejectedRow("no gold: cop is -1 (the published test split hides its answers; use train or dev)")
    if cop is None or not base <= cop < base + 4:
        raise RejectedRow(f"cop: expected a whole number from {base} to {base + 3}, found {str(row.get('cop'))[:20]!r}")
    choices = [f"{letter}. {text_of(row, key)}" for letter, key in zip("ABCD", CHOICES, strict=True)]
    question = check_text("\n".join([text_of(row, "question"), *choices]), name="question with its choices")
    meta = meta_of(row, "id", "subject_name", "topic_name")
    return RowParts(question=question, gold="ABCD"[cop - base], task="medmcqa", meta=meta)


def cop_base(rows: Iterator[PlacedRow], *, source: str) -> int:
    """0 if MedMCQA's `cop` counts from 0 (the hub's Parquet), 1 if from 1 (the authors' JSON files).

    The whole file decides: only the first form holds a 0, only the second a 4. DataError if both or neither occur.
    """
    found = {_cop(row) for _, row in rows if isinstance(row, dict)} & {0, 1, 2, 3, 4}
    if found and (0 in found) == (4 in found):
        seen = "both 0 and 4" if 0 in found else "neither 0 nor 4"
        raise DataError(
            f"{source}: cop holds {seen}, so it cannot be told whether choice A is 0 or 1; "
            "give the whole published file, or your own with letters as source `file` and task `medmcqa`"
        )
    return 0 if 0 in found else 1


def _cop(row: dict[str, Any]) -> int | None:
    cop = row.get("cop")
    if isinstance(cop, str) and re.fullmatch(r"-?[0-9]", cop):  # CSV
        return int(cop)
    return cop if type(cop) is int else None


def metamath(row: dict[str, Any]) -> RowParts:
    """{"query": ..., "response": "... The answer is: 7", "type": "GSM_..." or "MATH_...", "original_question": ...}.

    Also MetaMath's backward questions {"question": ..., "answer": "7"}, which carry no type and all come from GSM8K.
    """
    if "query" not in row:
        gold = gold_of(text_of(row, "answer"), task="gsm8k")
        return RowParts(question=text_of(row, "question"), gold=gold, task="gsm8k")
    kind = text_of(row, "type")
    task = {"GSM": "gsm8k", "MATH": "math"}.get(kind.partition("_")[0])
    if task is None:
        raise RejectedRow(f"type: expected GSM_... or MATH_..., found {kind[:40]!r}")
    response = text_of(row, "response")
    _, marker, tail = response.rpartition("The answer is:")
    if not marker or not tail.strip():
        raise RejectedRow("response: no gold, it does not end with 'The answer is: X'")
    gold, meta = gold_of(tail, task=task), meta_of(row, "type")
    return RowParts(question=text_of(row, "query"), gold=gold, task=task, meta=meta, solution=response)


def gold_of(text: str, *, task: str) -> str:
    """The gold in a recorded answer: after `####` (gsm8k), in the last \\boxed{...} (math), else the text itself.

    Commas inside a number are dropped ("1,200" -> "1200"). RejectedRow if nothing is left.
    """
    gold = text.strip()
    if task in ("gsm8k", "number"):
        if "####" in text:
            gold = text.rpartition("####")[2].strip()
            if not NUMBER.fullmatch(gold):
                raise RejectedRow(f"no gold: {gold[:40]!r} after '####' is not a number")
        if NUMBER.fullmatch(gold):
            gold = gold.replace(",", "")
    elif task == "math" and "\\boxed" in text:
        gold = last_boxed(text)
    if not gold:
        raise RejectedRow("no gold: the answer is empty, or its \\boxed{ is not closed")
    return gold


def last_boxed(text: str) -> str:
    """Content of the last \\boxed{...} with balanced braces (escaped ones do not count); "" if none is closed."""
    _, marker, tail = text.rpartition("\\boxed")
    if marker and not tail.startswith("{"):  # two MATH solutions end in `$\boxed 9$`
        return tail.split("$")[0].strip()
    depth = 0
    for brace in BRACES.finditer(tail if marker else ""):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return tail[1 : brace.start()].strip()
    return ""


def meta_of(row: dict[str, Any], *keys: str) -> dict[str, str]:
    """The named columns as text; those that are missing, null or empty are left out."""
    meta = {}
    for key in keys:
        value = row.get(key)
        if value is not None and value != "":
            meta[key] = str(value) if type(value) is int else text_of(row, key)
    return meta
