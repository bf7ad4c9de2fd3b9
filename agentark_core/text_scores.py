"""Scores of prose answers over a test set: means with intervals, paired differences, and what was cut from contexts.

    scores   {"base student greedy": {"hotpotqa-5a..": {"em": 0.0, "f1": 66.7, ...}, ...}, "distilled student ...": ...}
    a row    distilled student greedy, f1, n 100, 41.2 [33.0, 49.5], minus base student greedy +6.1 [+1.2, +11.0]

Every question counts: an answer that is missing or unfinished scores 0. Intervals are 95 %: percentile bootstrap
over questions (Wilson's where all values are 0 or 100), differences on the same questions (paired), against the first
method. p: signs of the differences flipped (statistics.sign_flip); Holm's correction over all metrics and methods,
which is strict, because metrics move together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentark_core import markdown
from agentark_core.config import BertScoreConfig
from agentark_core.evaluation_report import p_text
from agentark_core.ledger import atomic_write_text
from agentark_core.mean_interval import Interval, mean_interval, show
from agentark_core.paired_tests import ScoreTest, in_family, score_test
from agentark_core.problems import CUT
from agentark_core.statistics import wilson
from agentark_core.text_metrics import LEADING, METRICS_VERSION
from agentark_core.types import Problem

Scores = Mapping[str, Mapping[str, float]]
"""problem_id -> metric -> 0 to 100 (differences: -100 to 100)."""

HEADERS = ("metric", "method", "n", "mean [95 %]", "minus the first method [95 %]", "p", "p (Holm)", "MDD")
NOTE = (
    "0 to 100; a missing or unfinished answer scores 0. Intervals: Wilson where all values are 0 or 100, else "
    "bootstrap over questions; [-]: values that do not vary have none. Differences are paired by question; p: their "
    "signs flipped; Holm over all metrics and methods here. MDD: where p (Holm) is 0.05 or more, the true difference "
    "that a t-test at 0.05 / comparisons finds with a chance of 80 %."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One metric of one method over n questions. difference: minus the first method (there None).

    p_value: two-sided; p_holm: after Holm's correction over all rows; detectable: the true difference that would have
    been found, where p_holm is not significant. All None of the first method, of one question and in older files.
    """

    method: str
    metric: str
    n: int
    mean: float
    interval: Interval
    difference: float | None = None
    difference_interval: Interval = None
    p_value: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """What scores.json holds: the rows, the metric that leads, and what is to be said of contexts and BERTScore."""

    rows: tuple[ScoreRow, ...]
    leading: str
    note: str = ""

    def of(self, method: str) -> ScoreRow | None:
        """The leading metric of a method."""
        return next((row for row in self.rows if row.method == method and row.metric == self.leading), None)


def summarise(scores: Mapping[str, Scores]) -> list[ScoreRow]:
    """A row for each method and metric, metric by metric. Methods must have answered the same questions."""
    baseline = next(iter(scores.values()))
    rows, tests = list[ScoreRow](), list[ScoreTest | None]()
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
            tests.append(None if paired is None or len(found) < 2 else score_test(found, first))
    return [
        row if test is None else replace(row, p_value=test.p_value, p_holm=test.p_holm, detectable=test.detectable)
        for row, test in zip(rows, in_family(tests), strict=True)
    ]


def read(folder: Path) -> Prose | None:
    """scores.json of a folder; None without one."""
    path = folder / "scores.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_bytes())
    pairs = ("interval", "difference_interval")
    rows = tuple(
        ScoreRow(**row | {name: None if row[name] is None else tuple(row[name]) for name in pairs})
        for row in data["rows"]
    )
    names = [row.metric for row in rows]
    older = next((name for name in ("bleu_acc", "f1") if name in names), "")
    return Prose(rows=rows, leading=data.get("leading", older), note=_note(data))


def remove(folder: Path) -> None:
    """Remove the scores of a folder, if there are any."""
    for name in ("scores.json", "scores.md"):
        (folder / name).unlink(missing_ok=True)


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


def _note(data: Mapping[str, Any]) -> str:
    """What is to be said of the contexts and the encoder of scores.json."""
    parts = [data["contexts"]] if data.get("contexts") else []
    if bert_score := data.get("bertscore"):
        encoder = Path(bert_score["path"]).name
        parts.append(f"bertscore: F1, layer {bert_score['num_layers']} of {encoder}, no idf, no rescaling.")
    return " ".join(parts)


def cells(row: ScoreRow) -> tuple[str, ...]:
    """Cells of HEADERS."""
    return (
        row.metric,
        row.method,
        f"{row.n:,}",
        show(row.mean, row.interval, form=".1f"),
        "-" if row.difference is None else show(row.difference, row.difference_interval, form="+.1f"),
        "" if row.p_value is None else p_text(row.p_value),
        "" if row.p_holm is None else p_text(row.p_holm),
        "" if row.detectable is None else f"{row.detectable:.1f}",
    )


def render_markdown(rows: Sequence[ScoreRow], *, note: str = "") -> str:
    """One table, a line for each metric and method."""
    said = [NOTE, *([markdown.inline(note, limit=1_000)] if note else [])]
    return "\n".join([markdown.table(HEADERS, [cells(row) for row in rows], left=2), *said, ""])


def write(
    scores: Mapping[str, Scores],
    *,
    questions: Sequence[Problem],
    folder: Path,
    bert_score: BertScoreConfig | None = None,
) -> tuple[list[Path], str]:
    """scores.json (every question, and the rows) and scores.md in folder; also the Markdown itself."""
    rows = summarise(scores)
    data: dict[str, Any] = {
        "version": METRICS_VERSION,
        "rows": [asdict(row) for row in rows],
        "leading": LEADING[questions[0].task],
        "contexts": cut_note(questions),
        "questions": {name: dict(values) for name, values in scores.items()},
    }
    if bert_score is not None:
        data["bertscore"] = bert_score.model_dump()
    text = render_markdown(rows, note=_note(data))
    atomic_write_text(folder / "scores.json", json.dumps(data, indent=2, sort_keys=True))
    atomic_write_text(folder / "scores.md", text)
    return [folder / "scores.json", folder / "scores.md"], text
