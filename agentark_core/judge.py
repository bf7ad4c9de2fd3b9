r"""An LLM judge for what the rules leave undecided: question, gold answer and extracted answer in, a verdict out.

    rules   Verdict(label="undecided", method="too_large", extracted="9^{9^{9}}", reason="too large to evaluate safely")
    judge   Verdict(label="incorrect", method="judge", extracted="9^{9^{9}}", reason="3 of 3 votes; rules: too_large")

A case gets `votes` seeded samples, each of them JSON of VERDICT_SCHEMA; more than half of all votes decide. Unreadable
votes count for nothing. Without a majority the case stays undecided under its rule, with the judge's reason added.
The judge never sees the reasoning (method.md section 2), and equal cases are judged once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from agentark_core import model_files, prompts
from agentark_core.asking import ask_each, engine_of, fitting_prompt, read_json
from agentark_core.config import EngineConfig, JudgeConfig, ModelConfig, SamplingConfig, VerificationConfig
from agentark_core.discussion import Generates
from agentark_core.engines.base import Request
from agentark_core.ledger import request_seed
from agentark_core.types import Generation, Verdict
from agentark_core.verify import Case
from agentark_core.verify_rules import answer_and_gold

JUDGE_VERSION = "judge-1"
"""Changes with the code below: part of the verdicts' fingerprint where a judge is configured."""

VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["correct", "incorrect"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}
Vote = Literal["correct", "incorrect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCase:
    """All that a judge sees. gold and answer are final answers, not solutions."""

    question: str
    gold: str
    answer: str

    @property
    def key(self) -> str:
        """32 hex digits: names its requests and seeds their samples."""
        text = json.dumps([self.question, self.gold, self.answer])
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSetup:
    """A judge as a flow uses it: its config, the engines it runs on, and the content hash of its model."""

    config: JudgeConfig
    engine: EngineConfig
    revision: str

    @property
    def key(self) -> dict[str, Any]:
        """What makes its verdicts other verdicts; part of the verdict store's fingerprint."""
        return {
            "version": JUDGE_VERSION,
            "model": self.revision,
            "dtype": self.config.model.dtype,
            "max_model_len": self.config.model.max_model_len,
            "prompt_hash": prompts.prompt_hash(),
            "votes": self.config.votes,
            "sampling": self.config.sampling.model_dump(mode="json"),
        }


def setup(
    config: JudgeConfig | None, *, engine: EngineConfig | None = None, teacher: ModelConfig | None = None
) -> JudgeSetup | None:
    """The judge of a flow whose section `engine` runs `teacher` (see engine_of); None without a judge.

    Raises ModelError.
    """
    if config is None:
        return None
    used = engine_of(config.model, config.engine, flow=engine, teacher=teacher)
    return JudgeSetup(config=config, engine=used, revision=model_files.source(config.model, used)[1])


def judged_by(judge: JudgeSetup | None) -> VerificationConfig:
    """The same judge on the same engines, for a flow without an engine section."""
    if judge is None:
        return VerificationConfig()
    return VerificationConfig(judge=judge.config.model_copy(update={"engine": judge.engine}))


def judge_case(case: Case) -> JudgeCase | None:
    """What a judge sees of a case; None if the response has no final answer."""
    answer, gold = answer_and_gold(case.response, gold=case.gold, task=case.task)
    return None if answer is None else JudgeCase(question=case.question, gold=gold, answer=answer)


def undecided(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> dict[int, JudgeCase]:
    """By index, the cases that the rules left undecided."""
    left = {}
    for index, (case, verdict) in enumerate(zip(cases, verdicts, strict=True)):
        judged = judge_case(case) if verdict.label == "undecided" else None
        if judged is not None:
            left[index] = judged
    return left


def merge(rules: Sequence[Verdict], rulings: Mapping[int, Verdict]) -> list[Verdict]:
    """The verdicts of the rules, with the judge's in place of the undecided ones that it decided."""
    merged = list(rules)
    for index, ruling in rulings.items():
        rule = rules[index]
        if rule.label != "undecided":
            raise ValueError(f"verdict {index} is decided by {rule.method}; a judge takes only undecided ones")
        if ruling.label == "undecided":
            merged[index] = replace(rule, reason=f"{rule.reason}; judge: {ruling.reason}")
        else:
            merged[index] = replace(ruling, extracted=rule.extracted, reason=f"{ruling.reason}; rules: {rule.method}")
    return merged


async def judge(
    cases: Sequence[JudgeCase], *, engine: Generates, votes: int, sampling: SamplingConfig
) -> list[Verdict]:
    """One verdict (method "judge") a case, in order. Whatever the engine raises ends all of it."""

    async def ask(case: JudgeCase) -> Verdict:
        return await _judge_one(case, engine=engine, votes=votes, sampling=sampling)

    return await ask_each(cases, ask)


async def _judge_one(case: JudgeCase, *, engine: Generates, votes: int, sampling: SamplingConfig) -> Verdict:
    messages = prompts.judge_answer(case.question, gold=case.gold, answer=case.answer)
    prompt = fitting_prompt(messages, engine=engine, max_tokens=sampling.max_tokens)
    if prompt is None:
        return _ruling(case, None, "the question does not fit the judge's context")
    requests = [
        Request(
            prompt=prompt,
            sampling=sampling,
            seed=request_seed(case.key, round=1, agent=number, base_seed=0),
            work_id=case.key,
            problem_id=case.key,
            round=1,
            agent=number,
            json_schema=VERDICT_SCHEMA,
        )
        for number in range(1, votes + 1)
    ]
    replies = await asyncio.gather(*(engine.generate(request) for request in requests))
    counts = Counter(read_vote(reply) for reply in replies)
    for label in ("correct", "incorrect"):
        if 2 * counts[label] > votes:
            return _ruling(case, label, f"{counts[label]} of {votes} votes")
    return _ruling(
        case,
        None,
        f"no majority of {votes} votes ({counts['correct']} correct, {counts['incorrect']} incorrect, "
        f"{counts[None]} unreadable)",
    )


def _ruling(case: JudgeCase, label: Vote | None, reason: str) -> Verdict:
    return Verdict(label=label or "undecided", method="judge", extracted=case.answer, reason=reason)


def read_vote(reply: Generation) -> Vote | None:
    """The verdict of a whole reply that is exactly JSON of VERDICT_SCHEMA, else None."""
    pairs = read_json(reply)
    if pairs == [("verdict", "correct")]:
        return "correct"
    return "incorrect" if pairs == [("verdict", "incorrect")] else None
