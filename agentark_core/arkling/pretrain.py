"""Pretraining of an embedded model from random weights on generated text.

    python -m agentark_core.arkling.pretrain --model teacher --out DIR --tokens 11000000 --seed 0 --threads 1
    python -m agentark_core.arkling.pretrain --model student --out DIR --tokens 3100000 --seed 0 --threads 1

Muon for the matrices, AdamW for embeddings and norms, one learning rate that rises for 2 % of the run, stays, and
decays linearly from 30 % on (most of the accuracy comes during the decay; the student stops early, see STOP_AT). The
teacher learns from its own solutions as well: at `SAMPLE_AT` of the run it answers training problems once, and half of
the later debate prompts are built from these answers. Started again with the same arguments, a run continues from its
last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentark_core.arkling import formats, generator
from agentark_core.arkling.batches import Curriculum, Row, mixture, pool_rows
from agentark_core.arkling.formats import Sampled
from agentark_core.arkling.model import SIZES, ModelName, generate, new_model
from agentark_core.arkling.tokenizer import build
from agentark_core.errors import ConfigError
from agentark_core.statistics import wilson

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

PEAK_LR = 3e-3
EMBEDDING_LR = 3e-3
WARMUP, DECAY_FROM = 0.02, 0.3
SAMPLE_AT = 0.5
CHECKPOINT_S = 120.0
STOP_AT: dict[ModelName, float] = {"teacher": 1.0, "student": 0.7, "small": 0.7, "large": 1.0}
"""Share of the schedule that is run. A student stopped before its rate has decayed can still be moved by fine-tuning:
fully decayed (4M tokens) it gained 2 to 4 points from 2,489 debate traces, see docs/LOG.md."""
NUM_SAMPLED, SAMPLES_EACH = 2000, 6


def pretrain(
    *,
    model: ModelName,
    out: Path,
    tokens: int,
    seed: int,
    max_minutes: float = 0.0,
    compile_model: bool = False,
    num_validation: int = 300,
    num_test: int = 0,
) -> dict[str, Any]:
    """Train, write the model directory `out` (hub layout) and return its training record.

    tokens: training tokens, padding not counted. max_minutes: the schedule ends there at the latest; 0 is no limit.
    num_validation, num_test: greedy questions at the end (0 skips).
    """
    import torch
    from tqdm import tqdm

    tokenizer = build(formats.vocabulary_texts())
    net = new_model(model, tokenizer=tokenizer, seed=seed)
    optimizers = optimizers_of(net)
    state: dict[str, Any] = {"pool": 0, "tokens": 0, "seconds": 0.0, "losses": []}
    sampled: list[Sampled] = []
    curriculum: Curriculum = "debate" if model == "teacher" else "solo"
    checkpoint = out / "checkpoint.pt"
    arguments = {"model": model, "tokens": tokens, "seed": seed}
    if checkpoint.exists():
        sampled = _resume(checkpoint, net, optimizers, state, arguments)
    out.mkdir(parents=True, exist_ok=True)
    body = torch.compile(net.model, dynamic=True) if compile_model else net.model
    begun, saved = time.monotonic() - state["seconds"], time.monotonic()

    def progress() -> float:
        by_time = (time.monotonic() - begun) / (60 * max_minutes) if max_minutes else 0.0
        return max(state["tokens"] / tokens, by_time)

    bar = tqdm(total=tokens, initial=state["tokens"], unit="tok", unit_scale=True, desc=model, mininterval=5)
    while progress() < 1:
        if model == "teacher" and not sampled and progress() >= SAMPLE_AT:
            sampled = sample_pool(net, tokenizer, seed=seed)
        batches = pool_rows(
            tokenizer, curriculum=curriculum, progress=progress(), seed=seed, index=state["pool"], sampled=sampled
        )
        for batch in batches:
            set_rate(optimizers, _rate(progress() * STOP_AT[model]))
            loss = step(net, body, optimizers, batch, pad=net.config.pad_token_id)
            count = sum(len(ids) for ids, _ in batch)
            state["tokens"] += count
            state["losses"].append([state["tokens"], round(loss, 4)])
            bar.update(count)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        state["pool"] += 1
        state["seconds"] = time.monotonic() - begun
        if time.monotonic() - saved > CHECKPOINT_S:
            _save(checkpoint, net, optimizers, state, arguments, sampled)
            saved = time.monotonic()
    bar.close()
    record = {
        **arguments,
        "generator_version": generator.GENERATOR_VERSION,
        "parameters": net.num_parameters(),
        "trained_tokens": state["tokens"],
        "minutes": round(state["seconds"] / 60, 1),
        "peak_lr": PEAK_LR,
        "last_lr": round(PEAK_LR * _rate(STOP_AT[model]), 6),
        "mixture": {str(at): mixture(curriculum, at) for at in (0.0, 0.25)},
        "own_samples": len(sampled) * SAMPLES_EACH,
        "loss_curve": _curve(state["losses"], points=50),
    }
    write(out, net, tokenizer, record)
    for split, count in (("validation", num_validation), ("test", num_test)):
        if count:
            record[f"{split}_greedy"] = accuracy(net, tokenizer, split=split, count=count)
    write(out, net, tokenizer, record)
    checkpoint.unlink(missing_ok=True)
    return record


def sample_pool(net: Any, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> list[Sampled]:
    """The model's own answers (T = 0.9) to training problems; text that is not a well-formed solution becomes None."""
    import torch

    rng = random.Random(f"own-{seed}")
    torch.manual_seed(seed)
    drawn = [generator.draw(rng, "train") for _ in range(NUM_SAMPLED)]
    asked = [generator.question(spec, rng) for spec in drawn]
    chats = [[{"role": "user", "content": text}] for text in asked for _ in range(SAMPLES_EACH)]
    texts = generate(copy.deepcopy(net).to(torch.bfloat16), tokenizer, chats, temperature=0.9)
    usable = [text if generator.parse_solution(text) is not None else None for text in texts]
    return [
        Sampled(spec=spec, question=text, texts=tuple(usable[i * SAMPLES_EACH : (i + 1) * SAMPLES_EACH]))
        for i, (spec, text) in enumerate(zip(drawn, asked, strict=True))
    ]


def accuracy(net: Any, tokenizer: PreTrainedTokenizerFast, *, split: str, count: int) -> dict[str, Any]:
    """Greedy accuracy on `count` problems of a split, with its 95 % Wilson interval (all in [0, 1])."""
    problems = generator.problems(split, limit=count)
    texts = generate(net, tokenizer, [[{"role": "user", "content": p.question}] for p in problems], temperature=0)
    right = sum(generator.parse_solution(t) == int(p.gold) for t, p in zip(texts, problems, strict=True))
    low, high = wilson(right, count)
    return {"accuracy": round(right / count, 4), "n": count, "wilson95": [round(low, 4), round(high, 4)]}


def step(net: Any, body: Any, optimizers: list[torch.optim.Optimizer], batch: list[Row], *, pad: int) -> float:
    """One update; returns the weighted mean loss in nats. Rows are padded on the right (causal: never seen)."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch])
    weights = torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in batch])[:, 1:]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = body(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        chosen = weights > 0
        logits = torch.nn.functional.linear(hidden[chosen], net.lm_head.weight)
    losses = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][chosen], reduction="none")
    loss = (losses * weights[chosen]).sum() / weights.sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def optimizers_of(net: Any) -> list[torch.optim.Optimizer]:
    import torch

    named = list(net.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=PEAK_LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=EMBEDDING_LR, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _rate(progress: float) -> float:
    """Learning rate as a share of the peak."""
    if progress < WARMUP:
        return 0.05 + 0.95 * progress / WARMUP
    return min(1.0, max(0.01, (1 - progress) / (1 - DECAY_FROM)))


def set_rate(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    for optimizer, peak in zip(optimizers, (PEAK_LR, EMBEDDING_LR), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share


def _curve(losses: list[list[float]], *, points: int) -> list[list[float]]:
    """`points` means of consecutive stretches of (tokens, loss)."""
    size = max(1, -(-len(losses) // points))
    stretches = [losses[i : i + size] for i in range(0, len(losses), size)]
    return [[stretch[-1][0], round(sum(loss for _, loss in stretch) / len(stretch), 4)] for stretch in stretches]


def _save(
    path: Path,
    net: Any,
    optimizers: list[Any],
    state: dict[str, Any],
    arguments: dict[str, Any],
    sampled: list[Sampled],
) -> None:
    import torch

    own = [[s.spec.family, list(s.spec.values), s.question, list(s.texts)] for s in sampled]
    content = {
        "net": net.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "json": json.dumps({"state": state, "arguments": arguments, "sampled": own}),
    }
    torch.save(content, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _resume(
    path: Path, net: Any, optimizers: list[Any], state: dict[str, Any], arguments: dict[str, Any]
) -> list[Sampled]:
    import torch

    content = torch.load(path, weights_only=True)
    plain = json.loads(content["json"])
    if plain["arguments"] != arguments:
        raise ConfigError(f"{path}: is of a run with {plain['arguments']}; repeat these arguments or delete the file")
    net.load_state_dict(content["net"])
    for optimizer, saved in zip(optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    state.update(plain["state"])
    return [
        Sampled(spec=generator.Spec(family, tuple(values)), question=asked, texts=tuple(texts))
        for family, values, asked, texts in plain["sampled"]
    ]


def write(out: Path, net: Any, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any]) -> None:
    import torch

    copy.deepcopy(net).to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out, save_jinja_files=False)
    (out / "training_record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Command line of `python -m agentark_core.arkling.pretrain`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="arkling pretrain", description="Pretrain an embedded model from scratch.")
    parser.add_argument("--model", choices=tuple(SIZES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    parser.add_argument("--tokens", type=int, required=True, help="training tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 keeps torch's default")
    parser.add_argument("--max-minutes", type=float, default=0.0, help="end the schedule by then; 0 is no limit")
    parser.add_argument("--compile", action="store_true", help="torch.compile: about 15 %% faster after a minute")
    parser.add_argument("--num-test", type=int, default=0, help="test questions answered greedily at the end")
    args = parser.parse_args(argv)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    record = pretrain(
        model=args.model,
        out=args.out,
        tokens=args.tokens,
        seed=args.seed,
        max_minutes=args.max_minutes,
        compile_model=args.compile,
        num_test=args.num_test,
    )
    print(json.dumps({key: value for key, value in record.items() if key != "loss_curve"}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
