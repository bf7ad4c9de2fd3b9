"""Sample files of lm-evaluation-harness (`samples_TASK_TIME.jsonl`): read, checked and written.

The format is that of lm_eval 0.4.13 (result_schema.SampleResult, loggers.EvaluationTracker.save_results_samples), one
question a line:

    {"doc_id": 0, "doc": {"problem_id": ..., "question": ..., "gold": "143"}, "target": "143",
     "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": [], "do_sample": false, "max_gen_toks": 128}}},
     "resps": [[TEXT, ...]], "filtered_resps": ["117"], "filter": "last-box", "metrics": ["exact_match"],
     "doc_hash": sha256, "prompt_hash": sha256, "target_hash": sha256, "exact_match": 0.0}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from agentark_core.errors import DataError, EmptyDataset
from agentark_core.ledger import atomic_write_text
from agentark_core.rows import read_rows
from agentark_core.types import BadRow


class Sample(BaseModel):
    """One question. Every name in metrics is a field too, with its score."""

    model_config = ConfigDict(extra="allow", strict=True)

    doc_id: int
    doc: dict[str, Any]
    target: str
    arguments: dict[str, dict[str, Any]]
    resps: list[Any]
    filtered_resps: list[Any]
    filter: str
    metrics: list[str]
    doc_hash: str
    prompt_hash: str
    target_hash: str

    @model_validator(mode="after")
    def _has_its_metrics(self) -> Sample:
        for name in self.metrics:
            if name not in (self.model_extra or {}):
                raise ValueError(f"metrics names {name!r}, which has no score")
        return self

    def metric(self, name: str) -> float | None:
        """The score of a metric; None if it is no number (of perplexity and F1 the harness keeps parts of a sum)."""
        score = (self.model_extra or {}).get(name)
        return float(score) if isinstance(score, int | float) else None


def read_samples(path: Path) -> list[Sample]:
    """Every line of a sample file. Raises DataError that names the file, the line and the field."""
    found = []
    for number, row in read_rows(path):
        if isinstance(row, BadRow):
            raise DataError(f"{path}: row {number}: {row.reason}; name a samples_*.jsonl of lm_eval --log_samples")
        try:
            found.append(Sample.model_validate(row))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "metrics"
            raise DataError(
                f"{path}: row {number}: {where}: {first['msg']}; name a samples_*.jsonl of lm_eval --log_samples"
            ) from None
    if not found:
        raise EmptyDataset(f"{path}: no samples; name a samples_*.jsonl of lm_eval --log_samples")
    return found


def write_samples(path: Path, samples: list[Sample]) -> None:
    """The lines that `read_samples` reads."""
    lines = [json.dumps(sample.model_dump(), ensure_ascii=False) + "\n" for sample in samples]
    atomic_write_text(path, "".join(lines))
