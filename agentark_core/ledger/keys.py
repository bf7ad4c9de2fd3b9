"""Identity: what names a stage's folder, a question's work, and a request's random stream.

Everything is a hash of its inputs, so a changed config, model or data set is new work and is never mixed with old
(F20), and a rerun after a crash finds the work that was done. The promise is the same *keys* after any crash, not the
same text: batching changes the order of float additions.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

SCHEMA_VERSION = 1
"""Version of the stored rows and of these hashes; part of every fingerprint."""


def canonical_json(value: Any) -> str:
    """The one JSON text of plain data: sorted keys, no spaces, ASCII. TypeError or ValueError if it is not plain."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def fingerprint(stage: str, **parts: Any) -> str:
    """16 hex digits that name a stage's output: the stage, its sub-config, its parents' fingerprints, prompt text..."""
    return _sha256({"stage": stage, "schema_version": SCHEMA_VERSION, **parts})[:16]


def work_id(
    *,
    dataset_revision: str,
    row_hash: str,
    teacher_revision: str,
    prompt_hash: str,
    sampling: Any,
    code_schema: int | str,
) -> str:
    """32 hex digits for the debate of one question. A generation's key is (work_id, round, agent)."""
    return _sha256(
        {
            "dataset_revision": dataset_revision,
            "row_hash": row_hash,
            "teacher_revision": teacher_revision,
            "prompt_hash": prompt_hash,
            "sampling": sampling,
            "code_schema": code_schema,
        }
    )[:32]


def request_seed(work_id: str, *, round: int, agent: int, base_seed: int) -> int:
    """Seed of one generation in [0, 2**31), so a redone request draws from the same stream."""
    return int(_sha256([work_id, round, agent, base_seed])[:8], 16) & 0x7FFFFFFF
