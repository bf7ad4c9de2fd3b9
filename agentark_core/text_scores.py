"""Scores of prose answers over a test set: means with intervals, paired differences, and what was cut from contexts.

    scores   {"base student greedy": {"hotpotqa-5a..": {"em": 0.0, "f1": 66.7, ...}, ...}, "distilled student ...": ...}
    a row    distilled student greedy, f1, n 100, 41.2 [33.0, 49.5], minus base student greedy +6.1 [+1.2, +11.0]

Every question counts: an answer that is missing or unfinished scores 0. Intervals are 95 %: percentile bootstrap
over questions (Wilson's where all values are 0 or 100), differences on the same questions (paired), against the first
method. Differences are not corrected for the
number of metrics, which move together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentark_core import markdown
from agentark_core.config import BertScoreConfig
from agentark_core.evaluation import wilson
from agentark_core.ledger import atomic_write_text
from agentark_core.mean_interval import Interval, mean_interval, show
from agentark_core.problems import CUT
from agentark_core.text_metrics import METRICS_VERSION
from agentark_core.types import Problem

Scores = Mapping[str, Mapping[str, float]]
"""problem_id -> metric -> 0 to 100 (differences: -100 to 100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One metric of one method over n questions. difference: minus the first method (there None)."""

    method: str
    metric: str
    n: int
    mean: float
    interval: Interval
    difference: float | None = None
    difference_interval: Interval = None


def summarise(scores: Mapping[str, Scores]) -> list[ScoreRow]:
    """A row for each method and metric, metric by metric. Methods must have answered the same questions."""
    baseline = next(iter(scores.values()))
    rows = []
    for metric in next(iter(baseline.values())):
        first = [values[metric] for values in baseline.values()]
        for method, answered in scores.items():
            found = [answered[problem_id][metric] for problem_id in baseline]
            paired = None if answered is baseline else [a - b for a, b in zip(found, first, strict=True)]
            rows.append(
                ScoreRow(
                    method=method,
                    metric=metric,
                    n=len(found),
                    mean=sum(found) / len(found),
                    interval=_interval(found),
                    difference=None if paired is None else sum(paired) / len(paired),
                    difference_interval=None if paired is None else mean_interval(paired),
                )
            )
    return rows


def read(folder: Path) -> list[ScoreRow]:
    """The rows of scores.json in a folder; empty without one."""
    path = folder / "scores.json"
    if not path.is_file():
        return []
    pairs = ("interval", "difference_interval")
    return [
        ScoreRow(**row | {name: None if row[name] is None else tuple(row[name]) for name in pairs})
        for row in json.loads(path.read_bytes())["rows"]
    ]


def _interval(values: Sequence[float]) -> Interval:
    """Wilson's for a share of questions (all 0 or 100), else the bootstrap's."""
    if set(values) <= {0.0, 100.0}:
        low, high = wilson(sum(value == 100 for value in values), len(values))
        return 100 * low, 100 * high
    return mean_interval(values)


def cut_note(questions: Sequence[Problem]) -> str:
    """How many contexts lost how many tokens; "" if none did."""
    removed = [int(problem.meta[CUT]) for problem in questions if CUT in problem.meta]
    if not removed:
        return ""
    whole = sum(int(problem.meta["context_tokens"]) for problem in questions if CUT in problem.meta)
    return (
        f"{len(removed)} of {len(questions)} contexts were longer than the budget and lost their middle: "
        f"{sum(removed)} of their {whole} tokens, at most {max(removed)} of one."
    )


def render_markdown(rows: Sequence[ScoreRow], *, note: str = "") -> str:
    """One table, a line for each metric and method."""
    header = ("metric", "method", "n", "mean [95 %]", "minus the first method [95 %]")
    lines = [
        (
            row.metric,
            row.method,
            str(row.n),
            show(row.mean, row.interval, form=".1f"),
            "-" if row.difference is None else show(row.difference, row.difference_interval, form="+.1f"),
        )
        for row in rows
    ]
    said = (
        "0 to 100; a missing or unfinished answer scores 0. Intervals: Wilson where all values are 0 or 100, else "
        "bootstrap over questions; [-]: values that do not vary have none. Differences are paired."
    )
    return "\n".join([markdown.table(header, lines, left=2), said, *([note] if note else []), ""])


def write(
    scores: Mapping[str, Scores],
    *,
    questions: Sequence[Problem],
    folder: Path,
    bert_score: BertScoreConfig | None = None,
) -> tuple[list[Path], str]:
    """scores.json (every question, and the rows) and scores.md in folder; also the Markdown itself."""
    rows, note = summarise(scores), cut_note(questions)
    data: dict[str, Any] = {
        "version": METRICS_VERSION,
        "rows": [asdict(row) for row in rows],
        "contexts": note,
        "questions": {name: dict(values) for name, values in scores.items()},
    }
    if bert_score is not None:
        data["bertscore"] = bert_score.model_dump()
        encoder = markdown.inline(Path(bert_score.path).name)
        note = f"{note} bertscore: F1, layer {bert_score.num_layers} of {encoder}, no idf, no rescaling.".strip()
    text = render_markdown(rows, note=note)
    atomic_write_text(folder / "scores.json", json.dumps(data, indent=2, sort_keys=True))
    atomic_write_text(folder / "scores.md", text)
    return [folder / "scores.json", folder / "scores.md"], text
