"""Process reward models on exact step labels of arkling: Eq. 7, cross-entropy, and no training; several seeds.

    python -m experiments.prm_arkling --out /tmp/prm

Training: solutions that the shipped teacher samples at T = 0.9 for `distil` questions, or the generator's own, half of
them broken, labelled exactly, in the rows of the kind `process`. Held out: the first-round solutions of committed
debates on `test` questions (--home, --run), or without --run --samples fresh ones of the teacher to each of --held-out
`test` questions. The first --selection questions choose the threshold of the first error; every figure is of
the others. The loss `none` trains nothing: a step's score is the lowest probability that the base, a language model,
gave any token so far, which tells what the base knows of the errors. Prints JSON lines, and writes them with a
reliability plot to --out. All intervals 95 %.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq

from agentark_core import prm_metrics, process, prompts
from agentark_core.answers import extract
from agentark_core.arkling import generator, model_path
from agentark_core.arkling.corruption import wrong_solution
from agentark_core.calibration import Bin
from agentark_core.chat import ChatFormat
from agentark_core.config import ExamplesConfig, PRMHead
from agentark_core.prm_metrics import Scored
from agentark_core.step_labels import exact_labels
from agentark_core.step_tokens import tokenise
from agentark_core.steps import split
from agentark_core.stored import read_debates
from agentark_core.types import Debate, Problem, Turn, Verdict
from experiments import runs

TEMPERATURE = 0.9
LOSSES = ("contrastive", "bce", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One held-out solution and the exact labels of its steps."""

    question: str
    text: str
    labels: list[bool]
    answer: str | None
    correct: bool


def main() -> None:
    """Sample, train every model, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("agentark-home"), help="home of --run")
    parser.add_argument(
        "--run", default="", help="fingerprint of debates on test questions; their first round is held out"
    )
    parser.add_argument(
        "--held-out", type=int, default=500, help="test questions to sample solutions of, without --run"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for samples, models and results")
    parser.add_argument(
        "--base",
        default="student",
        help="what the models start from: student, teacher, small, large (pretrained into --out first) or a folder",
    )
    parser.add_argument("--source", choices=("teacher", "generated"), default="teacher", help="whose solutions")
    parser.add_argument("--questions", type=int, default=1500, help="distil questions to train on")
    parser.add_argument("--samples", type=int, default=6, help="solutions of each")
    parser.add_argument("--selection", type=int, default=100, help="held-out questions that choose the threshold")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--head", choices=get_args(PRMHead), default="linear", help="what scores a step")
    parser.add_argument("--temperature", type=float, default=0.1, help="of Eq. 7")
    parser.add_argument("--stage1", type=float, nargs=2, default=(1, 2e-3), metavar=("EPOCHS", "RATE"))
    parser.add_argument("--stage2", type=float, nargs=2, default=(4, 1e-3), metavar=("EPOCHS", "RATE"))
    parser.add_argument("--batch", type=int, default=16, help="questions per optimiser step")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    examples = options.out / f"{options.source}-{options.questions}x{options.samples}.parquet"
    if not examples.exists():
        problems = generator.problems("distil", limit=options.questions)
        texts = (sample if options.source == "teacher" else invent)(problems, options.samples)
        pq.write_table(label(problems, texts), examples, write_page_checksum=True)
    traces = held_out(options)
    base = body(options.base, folder=options.out)
    tables: dict[str, list[Bin]] = {}
    with (options.out / "results.jsonl").open("a", encoding="utf-8") as results:
        for seed in range(options.seeds):
            for loss in options.losses:
                if loss == "none" and seed:  # it has no seed
                    continue
                folder = (
                    options.out / f"{options.source}-{base.name}-{options.head}-{loss}-{options.temperature}-{seed}"
                )
                prm = {
                    "head": options.head,
                    "loss": loss,
                    "temperature": options.temperature,
                    "stage1": {"epochs": options.stage1[0], "learning_rate": options.stage1[1]},
                    "stage2": {"epochs": options.stage2[0], "learning_rate": options.stage2[1]},
                    "batch_size": options.batch,
                    "micro_batch_size": options.batch,
                    "seed": seed,
                }
                trained = {} if loss == "none" else train([examples], base=base, folder=folder, prm=prm)
                scores = likelihoods(base, traces) if loss == "none" else rewards(Path(trained["model"]), traces)
                figures, table = measure(scores, traces, selection=options.selection)
                tables.setdefault(loss, table)
                row = {
                    "base": options.base,
                    "head": options.head,
                    "loss": loss,
                    "seed": seed,
                    "temperature": options.temperature,
                    **figures,
                    "training": trained,
                }
                print(json.dumps(row), file=results, flush=True)
                print(json.dumps(row), flush=True)
    prm_metrics.plot_reliability(tables, options.out / "reliability.png")


def body(name: str, *, folder: Path) -> Path:
    """The directory that reward models start from: a shipped model's, one pretrained into folder, or `name` itself."""
    if name in runs.PRETRAINING:
        return runs.pretrained(name, folder=folder)
    return Path(name) if Path(name).is_dir() else model_path(name)  # type: ignore[arg-type]


def sample(problems: list[Problem], samples: int) -> list[list[str]]:
    """Fresh solutions of the teacher, for each problem."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from agentark_core.arkling.model import generate

    path = model_path("teacher")
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    chats = [prompts.first_answer(problem.question, wording="arkling") for problem in problems for _ in range(samples)]
    torch.manual_seed(0)
    texts = generate(model, tokenizer, chats, temperature=TEMPERATURE)
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def invent(problems: list[Problem], samples: int) -> list[list[str]]:
    """The generator's own solutions of each problem, half of them broken in one place."""
    texts = []
    for problem in problems:
        rng, spec = random.Random(problem.problem_id), generator.parse_question(problem.question)
        right = generator.solutions(spec)
        texts.append([rng.choice(right) if n % 2 else wrong_solution(spec, rng) for n in range(samples)])
    return texts


def label(problems: list[Problem], texts: list[list[str]]) -> Any:
    """Rows of the kind `process`, as if each text were an agent's."""
    debates, verdicts = [], {}
    for problem, solutions in zip(problems, texts, strict=True):
        turns = []
        for agent, text in enumerate(solutions, start=1):
            turns.append(_turn(problem, agent=agent, text=text))
            right = generator.parse_solution(text) == int(problem.gold)
            verdict = "correct" if right else "incorrect"
            verdicts[turns[-1].key] = Verdict(label=verdict, method="number", extracted=None)  # type: ignore[arg-type]
        debates.append(Debate(work_id=problem.problem_id, problem=problem, turns=tuple(turns), stop_reason="rounds"))
    config = ExamplesConfig(step_labels="exact")
    table, counts = process.build(debates, verdicts, config=config, wording="arkling", source_fingerprint="sampled")
    print(json.dumps({"examples": counts}), flush=True)
    return table


def _turn(problem: Problem, *, agent: int, text: str) -> Turn:
    return Turn(
        work_id=problem.problem_id,
        problem_id=problem.problem_id,
        round=1,
        agent=agent,
        seed=0,
        text=text,
        answer=None,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        finish_reason="stop",
        status="ok",
    )


def held_out(options: argparse.Namespace) -> list[Trace]:
    """Solutions of the first round of committed debates, in order, or fresh ones."""
    if options.run:
        solutions = [
            (debate.problem, turn.text)
            for debate in read_debates(options.home, fingerprint=options.run)
            for turn in debate.turns
            if turn.round == 1 and turn.role == "agent" and turn.status == "ok"
        ]
    else:
        problems = generator.problems("test", limit=options.held_out)
        texts = sample(problems, options.samples)
        solutions = [(problem, text) for problem, found in zip(problems, texts, strict=True) for text in found]
    traces = []
    for problem, text in solutions:
        labels = [step.label is True for step in exact_labels(text, question=problem.question)]
        answer = extract(text, task="number")
        right = answer is not None and answer == problem.gold
        traces.append(Trace(question=problem.question, text=text, labels=labels, answer=answer, correct=right))
    return traces


def train(examples: Sequence[Path], *, base: Path, folder: Path, prm: dict[str, Any]) -> dict[str, Any]:
    """One model, in a process of its own; a finished one is returned at once. prm: options of PRMConfig."""
    folder.mkdir(parents=True, exist_ok=True)
    resolved = {
        "model": str(base),
        "examples": [str(path) for path in examples],
        "output": str(folder),
        "prm": {**prm, "dtype": "float32"},
    }
    (folder / "resolved.json").write_text(json.dumps(resolved))
    command = [sys.executable, "-m", "agentark_core.training.prm", "--config", str(folder / "resolved.json")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def rewards(model: Path, traces: list[Trace]) -> list[list[float]]:
    """The steps' scores by a process reward model."""
    from agentark_core.training.prm_model import PRM

    asked = [prompts.first_answer(trace.question, wording="arkling") for trace in traces]
    return PRM.load(model).scores(asked, [trace.text for trace in traces])


def likelihoods(base: Path, traces: list[Trace], *, batch: int = 100) -> list[list[float]]:
    """For each step the lowest probability that a language model gave any token until the step's end."""
    import torch

    from agentark_core.training import prm_head

    chat, model = ChatFormat.load(base), prm_head.load(base, head="likelihood", dtype=torch.float32).eval()
    found = []
    for start in range(0, len(traces), batch):
        rows = [
            tokenise(chat, prompts.first_answer(trace.question, wording="arkling"), split(trace.text))
            for trace in traces[start : start + batch]
        ]
        width = max(len(row.input_ids) for row in rows)
        ids = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows])
        mask = torch.tensor([[row.start <= place < len(row.input_ids) for place in range(width)] for row in rows])
        with torch.inference_mode():
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            lowest = model.logprobs(hidden, input_ids=ids, mask_R_T=mask).cummin(1).values.exp()
        found += [chances[row.positions].tolist() for row, chances in zip(rows, lowest, strict=True)]
    return found


def measure(scores: list[list[float]], traces: list[Trace], *, selection: int) -> tuple[dict[str, Any], list[Bin]]:
    """All figures of one model on the questions behind the first `selection`, and its reliability table."""
    from agentark_core.training.rewards import aggregate

    questions = list(dict.fromkeys(trace.question for trace in traces))
    chosen = set(questions[:selection])
    scored = [
        Scored(question=trace.question, scores=values, labels=trace.labels)
        for trace, values in zip(traces, scores, strict=True)
    ]
    choosing = [one for one in scored if one.question in chosen]
    threshold = prm_metrics.choose_threshold([one.scores for one in choosing], [one.first_error for one in choosing])
    found = prm_metrics.measure([one for one in scored if one.question not in chosen], threshold=threshold)
    by_question: dict[str, list[tuple[Trace, list[float]]]] = {}
    for trace, values in zip(traces, scores, strict=True):
        if trace.question not in chosen:
            by_question.setdefault(trace.question, []).append((trace, values))
    figures = {
        "auc": asdict(found.auc),
        "first_error": asdict(found.first_error),
        "calibration_error": asdict(found.calibration_error),
        "best_of_n": {
            how: asdict(
                prm_metrics.best_of_n(
                    [[aggregate(values, how=how) for _, values in group] for group in by_question.values()],
                    [[trace.answer for trace, _ in group] for group in by_question.values()],
                    [[trace.correct for trace, _ in group] for group in by_question.values()],
                )
            )
            for how in ("mean", "min", "last", "product")
        },
    }
    return figures, found.reliability


if __name__ == "__main__":
    main()
