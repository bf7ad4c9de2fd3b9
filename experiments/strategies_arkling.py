"""Strategies and controls on arkling: what each student gains over the base, in distribution and out of it.

    python -m experiments.strategies_arkling --home HOME --seeds 0 1 2 --test 1000

Runs are made once: `debate`, 5 agents and 2 rounds of the shipped teacher; `samples`, 10 independent answers of it,
which are as many calls; `own`, 10 answers of the student itself; `gold`, the generator's own solutions, imported: two
of each question where it has two paths. Each arm is `agentark run distil` with its strategies and options on one of
them; every student answers the same questions greedily. The jobs of an arm with PAD do not learn from the 100 questions
of its watch, those of the other arms do; so the student that PAD started from is a row, too. Differences are paired by
question against the base; every seed of the training is a row of its own. All intervals 95 %. Writes
HOME/strategies.json with the outcome of every question.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentark_core.arkling import generator, model_path
from agentark_core.import_debates import import_file
from agentark_core.paired_tests import Outcomes, paired
from agentark_core.statistics import wilson
from experiments import runs
from experiments.arkling_evaluation import encoded, greedy

SAMPLES = {"num_agents": 10, "num_rounds": 1, "quorum": 0}
RUNS: dict[str, dict[str, Any]] = {
    "debate": {"teacher": runs.TEACHER, "debate": {"num_agents": 5, "num_rounds": 2, "quorum": 0}},
    "samples": {"teacher": runs.TEACHER, "debate": SAMPLES},
    "own": {"teacher": runs.STUDENT, "debate": SAMPLES},
}
GOLD = "gold"
TEACHER = "teacher, greedy"
PRM = {"batch_size": 16, "micro_batch_size": 16, "max_length": 512, "stage2": {"learning_rate": 1e-3}}
GRPO = {
    **{"epochs": 0.3, "prompts_per_step": 8, "group_size": 8, "micro_batch_size": 64, "dtype": "float32"},
    **{"learning_rate": 3e-5, "beta": 0.02, "max_tokens": 100, "watch_prompts": 100},
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is learned from: a debate run, the strategies, and options of the training's sections. passes: of --epochs,
    in each SFT job."""

    strategies: tuple[str, ...] = ("rsft",)
    run: str = "debate"
    examples: dict[str, Any] = field(default_factory=dict)
    passes: float = 1
    prm: dict[str, Any] = field(default_factory=dict)
    grpo: dict[str, Any] = field(default_factory=dict)


LARGER_PRM = {"model": runs.TEACHER, "loss": "bce"}
LIKELIHOOD_PRM = {
    **LARGER_PRM,
    **{"head": "likelihood", "stage1": {"epochs": 4, "learning_rate": 1e-2}, "stage2": {"epochs": 0}},
}
WEAKEST = {"aggregate": "min"}
GENTLE = {"aggregate": "min", "advantage": "mean_only", "learning_rate": 1e-5}
"""Without the division by the group's spread, which makes an advantage of a reward model's noise."""

ARMS = {
    "answer only": Arm(strategies=("sft_answer",)),
    "R-SFT": Arm(),
    "R-SFT, none corrective": Arm(examples={"rsft_traces": "uncorrected"}),
    "R-SFT, first round": Arm(examples={"round": "first"}),
    "R-SFT, as few tokens": Arm(passes=0.65),
    "rejection-sampled": Arm(run="samples"),
    "gold solutions": Arm(run=GOLD),
    "majority's traces": Arm(run="samples", examples={"select": "majority"}),
    "DA": Arm(strategies=("da",)),
    "DA, selected by LLM": Arm(
        strategies=("da",), examples={"selector": {"model": {"path": str(model_path("teacher"))}}}
    ),
    "R-SFT + DA": Arm(strategies=("rsft", "da")),
    "R-SFT + DA, as many steps": Arm(strategies=("rsft", "da"), passes=0.5),
    "PAD": Arm(strategies=("pad",)),
    "PAD, larger PRM": Arm(strategies=("pad",), prm=LARGER_PRM),
    "PAD, own samples": Arm(strategies=("pad",), run="own", prm=LARGER_PRM, grpo=WEAKEST),
    "PAD, own samples, exact labels": Arm(
        strategies=("pad",), run="own", examples={"step_labels": "exact"}, prm=LARGER_PRM, grpo=WEAKEST
    ),
    "R-SFT + PAD, larger PRM": Arm(strategies=("rsft", "pad"), prm=LARGER_PRM),
    "R-SFT + PAD, gentle": Arm(strategies=("rsft", "pad"), prm=LARGER_PRM, grpo=GENTLE),
    "PAD, gentle": Arm(strategies=("pad",), prm=LARGER_PRM, grpo=GENTLE),
    "PAD + DA, gentle": Arm(strategies=("pad", "da"), prm=LARGER_PRM, grpo=GENTLE),
    "PAD, likelihood PRM": Arm(strategies=("pad",), prm=LIKELIHOOD_PRM, grpo=WEAKEST),
    "PAD, likelihood PRM, a whole epoch": Arm(strategies=("pad",), prm=LIKELIHOOD_PRM, grpo={**WEAKEST, "epochs": 1}),
    "R-SFT + PAD, likelihood PRM": Arm(strategies=("rsft", "pad"), prm=LIKELIHOOD_PRM, grpo=WEAKEST),
    "R-SFT + PAD, likelihood PRM, a whole epoch": Arm(
        strategies=("rsft", "pad"), prm=LIKELIHOOD_PRM, grpo={**WEAKEST, "epochs": 1}
    ),
    "PAD + DA": Arm(strategies=("pad", "da")),
}


def main() -> None:
    """Make the debates, train and test every arm, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.strategies_arkling", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=2500, help="distil questions that are debated")
    parser.add_argument("--test", type=int, default=1000, help="questions of each test split")
    parser.add_argument("--splits", nargs="+", default=["test", "ood", "longer", "unseen"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=2, help="of every SFT job, beside arms that say otherwise")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    traces = {name: traced(name, given) for name in sorted({ARMS[arm].run for arm in given.arms})}
    tests = {split: generator.problems(split, limit=given.test) for split in given.splits}
    base, teacher = (
        {split: greedy(model_path(name), asked) for split, asked in tests.items()} for name in ("student", "teacher")
    )
    table = [
        row(name=name, seed=None, outcomes=found, base=base) for name, found in (("base", base), (TEACHER, teacher))
    ]
    for seed in given.seeds:
        for name in given.arms:
            model = distilled(name, traces=traces[ARMS[name].run], seed=seed, given=given)
            before = before_pad(name, seed=seed, home=given.home)
            students = {name: model} | ({f"{name}: before PAD": before} if before else {})
            for label, path in students.items():
                outcomes = {split: greedy(path, asked) for split, asked in tests.items()}
                table.append(row(name=label, seed=seed, outcomes=outcomes, base=base))
            (given.home / "strategies.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def traced(name: str, given: argparse.Namespace) -> str:
    """The fingerprint of what an arm learns from."""
    if name == GOLD:
        return imported_gold(given)
    return runs.debated(name, **RUNS[name], questions=given.questions, home=given.home)


def imported_gold(given: argparse.Namespace) -> str:
    """The fingerprint of the generator's solutions of the same questions, as recorded answers of two agents."""
    rows = []
    for problem in generator.problems("distil", limit=given.questions):
        paths = generator.solutions(generator.parse_question(problem.question))
        chosen = random.Random(problem.problem_id).sample(paths, min(2, len(paths)))
        solutions = [{"id": number, "text": text} for number, text in enumerate(chosen, start=1)]
        rows.append({"query": problem.question, "gt": problem.gold, "solutions": solutions})
    file = given.home / f"gold-{given.questions}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return import_file(file, format="agentark", task="number", dataset="gold", home=given.home).fingerprint


def distilled(name: str, *, traces: str, seed: int, given: argparse.Namespace) -> Path:
    """The model directory of one arm, made by the flow. What is finished is found again."""
    arm = ARMS[name]
    return runs.distilled(
        f"{name}-{seed}",
        traces=[traces],
        home=given.home,
        strategies=list(arm.strategies),
        examples={"max_per_problem": 2, **arm.examples},
        sft={**runs.SFT, "epochs": arm.passes * given.epochs, "seed": seed},
        prm={**PRM, **arm.prm, "seed": seed},
        grpo={**GRPO, **arm.grpo, "seed": seed},
    )


def before_pad(name: str, *, seed: int, home: Path) -> Path | None:
    """The student that an arm's PAD started from; None if that is the base, or there is no PAD."""
    strategies = ARMS[name].strategies
    place = strategies.index("pad") if "pad" in strategies else 0
    return runs.stages(f"{name}-{seed}", home=home)[place - 1] if place else None


def row(*, name: str, seed: int | None, outcomes: dict[str, Outcomes], base: dict[str, Outcomes]) -> dict[str, Any]:
    """Print and return one line of the table: accuracy and paired difference for each split."""
    found: dict[str, Any] = {"arm": name, "seed": seed}
    cells = []
    for split, answers in outcomes.items():
        right = sum(outcome is True for outcome in answers.values())
        low, high = wilson(right, len(answers))
        test = paired(answers, base[split])
        figures = {"right": right, "n": len(answers), "low": low, "high": high, "outcomes": encoded(answers)}
        found[split] = figures | {"difference": test.difference, "from": test.low, "to": test.high, "p": test.p_value}
        text = f"{split} {100 * right / len(answers):5.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        cells.append(text + ("" if seed is None else f" {test.difference:+5.1f} [{test.low:+.1f}, {test.high:+.1f}]"))
    print(f"{name:24} {'' if seed is None else f'seed {seed}':7} {'   '.join(cells)}", flush=True)
    return found


if __name__ == "__main__":
    main()
