"""Row formats of the benchmarks whose answers are prose, and of TruthfulQA's multiple choice.

    {"question": "Who ...?", "answer": "Ann", "context": {"title": [...], "sentences": [[...]]}}     HotpotQA
      -> RowParts(question="Who ...?", context="Title\\n...", gold="Ann", references=("Ann",), task="hotpotqa")

A row of QASPER, QMSum and L-Eval holds a document with many questions: `expand` gives one row for each of them. The
same question asked twice about one document is one row with the references of both. As in benchmarks.py, whatever
does not fit raises RejectedRow.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentark_core.benchmark_prompts import asked
from agentark_core.benchmarks import RowParts, meta_of
from agentark_core.rows import PlacedRow, RejectedRow, bad_row, check_text, text_of
from agentark_core.types import BadRow

Expanded = Iterator[dict[str, Any]]

NO_COMMENT = "I have no comment."
READ_ANEW = {"truthfulqa": "references-2"}
"""Source -> mark in the revision of its questions, where a rule of this file that makes other questions has changed."""


def hotpotqa(row: dict[str, Any]) -> RowParts:
    """The hub's rows (context of titles and sentences), or the authors' own ([[title, [sentence, ...]], ...])."""
    context = row.get("context")
    if isinstance(context, dict):
        titles, bodies = _list(context, "title"), _list(context, "sentences")
    else:
        pairs = [pair for pair in _list(row, "context") if isinstance(pair, list) and len(pair) == 2]
        titles, bodies = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not titles or len(titles) != len(bodies):
        raise RejectedRow(f"context: {len(titles)} titles and {len(bodies)} paragraphs; expected one of each")
    paragraphs = [
        f"{check_text(title, name='title')}\n{''.join(_texts(body, name='sentences')).strip()}"
        for title, body in zip(titles, bodies, strict=True)
    ]
    answer = text_of(row, "answer").strip()
    return RowParts(
        question=text_of(row, "question").strip(),
        context=check_text("\n\n".join(paragraphs), name="context"),
        gold=answer,
        references=(answer,),
        task="hotpotqa",
        meta=meta_of(row, "type", "level", "id", "_id"),
    )


def qasper_questions(row: dict[str, Any]) -> Expanded:
    """A paper of allenai/qasper, or an L-Eval row {"instructions": [...], "outputs": [...], "input": paper}.

    References of a question are those of all annotators, as the official scorer reads them: the spans joined by
    commas, the free-form answer, Yes or No, or Unanswerable.
    """
    if "instructions" in row:
        questions, outputs = (
            _texts(row["instructions"], name="instructions"),
            _texts(row.get("outputs"), name="outputs"),
        )
        if len(questions) != len(outputs):
            raise RejectedRow(f"{len(questions)} instructions and {len(outputs)} outputs; expected one of each")
        asked_of = [_Asked(question, [output]) for question, output in zip(questions, outputs, strict=True)]
        yield from _merged(asked_of, context=text_of(row, "input"))
        return
    qas = row.get("qas")
    if not isinstance(qas, dict):
        raise RejectedRow("no field 'qas' of questions (nor L-Eval's 'instructions')")
    questions, answers = _texts(qas.get("question"), name="qas.question"), _list(qas, "answers")
    if len(questions) != len(answers):
        raise RejectedRow(f"qas: {len(questions)} questions and {len(answers)} answers; expected one of each")
    ids = _texts(qas.get("question_id"), name="qas.question_id")
    if len(ids) != len(questions):
        raise RejectedRow(f"qas: {len(questions)} questions and {len(ids)} ids; expected one of each")
    asked_of = [
        _Asked(question, [_qasper_answer(one) for one in _list(_object(entry), "answer")], {"id": name})
        for question, entry, name in zip(questions, answers, ids, strict=True)
    ]
    yield from _merged(asked_of, context=_paper(row))


def qmsum_queries(row: dict[str, Any]) -> Expanded:
    """A meeting {"meeting_transcripts": [{"speaker", "content"}], "general_query_list": [{"query", "answer"}], ...}.

    Every query sees the whole transcript, also the specific ones (their spans are not used).
    """
    lines = [
        f"{text_of(said, 'speaker')}: {text_of(said, 'content', allow_empty=True).strip()}"
        for said in map(_object, _list(row, "meeting_transcripts"))
    ]
    context = check_text("\n".join(lines), name="meeting_transcripts")
    queries = [
        _Asked(text_of(query, "query"), [text_of(query, "answer")], {"kind": kind})
        for kind in ("general", "specific")
        for query in map(_object, _list(row, f"{kind}_query_list"))
    ]
    yield from _merged(queries, context=context)


def document(row: dict[str, Any], *, task: str) -> RowParts:
    """One question of a document, as `expand` gives it."""
    references = tuple(text.strip() for text in _texts(row.get("references"), name="references") if text.strip())
    if not references:
        raise RejectedRow("no gold: the question has no answer")
    return RowParts(
        question=text_of(row, "question").strip(),
        context=text_of(row, "context"),
        gold=references[0],
        references=references,
        task=task,
        meta=meta_of(row, "kind"),
        row_id=str(row["id"]) if row.get("id") else "",
    )


EXPAND: dict[str, Callable[[dict[str, Any]], Expanded]] = {"qasper": qasper_questions, "qmsum": qmsum_queries}
"""Source -> what makes rows of its documents."""


def expand(rows: Iterator[PlacedRow], *, source: str) -> Iterator[PlacedRow]:
    """One row a question, under the place of its document; a document that cannot be read is one BadRow."""
    if source not in EXPAND:
        yield from rows
        return
    for place, row in rows:
        if isinstance(row, BadRow):
            yield place, row
            continue
        try:
            questions = list(EXPAND[source](row))
            if not questions:
                raise RejectedRow("a document without questions")
        except RejectedRow as error:
            yield place, bad_row(row, file=place.file, number=place.row, reason=str(error))
        else:
            yield from ((place, question) for question in questions)


def truthfulqa(row: dict[str, Any]) -> RowParts:
    """Generation: the authors' CSV (answers separated by `;`) or the hub's rows (lists).

    Answers end with a full stop, and to have no comment is true, as the scorers of the authors and of
    lm-evaluation-harness want it; the best answer comes first and is the gold.
    """
    if "Best Answer" in row:
        question, best = text_of(row, "Question"), text_of(row, "Best Answer")
        right = text_of(row, "Correct Answers").split(";")
        wrong = text_of(row, "Incorrect Answers").split(";")
        meta = meta_of(row, "Type", "Category")
    else:
        question, best = text_of(row, "question"), text_of(row, "best_answer")
        right = _texts(row.get("correct_answers"), name="correct_answers")
        wrong = _texts(row.get("incorrect_answers"), name="incorrect_answers")
        meta = meta_of(row, "type", "category")
    references = tuple(dict.fromkeys(closed(text) for text in (best, *right, NO_COMMENT) if text.strip()))
    return RowParts(
        question=question.strip(),
        gold=references[0],
        references=references,
        wrong_references=tuple(dict.fromkeys(closed(text) for text in wrong if text.strip())),
        task="truthfulqa",
        meta=meta,
    )


def closed(text: str) -> str:
    """The text with a full stop."""
    text = text.strip()
    return text if text.endswith(".") else f"{text}."


def truthfulqa_mc(row: dict[str, Any]) -> RowParts:
    """Multiple choice with one right option (mc1): {"question", "mc1_targets": {option: 1 or 0}}, or the hub's lists.

    Options are numbered, because there are up to 13 and letters end at H, and shuffled by the question's own hash: the
    published order has the right one first. The gold is its number.
    """
    question, targets = text_of(row, "question").strip(), row.get("mc1_targets")
    if isinstance(targets, dict) and isinstance(targets.get("choices"), list):
        options, labels = _texts(targets["choices"], name="choices"), _list(targets, "labels")
    elif isinstance(targets, dict):
        options, labels = [check_text(option, name="option") for option in targets], list(targets.values())
    else:
        raise RejectedRow("no field 'mc1_targets' of options")
    if len(options) != len(labels) or sum(label == 1 for label in labels) != 1 or len(options) < 2:
        raise RejectedRow(f"mc1_targets: {len(options)} options, labels {str(labels)[:40]}; expected exactly one 1")
    right = options[labels.index(1)]
    if options.count(right) > 1:
        raise RejectedRow("mc1_targets: the right option comes twice")
    random.Random(hashlib.sha256(question.encode()).hexdigest()).shuffle(options)
    numbered = [f"{number}. {option}" for number, option in enumerate(options, start=1)]
    text = check_text("\n".join([question, *numbered]), name="question with its options")
    return RowParts(
        question=asked("truthfulqa_mc", question=text),
        gold=str(options.index(right) + 1),
        task="number",
        meta={"options": str(len(options))},
    )


# ---- parts of rows


def _paper(row: dict[str, Any]) -> str:
    """Title, abstract and sections of a QASPER paper."""
    sections = row.get("full_text")
    if not isinstance(sections, dict):
        raise RejectedRow("no field 'full_text' of sections")
    names, bodies = _list(sections, "section_name"), _list(sections, "paragraphs")
    if len(names) != len(bodies):
        raise RejectedRow(f"full_text: {len(names)} names and {len(bodies)} sections; expected one of each")
    parts = [text_of(row, "title"), text_of(row, "abstract", allow_empty=True)]
    for name, body in zip(names, bodies, strict=True):  # an unnamed section is null
        heading = "" if name is None else check_text(name, name="section_name", allow_empty=True)
        parts += [heading, *_texts(body, name="paragraphs")]
    return check_text("\n\n".join(part.strip() for part in parts if part.strip()), name="paper")


def _qasper_answer(answer: object) -> str:
    """One annotator's answer, in the order of the official scorer (get_answers_and_evidence)."""
    fields = _object(answer)
    if fields.get("unanswerable") is True:
        return "Unanswerable"
    spans = _texts(fields.get("extractive_spans") or [], name="extractive_spans")
    if spans:
        return ", ".join(spans)
    free = fields.get("free_form_answer")
    if free:
        return check_text(free, name="free_form_answer")
    if type(fields.get("yes_no")) is bool:
        return "Yes" if fields["yes_no"] else "No"
    raise RejectedRow("an annotation without an answer")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question about a document, with its answers and further columns of its row."""

    question: str
    answers: list[str]
    more: dict[str, str] = field(default_factory=dict)


def _merged(asked_of: list[_Asked], *, context: str) -> Expanded:
    """One row a different question of a document; columns are those of the first time it is asked."""
    rows: dict[str, dict[str, Any]] = {}
    for one in asked_of:
        question = one.question.strip()
        row = rows.setdefault(question, {"question": question, "context": context, "references": [], **one.more})
        row["references"] += [answer for answer in one.answers if answer not in row["references"]]
    yield from rows.values()


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedRow(f"expected an object, found a {type(value).__name__}")
    return value


def _list(row: dict[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list):
        raise RejectedRow(f"{key}: expected a list, found {type(value).__name__}")
    return value


def _texts(value: object, *, name: str) -> list[str]:
    if not isinstance(value, list):
        raise RejectedRow(f"{name}: expected a list of texts, found {type(value).__name__}")
    return [check_text(text, name=name, allow_empty=True) for text in value]
