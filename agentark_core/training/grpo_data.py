"""Prompts of GRPO: rows of the `prompts` extraction -> a training part and a slice held out for the watch.

{"problem_id": "arkling-3f...", "prompt": [{"role": "user", "content": "Q: ..."}], "gold": "12", "task": "number"}
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence

from agentark_core.chat import ChatFormat
from agentark_core.errors import DataError, EmptyDataset
from agentark_core.training.rewards import Asked

COLUMNS = ["problem_id", "prompt", "gold", "task"]


def read_prompts(paths: Sequence[str]) -> list[Asked]:
    """Read Parquet files of extraction.PROMPT_SCHEMA; a question of several runs counts once.

    Raises DataError, or EmptyDataset if there is no row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, Asked] = {}
    for path in paths:
        try:
            rows = pq.read_table(path, columns=COLUMNS, page_checksum_verification=True).to_pylist()
        except FileNotFoundError:
            raise DataError(f"{path}: no such prompts file; run the extraction first") from None
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: not readable as Parquet ({reason}); extract it again") from None
        for row in rows:
            found.setdefault(row["problem_id"], Asked(**row))
    if not found:
        raise EmptyDataset(f"{', '.join(paths)}: no prompts; nothing to train on")
    return list(found.values())


def digest(prompts: Sequence[Asked]) -> str:
    """sha256 (16 hex digits) over the prompts in order, with what their answers are checked against."""
    total = hashlib.sha256()
    for asked in prompts:
        total.update(json.dumps([asked.problem_id, asked.prompt, asked.gold, asked.task]).encode())
    return total.hexdigest()[:16]


def fitting(prompts: Sequence[Asked], chat: ChatFormat, *, max_prompt_tokens: int) -> list[Asked]:
    """The prompts of at most max_prompt_tokens tokens. EmptyDataset if there is none."""
    kept = [asked for asked in prompts if len(chat.prompt_ids(asked.prompt)) <= max_prompt_tokens]
    if not kept:
        raise EmptyDataset(f"all {len(prompts)} prompts exceed grpo.max_prompt_tokens {max_prompt_tokens}; raise it")
    return kept


def hold_out(prompts: Sequence[Asked], *, number: int, at_least: int) -> tuple[list[Asked], list[Asked]]:
    """(training prompts, held-out prompts); which ones follows from their ids alone, so new ones move no others.

    at_least: training prompts that must remain. Raises EmptyDataset if they do not.
    """
    if len(prompts) < number + at_least:
        raise EmptyDataset(
            f"{len(prompts)} prompts are fewer than grpo.watch_prompts {number} + prompts_per_step {at_least}; "
            "lower one of them or extract more prompts"
        )
    ranked = sorted(prompts, key=lambda asked: hashlib.sha256(asked.problem_id.encode()).digest())
    held = {asked.problem_id for asked in ranked[:number]}
    return [a for a in prompts if a.problem_id not in held], [a for a in prompts if a.problem_id in held]


def rollout_order(number: int, *, batches: int, batch_size: int, seed: int) -> list[int]:
    """Prompt numbers for every rollout batch, one after the other; each pass is a fresh permutation.

    Fixed before training, so a resumed run sees exactly the rest of it.
    """
    generator = random.Random(seed)
    order: list[int] = []
    while len(order) < batches * batch_size:
        order += generator.sample(range(number), number)
    return order[: batches * batch_size]
