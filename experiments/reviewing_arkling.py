"""Agents that review before they answer: does debate then beat a vote of as many calls?

    python -m experiments.reviewing_arkling --out DIR --layout history --tokens 4000000 --seed 0

The shipped teacher learns to open its debate turns with a review in `<think>`: the agent's own solution, every line
copied with its result, the result computed again beside it, then `ok` or `bad`, up to the first `bad`. What is right
it gives again; a wrong result it mends and goes on; from a wrong plan it turns to another agent's right solution, or
solves anew. Peers see the solution alone. With the layout `board` the agent's own solution is one of five and is told
by its number; with `history` it is the agent's own turn of the chat. `agentark run evaluate-model` then sets debate
against single answers and votes on test questions. The model is written to DIR/model. A review:

    Step 1: 9 * 22 = 198 = 198 ok
    Step 2: 300 - 198 = 92 = 102 bad
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentark_core import prompts, rounds
from agentark_core.arkling import formats, generator, model_path, pretrain
from agentark_core.arkling.batches import Row, encode, sorted_batches
from agentark_core.arkling.formats import PEER_WEIGHT, Sample, Sampled
from agentark_core.stored import read_debates
from experiments import runs

OPEN, CLOSE = "<think>", "</think>"
SHARES = {"review": 0.7, "solo": 0.22, "drill": 0.08}
SHOWN = (2, 3, 4, 5, 5, 5, 5)
POOL_TOKENS = 100_000


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=4_000_000)
    parser.add_argument("--rate", type=float, default=0.5, help="peak learning rate, as a share of pretraining's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", type=int, default=1000, help="questions that are asked")
    parser.add_argument("--split", choices=("test", "ood"), default="test", help="which questions")
    parser.add_argument("--own", type=float, default=1.0, help="share of reviews of the teacher's own samples")
    parser.add_argument("--layout", choices=("board", "history"), default="history", help="where the own solution is")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if not (given.out / "model" / "training_record.json").exists():
        train(given)
    evaluate(given)


def train(given: argparse.Namespace) -> None:
    """Fine-tune the shipped teacher on reviews; writes DIR/model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    base = model_path("teacher")
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    net = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
    sampled = pretrain.sample_pool(net, tokenizer, seed=given.seed)
    with_thinking(tokenizer)
    net.resize_token_embeddings(len(tokenizer))
    optimizers = pretrain.optimizers_of(net)
    done, pool, begun = 0, 0, time.monotonic()
    losses: list[float] = []
    while done < given.tokens:
        for batch in pool_batches(tokenizer, sampled=sampled, given=given, index=pool):
            progress = done / given.tokens
            pretrain.set_rate(optimizers, given.rate * min(1.0, progress / 0.02 + 0.05) * max(0.01, 1 - progress))
            losses.append(pretrain.step(net, net.model, optimizers, batch, pad=net.config.pad_token_id))
            done += sum(len(ids) for ids, _ in batch)
        pool += 1
        recent = sum(losses[-20:]) / len(losses[-20:])
        print(f"{done:,} tokens, {time.monotonic() - begun:.0f} s, loss {recent:.3f}", flush=True)
    record = {"tokens": done, "seed": given.seed, "rate": given.rate, "minutes": (time.monotonic() - begun) / 60}
    pretrain.write(given.out / "model", net, tokenizer, record)


def with_thinking(tokenizer: Any) -> None:
    """Two tokens more, which the chat template names, so that what stands between them is thinking (chat.py)."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in (OPEN, CLOSE)])
    tokenizer.chat_template += f"{{#- {OPEN} review {CLOSE} -#}}"


def pool_batches(
    tokenizer: Any, *, sampled: Sequence[Sampled], given: argparse.Namespace, index: int
) -> list[list[Row]]:
    """The batches of one pool in training order."""
    rng = random.Random(f"review-{given.seed}-{index}")
    rows: list[Row] = []
    for name, share in SHARES.items():
        tokens = 0
        while tokens < share * POOL_TOKENS:
            sample = reviewed(rng, sampled, given) if name == "review" else getattr(formats, name)(rng)
            rows.append(encode(sample, tokenizer))
            tokens += len(rows[-1][0])
    return sorted_batches(rows, rng)


def reviewed(rng: random.Random, pool: Sequence[Sampled], given: argparse.Namespace) -> Sample:
    """What an agent sees of 2 to 5 solutions, the review of its own, and the solution that follows from it."""
    count = rng.choice(SHOWN)
    if rng.random() < given.own:
        drawn = rng.choice(pool)
        spec, asked, texts = drawn.spec, drawn.question, rng.sample(drawn.texts, count)
    else:
        spec = generator.draw(rng, "train")
        asked, texts = generator.question(spec, rng), formats.synthetic_texts(spec, count, rng)
    shown = dict(enumerate(texts, 1))
    parsed = {number: generator.parse_solution(text) if text else None for number, text in shown.items()}
    answers = {number: None if value is None else str(value) for number, value in parsed.items()}
    agent = rng.randint(1, count)
    turn = prompts.debate_turn(asked, [shown], answers=[answers], agent=agent, layout=given.layout, wording="arkling")
    paths = generator.solutions(spec)
    own = shown[agent]
    in_order = texts if given.layout == "board" else [own, *(text for number, text in shown.items() if number != agent)]
    right = [text for text in in_order if text in paths]
    return Sample(
        prompt=tuple(turn),
        completion=f"{OPEN}{review_of(asked, own)}{CLOSE}{mended(own, right=right, paths=paths, rng=rng)}",
        learn=tuple((text, PEER_WEIGHT) for text in right),
    )


def review_of(asked: str, text: str | None) -> str:
    """The exact review of one solution."""
    if text is None:
        return "bad"
    lines = []
    for line, good in zip(text.splitlines(), generator.check_lines(asked, text), strict=True):
        lines.append(f"{line}{again(line)} {'ok' if good else 'bad'}")
        if not good:
            break
    return "\n".join(lines)


def again(line: str) -> str:
    """` = RESULT`, computed from the operands of a step; nothing for what is no step or has no whole result."""
    words = line.split()
    if len(words) != 7:
        return ""
    result = generator.apply(words[3], int(words[2]), int(words[4]))
    return "" if result is None else f" = {result}"


def mended(own: str | None, *, right: Sequence[str], paths: Sequence[str], rng: random.Random) -> str:
    """One's own solution if it is right, or a path with its plan; else a right one that is shown, or any path."""
    if own in paths:
        return str(own)
    same_plan = [path for path in paths if own and plan(path) == plan(own)]
    return rng.choice(same_plan or right or paths)


def plan(text: str) -> list[str]:
    """The operators of the steps and the operands of the first: what a slip in a result does not change."""
    words = [line.split() for line in text.splitlines() if line.startswith("Step")]
    return [*(step[3] for step in words), *words[0][2:5]] if words else []


def evaluate(given: argparse.Namespace) -> None:
    """evaluate-model with the new teacher: single, greedy, majority at debate's calls, debate."""
    teacher = {"path": str(given.out / "model"), "prompts": "arkling"}
    config = {
        "run": {"name": f"review-{given.rounds}-{given.split}", "home": str(given.out / "home"), "seed": given.seed},
        "student": teacher,
        "teacher": teacher,
        "debate": {
            **{"num_agents": 5, "num_rounds": given.rounds, "quorum": 0, "summariser": "never"},
            "layout": given.layout,
            "sampling": {"temperature": 0.9, "max_tokens": 320},
        },
        "engine": {"max_num_seqs": 256, "shard_size": 250},
        "evaluation": {"problems": {"source": "arkling", "split": given.split, "limit": given.test}},
    }
    printed = runs.agentark("evaluate-model", config, folder=given.out)
    print("\n".join(printed))
    home = given.out / "home"
    stated = json.loads((home / "reports" / config["run"]["name"] / "evaluation.json").read_text())
    print(json.dumps(stated["contrasts"], indent=1))
    print(json.dumps(examined(home, stated["made_from"]["teacher debate"]["debates"]), indent=1))


def examined(home: Path, run: str) -> dict[str, int]:
    """What the reviews of the second round did, counted.

    votes of each round that are right; solutions by (right before, right after); reviews; those whose lines are the
    agent's own, word for word; and reviews by (a step is wrong, it says `bad`).
    """
    counts: Counter[str] = Counter()
    for debate in read_debates(home, fingerprint=run):
        gold, solved = debate.problem.gold, rounds.solutions(debate)
        for number in (1, 2):
            vote = rounds.vote(debate, solved[number])
            counts[f"votes of round {number} that are right"] += vote is not None and vote.answer == gold
        for before, after in zip(solved[1], solved[2], strict=True):
            counts[f"{_said(before.answer == gold)}, then {_said(after.answer == gold)}"] += 1
            if after.thinking:
                lines = after.thinking.splitlines()
                counts["reviews"] += 1
                counts["reviews of the own solution"] += all(map(str.startswith, lines, before.text.splitlines()))
                steps_wrong = not all(generator.check_lines(debate.problem.question, before.text))
                says_bad = lines[-1].endswith("bad")
                counts[f"steps {_said(not steps_wrong)}, {'a' if says_bad else 'no'} bad"] += 1
    return dict(sorted(counts.items()))


def _said(right: bool) -> str:
    return "right" if right else "wrong"


if __name__ == "__main__":
    main()
