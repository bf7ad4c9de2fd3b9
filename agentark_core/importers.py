"""Recorded debates of other projects -> Debate records, so that logs already paid for can be distilled.

    format llm-multiagent-debate: {"id": ..., "question": ..., "answer": "... #### 18", "agents": [[chat], [chat], ...]}
        one whole chat (user and assistant turns) per agent; assistant turn k of agent i is its round k.
        A .json file may hold the original layout instead: one object {question: [[chat, chat, ...], gold]}.
    format agentark: {"query": ..., "gt": "18", "response": "===== Solution 1 =====\\n...===== Solution 2 =====\\n..."}
        or labelled, {"query": ..., "gt": ..., "solutions": [{"id": 1, "text": ..., "is_correct": true}], ...};
        the log keeps one text per agent, imported as round 1.
    format maslab: {"query": ..., "gt": ..., "response": ...}: one agent, one round.

The logs count tokens per question or not at all, never per turn: all three token counts of an imported turn are -1,
"not known". Labels in a log are somebody else's verdicts and are not used: our verifier judges every turn again.
The same question may be recorded several times (one problem, several debates); an identical row may not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agentark_core.benchmarks import RowParts, gold_of
from agentark_core.config import check_name
from agentark_core.errors import ConfigError, DataError, EmptyDataset
from agentark_core.problems import make_problem
from agentark_core.rows import (
    RejectedRow,
    Row,
    bad_row,
    check_file,
    open_bytes,
    read_rows,
    scalar_text,
    starts_with,
    text_of,
)
from agentark_core.types import BadRow, Debate, Problem, Turn, TurnStatus

MAX_AGENTS = 64
MAX_FILE_BYTES = 256 * 1024 * 1024
UNKNOWN_TOKENS = -1

BANNER = re.compile(r"^={3,20} ?Solution (\d{1,3}) ?={3,20}[ \t\r]*$", re.MULTILINE)
LABEL = re.compile(r"^Solution (\d{1,3}):", re.MULTILINE)

Recording = tuple[RowParts, list[list[str]]]
"""Question with gold, and texts_A_R: what each agent said in each round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedDebates:
    """Every row of the file: a debate, or a bad row with its reason."""

    debates: tuple[Debate, ...]
    bad_rows: tuple[BadRow, ...]


def read_debates(path: Path, *, format: str, task: str = "gsm8k", dataset: str = "imported") -> ImportedDebates:
    """Read recorded debates. task names the rules that extract answers; dataset opens the problem ids.

    Raises ConfigError (unknown format, bad name), DataError (unreadable file) or EmptyDataset (no rows).
    """
    readers: dict[str, Callable[[dict[str, Any]], Recording]] = {
        "llm-multiagent-debate": partial(_chats, task=task),
        "agentark": partial(_solutions, task=task),
        "maslab": partial(_single, task=task),
    }
    if format not in readers:
        raise ConfigError(f"unknown format {format[:40]!r} of recorded debates; use one of {', '.join(readers)}")
    try:
        check_name(dataset)
    except ValueError as error:
        raise ConfigError(f"dataset: {error}") from None
    total = 0
    bad: list[BadRow] = []
    read: list[tuple[int, Debate]] = []
    golds: dict[str, dict[str, int]] = {}  # question -> gold -> first row with both
    rows_by_work: dict[str, int] = {}
    for number, row in _rows(path, format=format):
        total += 1
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            parts, texts_A_R = readers[format](row)
            debate = _debate(make_problem(parts, dataset=dataset, split="train"), texts_A_R, format=format)
            first = rows_by_work.setdefault(debate.work_id, number)
            if first != number:
                raise RejectedRow(f"identical to row {first}")
        except RejectedRow as error:
            bad.append(bad_row(row, file=str(path), number=number, reason=str(error)))
            continue
        read.append((number, debate))
        golds.setdefault(parts.question, {}).setdefault(parts.gold, number)
    if not total:
        raise EmptyDataset(f"{path}: no rows; name a file with recorded debates")
    debates = []
    for number, debate in read:
        others = [row for gold, row in golds[debate.problem.question].items() if gold != debate.problem.gold]
        if others:
            reason = f"same question as row {others[0]} with another gold"
            bad.append(bad_row(debate.problem.question, file=str(path), number=number, reason=reason))
        else:
            debates.append(debate)
    assert total == len(debates) + len(bad), "a row was lost or counted twice"
    return ImportedDebates(debates=tuple(debates), bad_rows=tuple(sorted(bad, key=lambda row: row.row)))


def split_solutions(response: str) -> list[str]:
    """The texts under the headers `===== Solution i =====`, or `Solution i:` if the response opens so, at line starts.

    Only headers that count 1, 2, 3, ... open a solution; any other number is a quotation and stays in the text.
    RejectedRow if no header is found, or if a number occurs again before the next one: then nothing tells which of
    the two is the header, and a guess could give one agent's text to another (F30).
    """
    pattern = LABEL if LABEL.match(response.lstrip()) or not BANNER.search(response) else BANNER
    starts: list[re.Match[str]] = []
    for header in pattern.finditer(response):
        number = int(header[1])
        if number == len(starts) + 1:
            starts.append(header)
        elif number == len(starts) and (number > 1 or response[: starts[0].start()].strip()):
            raise RejectedRow(f"response: header of solution {number} occurs twice, the agents cannot be told apart")
    if not starts:
        raise RejectedRow("response: no header 'Solution 1' at the start of a line")
    ends = [header.start() for header in starts[1:]] + [len(response)]
    return [response[header.end() : end].strip() for header, end in zip(starts, ends, strict=True)]


def _rows(path: Path, *, format: str) -> Iterator[Row]:
    name = path.name.lower().removesuffix(".gz")
    check_file(path)
    if format != "llm-multiagent-debate" or not name.endswith(".json") or not _is_object(path):
        yield from read_rows(path)
        return
    for number, (question, value) in enumerate(_whole_object(path).items(), start=1):
        if isinstance(value, list) and len(value) == 2:
            yield number, {"question": question, "agents": value[0], "answer": value[1]}
        else:
            reason = "expected [chats of the agents, gold answer]"
            yield number, bad_row({question: value}, file=str(path), number=number, reason=reason)


def _is_object(path: Path) -> bool:
    try:
        return starts_with(path, b"{")
    except (OSError, EOFError):
        return False  # read_rows says what is wrong


def _whole_object(path: Path) -> dict[str, Any]:
    try:
        with open_bytes(path) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise DataError(f"{path}: over {MAX_FILE_BYTES} bytes in one JSON object; write one debate a line (.jsonl)")
        return dict(json.loads(data.decode("utf-8-sig")))
    except DataError:
        raise
    except (OSError, EOFError, ValueError, RecursionError) as error:
        detail = str(error)[:100]
        raise DataError(f"{path}: not one whole JSON object ({detail}); name it .jsonl if it has one a line") from None


# ---- the formats: a row -> question, gold and texts_A_R


def _chats(row: dict[str, Any], *, task: str) -> Recording:
    gold = gold_of(scalar_text(row, "answer"), task=task)
    agents = row.get("agents")
    if not isinstance(agents, list) or not 1 <= len(agents) <= MAX_AGENTS:
        raise RejectedRow(f"agents: expected a list of 1 to {MAX_AGENTS} chats")
    texts_A_R = []
    for number, chat in enumerate(agents, start=1):
        if not isinstance(chat, list) or not all(
            isinstance(turn, dict) and turn.get("role") in ("system", "user", "assistant") for turn in chat
        ):
            raise RejectedRow(f"agents: chat of agent {number} is not a list of system, user and assistant turns")
        texts_A_R.append([text_of(turn, "content", allow_empty=True) for turn in chat if turn["role"] == "assistant"])
    rounds = {len(texts_R) for texts_R in texts_A_R}
    if len(rounds) != 1 or 0 in rounds:
        raise RejectedRow(f"agents: every agent must speak in every round, found {sorted(rounds)} assistant turns")
    meta = {"id": scalar_text(row, "id")} if row.get("id") is not None else {}
    return RowParts(question=text_of(row, "question"), gold=gold, task=task, meta=meta), texts_A_R


def _solutions(row: dict[str, Any], *, task: str) -> Recording:
    parts = _query(row, task=task)
    if "solutions" not in row:
        return parts, [[text] for text in split_solutions(text_of(row, "response"))]
    solutions = row["solutions"]
    if not isinstance(solutions, list) or not 1 <= len(solutions) <= MAX_AGENTS:
        raise RejectedRow(f"solutions: expected a list of 1 to {MAX_AGENTS} solutions")
    texts: dict[int, str] = {}
    for solution in solutions:
        number = solution.get("id") if isinstance(solution, dict) else None
        if type(number) is not int or number in texts:
            raise RejectedRow("solutions: expected objects {id, text, is_correct} with different whole numbers as id")
        texts[number] = text_of(solution, "text", allow_empty=True)
    if sorted(texts) != list(range(1, len(texts) + 1)):
        raise RejectedRow(f"solutions: ids must be 1 to {len(texts)}, found {sorted(texts)}"[:200])
    return parts, [[texts[number]] for number in sorted(texts)]


def _single(row: dict[str, Any], *, task: str) -> Recording:
    return _query(row, task=task), [[text_of(row, "response", allow_empty=True)]]


def _query(row: dict[str, Any], *, task: str) -> RowParts:
    if row.get("error") is not None:
        raise RejectedRow(f"the recorder's own error: {str(row['error'])[:100]!r}")
    return RowParts(question=text_of(row, "query"), gold=gold_of(scalar_text(row, "gt"), task=task), task=task)


# ---- Debate records


def _debate(problem: Problem, texts_A_R: list[list[str]], *, format: str) -> Debate:
    """work_id follows from the content alone: importing the same log twice gives the same keys."""
    from agentark_core import answers

    content = json.dumps(["import", format, problem.problem_id, texts_A_R])
    work_id = hashlib.sha256(content.encode()).hexdigest()[:32]
    turns = [
        _turn(texts_R[number - 1], problem=problem, work_id=work_id, round=number, agent=agent)
        for number in range(1, len(texts_A_R[0]) + 1)
        for agent, texts_R in enumerate(texts_A_R, start=1)
    ]
    last = [turn.answer for turn in turns[-len(texts_A_R) :]]
    decision = answers.majority(last, task=problem.task)
    return Debate(work_id=work_id, problem=problem, turns=tuple(turns), stop_reason="imported", answer=decision)


def _turn(text: str, *, problem: Problem, work_id: str, round: int, agent: int) -> Turn:
    from agentark_core import answers

    answer = answers.extract(text, task=problem.task)
    status: TurnStatus = "no_answer" if answer is None else "ok"
    return Turn(
        work_id=work_id,
        problem_id=problem.problem_id,
        round=round,
        agent=agent,
        seed=0,
        text=text,
        answer=answer,
        prompt_tokens=UNKNOWN_TOKENS,
        cached_tokens=UNKNOWN_TOKENS,
        completion_tokens=UNKNOWN_TOKENS,
        finish_reason="imported",
        status=status,
    )
