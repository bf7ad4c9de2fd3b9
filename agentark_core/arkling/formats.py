"""Training samples of every format the embedded models learn: solo, debate (two layouts), judge, and drills.

Prompts are the product's own text (agentark_core.prompts, wording `arkling`). Completions are a correct complete
path, so every trace of the trained models is clean distillation material. A sample is a chat (prompt messages and
completion) plus the parts of the prompt worth learning as if they were completions (correct peers).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from agentark_core import prompts
from agentark_core.arkling.corruption import slip, wrong_solution
from agentark_core.arkling.generator import Spec, apply, draw, parse_solution, question, solutions
from agentark_core.types import Message

QUESTION_WEIGHT = 0.1
PEER_WEIGHT = 0.3
"""Loss on the correct solutions inside a debate prompt: each is a solo answer given more context."""

ANOTHER_PATH = 0.15
OWN_SHARE = 0.5
_SHOWN = (2, 2, 3, 3, 4, 5, 5, 5, 5, 5, 6, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One chat. learn: substrings of the prompt that get loss too, each with its weight (a completion has weight 1).
    results_only: of the completion, only what follows "=" on each line is predictable (equation drills)."""

    prompt: tuple[Message, ...]
    completion: str
    learn: tuple[tuple[str, float], ...] = ()
    results_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A training problem as it was worded, and a model's own solutions to it (None: not usable)."""

    spec: Spec
    question: str
    texts: tuple[str | None, ...]


def solo(rng: random.Random) -> Sample:
    """A question and one path, drawn uniformly."""
    spec = draw(rng, "train")
    asked = question(spec, rng)
    messages = prompts.first_answer(asked, wording="arkling")
    return Sample(prompt=tuple(messages), completion=rng.choice(solutions(spec)), learn=((asked, QUESTION_WEIGHT),))


def debate(rng: random.Random, pool: Sequence[Sampled]) -> Sample:
    """A debate turn or a judge's turn over 2 to 8 solutions; OWN_SHARE of them a model's own if there is a pool."""
    num_agents = rng.choice(_SHOWN)
    if pool and rng.random() < OWN_SHARE:
        sampled = rng.choice(pool)
        spec, asked = sampled.spec, sampled.question
        texts = [rng.choice(sampled.texts) for _ in range(num_agents)]
        if num_agents <= len(sampled.texts):
            texts = rng.sample(sampled.texts, num_agents)
    else:
        spec = draw(rng, "train")
        asked, texts = question(spec, rng), synthetic_texts(spec, num_agents, rng)
    return debate_sample(spec, asked, texts, rng)


def synthetic_texts(spec: Spec, num_agents: int, rng: random.Random) -> list[str | None]:
    """Correct paths and corruptions; 30 % of the wrong agents share an error, 4 % of the agents have no solution."""
    right_share, shared, paths = rng.random(), wrong_solution(spec, rng), solutions(spec)
    texts: list[str | None] = []
    for _ in range(num_agents):
        if rng.random() < 0.04:
            texts.append(None)
        elif rng.random() < right_share:
            texts.append(rng.choice(paths))
        else:
            texts.append(shared if rng.random() < 0.3 else wrong_solution(spec, rng))
    return texts


def debate_sample(spec: Spec, asked: str, texts: Sequence[str | None], rng: random.Random) -> Sample:
    """The chat for one agent (or the judge) that sees texts; the target is a correct path.

    The target copies a correct solution when one is shown (the agent's own first), except in a share ANOTHER_PATH of
    the cases and where none is correct, where it is any path.
    """
    shown = dict(enumerate(texts, 1))
    paths = solutions(spec)
    gold = parse_solution(paths[0])
    parsed = {number: parse_solution(text) if text else None for number, text in shown.items()}
    answers = {number: None if value is None else str(value) for number, value in parsed.items()}
    agent = rng.randint(1, len(texts))
    kind = rng.choices(("board", "peers", "judge"), (0.6, 0.2, 0.2))[0]
    if kind == "judge":
        messages = prompts.summary(asked, shown, answers=answers, wording="arkling")
    else:
        messages = prompts.debate_turn(
            asked,
            [shown],
            answers=[answers],
            agent=agent,
            layout="peers" if kind == "peers" else "board",
            wording="arkling",
        )
    right = {
        n: text for n, text in shown.items() if text and parsed[n] == gold and not (kind == "peers" and n == agent)
    }
    # A solution with the right answer may still be wrong inside (two errors that cancel): never copy or learn those.
    right = {n: text for n, text in right.items() if text in paths}
    if not right or rng.random() < ANOTHER_PATH:
        target = rng.choice(paths)
    elif kind == "board" and agent in right:
        target = right[agent]
    else:
        target = rng.choice(list(right.values()))
    return Sample(prompt=tuple(messages), completion=target, learn=tuple((t, PEER_WEIGHT) for t in right.values()))


def drill(rng: random.Random) -> Sample:
    """Nine unrelated equations in the form of steps; only the results can be learnt."""
    lines = ["Step {}: {} {} {} = {}".format(i, *equation(rng)) for i in range(1, 10)]
    return Sample(prompt=({"role": "user", "content": "Drill"},), completion="\n".join(lines), results_only=True)


def check(rng: random.Random) -> Sample:
    """Nine equations, some wrong; the completion says `ok` or `bad` for each."""
    lines, verdicts = [], []
    for i in range(1, 10):
        x, op, y, result = equation(rng)
        wrong = rng.random() < 0.5
        lines.append(f"Step {i}: {x} {op} {y} = {slip(result, rng) if wrong else result}\n")
        verdicts.append("bad" if wrong else "ok")
    prompt: tuple[Message, ...] = ({"role": "user", "content": "".join(lines) + "Check"},)
    return Sample(prompt=prompt, completion=" ".join(verdicts))


def equation(rng: random.Random) -> tuple[int, str, int, int]:
    """left, op, right, result from the ranges that the families use."""
    while True:
        op = rng.choice("++--**/")
        if op in "+-":
            x, y = rng.randint(2, 499), rng.choice((rng.randint(2, 99), rng.randint(2, 499)))
        else:
            x, y = rng.randint(2, 99), rng.randint(2, 9)
        if op == "/":
            x = x * y
        result = apply(op, x, y)
        if result is not None and result <= 499 and x <= 499:
            return x, op, y, result


def vocabulary_texts() -> list[str]:
    """Text of every format, from which the tokenizer's words are collected (6,000 samples hold every word)."""
    rng = random.Random("vocabulary")
    texts: list[str] = []
    for make in (solo, drill, check, lambda r: debate(r, [])):
        for _ in range(1500):
            sample = make(rng)
            texts += [message["content"] for message in sample.prompt] + [sample.completion]
    return texts
