"""How a student's accuracy grows with the data, the steps, its size and the number of agents that debate.

    python -m experiments.scaling_arkling --home HOME --questions 5000 --seeds 0 1 2

Like the paper's Figures 4 and 5, with the share of the debate's own accuracy that a student keeps. The shipped teacher
debates (5 agents, 2 rounds, stopped when all agree) 1/8, 1/4, 1/2 and all of the questions; each set teaches the
shipped student and one of half its size (pretrained here likewise). The steps' curve: all right traces of all
questions, from one debate of each or from four, in as many passes. The agents' curve: 5, 10 and 20 agents on
--agent-questions, all right traces, in one debate or in debates of five: the shipped teacher has learned to read five
solutions, not more. Greedy answers on the same test questions, beside the debate and one sampled answer of the teacher
on them. 95 % intervals: of one seed Wilson's, of several those of seeds_view.py. Writes scaling.json, scaling.md and
scaling.png to HOME.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from agentark_core import seeds_view
from agentark_core.arkling import generator, model_path
from agentark_core.statistics import wilson
from experiments import runs
from experiments.arkling_evaluation import decoded, encoded, greedy

DEBATE = {"num_agents": 5, "num_rounds": 2, "quorum": 1.0}
SHARES = (8, 4, 2, 1)
STEPS = ((1, 2), (1, 8), (1, 16), (4, 4))
"""Debates of each question and epochs; their product counts the passes over the questions."""
AGENTS = (5, 10, 20)
CURVES = ("data", "steps", "agents")
SERIES = {"student": "tab:blue", "small": "tab:orange"}


def main() -> None:
    """Make every point that is missing, print it, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=5000, help="distil questions of the whole data")
    parser.add_argument("--agent-questions", type=int, default=1250, help="distil questions of the agents' curve")
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--earlier",
        type=Path,
        nargs="*",
        default=[],
        help="scaling.json of other seeds or curves; their points are added",
    )
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    small = runs.pretrained("small", folder=given.home)
    students = {"student": runs.STUDENT, "small": {"path": str(small), "prompts": "arkling"}}
    table = references(given)
    for name, path in (("student", model_path("student")), ("small", small)):
        table.append({"curve": "base", "student": name, **score(path, given)})
    for file in given.earlier:
        table += [row for row in json.loads(file.read_text(encoding="utf-8")) if "seed" in row]
    write(table, home=given.home)
    for seed in given.seeds:
        for share in SHARES if "data" in given.curves else ():
            for name, student in students.items():
                asked = given.questions // share
                point = {"curve": "data", "student": name, "questions": asked, "epochs": 2, "seed": seed}
                table.append(learned(point, student=student, debate=DEBATE, given=given))
        for groups, epochs in STEPS if "steps" in given.curves else ():
            asked = given.questions
            point = {"curve": "steps", "student": "student", "questions": asked, "epochs": epochs, "seed": seed}
            more = {"groups": groups, "passes": groups * epochs}
            table.append(learned(point | more, student=runs.STUDENT, debate=DEBATE, given=given, groups=groups))
        for agents in AGENTS if "agents" in given.curves else ():
            for name, student in students.items():
                for groups in sorted({1, agents // 5}):
                    asked = given.agent_questions
                    point = {"curve": "agents", "student": name, "questions": asked, "epochs": 2, "seed": seed}
                    debate = {**DEBATE, "num_agents": agents // groups, "quorum": 0}
                    more = {"agents": agents, "groups": groups}
                    table.append(learned(point | more, student=student, debate=debate, given=given, groups=groups))
        write(table, home=given.home)
    print(over_seeds(table))


def write(table: list[dict[str, Any]], *, home: Path) -> None:
    """scaling.json, scaling.md and scaling.png."""
    (home / "scaling.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    (home / "scaling.md").write_text(over_seeds(table), encoding="utf-8")
    plot(table, home / "scaling.png")


def over_seeds(table: list[dict[str, Any]]) -> str:
    """Markdown, for each size of student: the points over their seeds, and differences from the base and between
    neighbours on a curve, a family of tests of its own."""
    parts = []
    for size in SERIES:
        outcomes: dict[str, list[list[bool]]] = {}
        lines: dict[tuple[str, bool], dict[str, None]] = {}
        for row in table:
            if "outcomes" in row and row["student"] == size:
                outcomes.setdefault(arm(row), []).append(decoded(row["outcomes"]))
                lines.setdefault((row["curve"], row.get("groups", 1) > 1), {})[arm(row)] = None
        splits = {size: {name: np.array(found, float) for name, found in outcomes.items()}}
        neighbours = [pair[::-1] for line in lines.values() for pair in pairwise(line)]
        parts.append(seeds_view.render_markdown(splits, seeds_view.differences(splits, neighbours)))
    return "\n".join(parts)


def arm(row: dict[str, Any]) -> str:
    """The name of a point, the same for all seeds."""
    match row["curve"]:
        case "base":
            return seeds_view.BASE
        case "data":
            return f"{row['questions']:,} questions"
        case "steps":
            return f"{row['questions']:,} questions, debates: {row['groups']}, epochs: {row['epochs']}"
        case _:
            return f"{row['agents']} agents" + (f" in {row['groups']} debates" if row["groups"] > 1 else "")


def references(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The teacher on the test questions: one sampled answer, and the debate's vote."""
    config = {
        "run": {"name": "teacher", "home": str(given.home)},
        "student": runs.STUDENT,
        "teacher": runs.TEACHER,
        "debate": {**DEBATE, "summariser": "never", "sampling": runs.SAMPLING},
        "evaluation": {"problems": {"source": "arkling", "split": "test", "limit": given.test}},
    }
    report = given.home / "reports" / "teacher" / "evaluation.json"
    if not report.exists():
        runs.agentark("evaluate-model", config, folder=given.home)
    rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
    kept = ("accuracy", "low", "high", "n", "tokens_per_question")
    return [{"curve": row["name"], **{key: row[key] for key in kept}} for row in rows if "teacher" in row["name"]]


def learned(
    point: dict[str, Any],
    *,
    student: dict[str, Any],
    debate: dict[str, Any],
    given: argparse.Namespace,
    groups: int = 1,
) -> dict[str, Any]:
    """One point of a curve; groups: debates of each question, each of a seed of its own."""
    agents, seed = debate["num_agents"], point["seed"]
    name = f"debate-{agents}-{debate['quorum']:g}".replace(".", "_")
    traces = [
        runs.debated(
            name + (f"-s{group}" if group else ""), debate, questions=point["questions"], home=given.home, seed=group
        )
        for group in range(groups)
    ]
    model = runs.distilled(
        f"{point['curve']}-{point['student']}-{point['questions']}-{agents}x{groups}-{point['epochs']}-{seed}",
        traces=traces,
        home=given.home,
        student=student,
        examples={"max_per_problem": 2} if point["curve"] == "data" else {},
        sft={**runs.SFT, "epochs": point["epochs"], "seed": seed},
    )
    return {**point, **score(model, given, label=str(point))}


def score(model: Path, given: argparse.Namespace, *, label: str = "") -> dict[str, Any]:
    """Greedy accuracy on the test questions, printed."""
    outcomes = greedy(model, generator.problems("test", limit=given.test))
    right, n = sum(outcome is True for outcome in outcomes.values()), len(outcomes)
    low, high = wilson(right, n)
    print(f"{label or model} {100 * right / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]", flush=True)
    return {"accuracy": right / n, "low": low, "high": high, "n": n, "outcomes": encoded(outcomes)}


def plot(table: list[dict[str, Any]], path: Path) -> None:
    """A panel for each curve that has points; every seed is a point, the lines go through their means."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = {"data": "questions", "steps": "passes", "agents": "agents"}
    curves = [curve for curve in CURVES if any(row["curve"] == curve for row in table)]
    if not curves:
        return
    figure = Figure(figsize=(5 * len(curves), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    lines = {row["curve"]: row for row in table if row["curve"] in ("teacher debate", "teacher single")}
    for axis, curve in zip(axes, curves, strict=True):
        key = keys[curve]
        ticks = sorted({row[key] for row in table if row["curve"] == curve})
        for (name, colour), grouped in product(SERIES.items(), (False, True)):
            points = [
                row
                for row in table
                if row["curve"] == curve and row["student"] == name and (row.get("groups", 1) > 1) == grouped
            ]
            xs = sorted({row[key] for row in points})
            for row in points:
                bar = [[100 * (row["accuracy"] - row["low"])], [100 * (row["high"] - row["accuracy"])]]
                axis.errorbar(row[key], 100 * row["accuracy"], yerr=bar, fmt="o", ms=3, color=colour, alpha=0.6)
            means = [[row["accuracy"] for row in points if row[key] == x] for x in xs]
            label = {"student": "student, 0.5 M parameters", "small": "student, 0.2 M"}[name]
            label += ", several debates of five" if grouped else ""
            style = ":" if grouped else "-"
            axis.plot(xs, [100 * sum(m) / len(m) for m in means], style, color=colour, label=label if xs else None)
        for name, row in lines.items():
            axis.axhline(100 * row["accuracy"], ls="--", lw=1, color="0.4")
            axis.annotate(name, (0.02, 100 * row["accuracy"] + 1), xycoords=("axes fraction", "data"), fontsize=8)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.set_xlabel(
            {"data": "debated questions", "steps": "passes: debates of each question x epochs", "agents": "agents"}[
                curve
            ]
        )
        axis.set_ylim(0, 100)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right", fontsize=8)
    axes[0].set_ylabel("greedy accuracy, %")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
