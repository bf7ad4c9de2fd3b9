"""Debates in a real ledger, written down as tables of answers, and usage files as engines leave them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentark_core.config import DebateConfig
from agentark_core.ledger import Store
from agentark_core.records import debates_to_table, problems_to_table, verdicts_to_table
from agentark_core.shards import shard_meta
from agentark_core.stored import verdict_store
from agentark_core.types import Debate, Problem, Turn
from agentark_core.verify import Case, Verifier

RUN, QUESTIONS = "00000000000000d1", "00000000000000a1"

Answers = Sequence[Sequence[int | None]]
"""Answer of each agent in each round, [round][agent]; None: it gave none."""


def make_turn(problem: Problem, *, round: int, agent: int, answer: int | None, text: str = "", **changes: Any) -> Turn:
    """Its completion takes 10 * round + agent tokens; half of the prompt's 100 are cached."""
    turn = Turn(
        work_id=f"w-{problem.problem_id}",
        problem_id=problem.problem_id,
        round=round,
        agent=agent,
        seed=1,
        text=text or (f"So it is \\boxed{{{answer}}}." if answer is not None else "I do not know."),
        answer=None if answer is None else str(answer),
        prompt_tokens=100,
        cached_tokens=50,
        completion_tokens=10 * round + agent,
        finish_reason="stop",
        status="no_answer" if answer is None else "ok",
    )
    return dataclasses.replace(turn, **changes)


def make_problem(number: int, *, gold: int) -> Problem:
    return Problem(
        problem_id=f"t-{number:016x}",
        dataset="t",
        task="number",
        question=f"What is [bold]{gold}[/] * 1?",
        gold=str(gold),
    )


def make_debate(number: int, rounds: Answers, *, gold: int, stop_reason: str = "rounds") -> Debate:
    problem = make_problem(number, gold=gold)
    turns = tuple(
        make_turn(problem, round=round, agent=agent, answer=answer)
        for round, answers in enumerate(rounds, start=1)
        for agent, answer in enumerate(answers, start=1)
    )
    return Debate(
        work_id=turns[0].work_id, problem=problem, turns=turns, stop_reason=stop_reason, answer=turns[-1].answer
    )


def make_home(home: Path, *shards: Sequence[Problem], **debate: Any) -> Store:
    """The ledger of a run whose questions are committed and whose debates are not: 00000, 00001, ..."""
    problems = Store(
        home,
        stage="problems",
        fingerprint=QUESTIONS,
        config={"problems": {"source": "file", "split": "train", "path": "t.jsonl"}},
    )
    for number, shard in enumerate(shards):
        put(problems, f"{number:05d}", problems_to_table(shard))
    how = {"num_agents": 3, "num_rounds": 3, "quorum": 0, "summariser": "never"} | debate
    return Store(
        home,
        stage="debates",
        fingerprint=RUN,
        config={
            "problems": QUESTIONS,
            "dataset": "t",
            "model_revision": "m0",
            "wording": "general",
            "seed": 0,
            "debate": DebateConfig.model_validate(how).model_dump(mode="json"),
        },
    )


def put(store: Store, shard: str, table: Any, meta: dict[str, Any] | None = None) -> None:
    with store.lease(shard, timeout_s=5) as lease:
        store.commit(shard, table, lease=lease, config_hash="c", meta=meta or {})


def commit_debates(store: Store, shard: str, debates: Sequence[Debate]) -> None:
    put(store, shard, debates_to_table(debates), shard_meta(debates, replayed=0, seconds=1.0, plan=None))


def verify(home: Path, shard: str, debates: Sequence[Debate]) -> None:
    """Commit real verdicts."""
    turns = [(debate, turn) for debate in debates for turn in debate.turns]
    cases = [Case(response=turn.text, gold=debate.problem.gold, task="number") for debate, turn in turns]
    with Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many(cases)
    keys = [(turn.work_id, turn.round, turn.agent) for _, turn in turns]
    counts = dict(Counter(str(verdict.label) for verdict in verdicts))
    put(verdict_store(home, debates=RUN), shard, verdicts_to_table(dict(zip(keys, verdicts, strict=True))), counts)


def write_usage(store: Store, name: str, **fields: Any) -> Path:
    path = store.root / "usage" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"started_at": "2026-01-01T00:00:00+00:00", **fields}))
    temporary.rename(path)
    return path


class Submitted:
    """A task that runs when it is submitted, without Prefect."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def submit(self, *arguments: Any, **named: Any) -> Submitted:
        self.outcome = self.function(*arguments, **named)
        return self

    def result(self) -> Any:
        return self.outcome
