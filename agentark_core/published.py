"""Accuracies that the paper reports, to stand beside ours: published.csv, in %.

Source: "AgentArk: Distilling Multi-Agent Intelligence into a Single LLM Agent" (arXiv 2602.03955), Tables 4, 8 and 9 to
13. Models are hub ids, sets are sources of ProblemsConfig; a figure is of the whole set, from debates of 5 agents and
3 rounds. teacher: empty for the base student and for `sft_answer`, which learns from gold answers alone. prm: the model
that the process reward model starts from, empty for the student's own.

The paper has other figures of some of these cells, which differ by up to 3.3 points: Table 4 where both models are of
one size (Tables 9 and 13), Table 5's GRPO (Table 11). Not here, as their cells are not told: Table 5 names neither
student nor teacher, Table 7 not what the first stage learned from.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from agentark_core.config.debates import DebateConfig, ProblemsConfig
from agentark_core.config.sweep import Cell, SweepConfig

BASE, ANSWERS = "base", "sft_answer"
AGENTS, ROUNDS = 5, 3
Key = tuple[str, str, str, str, str, str]
"""student, teacher, strategy, prm, train, test"""


@cache
def figures() -> dict[Key, float]:
    """All published figures, as shares."""
    text = (files("agentark_core") / "published.csv").read_text(encoding="utf-8")
    return {
        (row["student"], row["teacher"], row["strategy"], row["prm"], row["train"], row["test"]): (
            float(row["accuracy"]) / 100
        )
        for row in csv.DictReader(text.splitlines())
    }


def of_cell(config: SweepConfig, cell: Cell) -> float | None:
    """What the paper reports of the same cell; None if it does not, or ours is another: a part of the questions, other
    agents or rounds, PPO."""
    train, test = config.train_sets[cell.train], config.test_sets[cell.test]
    if not (_whole(train, "train") and _whole(test, "test")):
        return None
    student, teacher, prm = config.students[cell.student].model.path, config.teachers[cell.teacher].model.path, ""
    if cell.strategy == ANSWERS:
        teacher = ""
    elif not _as_published(config.debate_of(cell.teacher)):
        return None
    if "pad" in cell.strategies:
        training = config.training_of(cell.student)
        if training["grpo"].advantage == "value":
            return None
        prm = training["prm"].model.path if training["prm"].model else ""
    return figures().get((student, teacher, cell.strategy, prm if prm != student else "", train.source, test.source))


def of_base(config: SweepConfig, cell: Cell) -> float | None:
    """The same of the base student on the cell's test set."""
    test = config.test_sets[cell.test]
    if not _whole(test, "test"):
        return None
    return figures().get((config.students[cell.student].model.path, "", BASE, "", "", test.source))


def _whole(problems: ProblemsConfig, split: str) -> bool:
    return problems.split == split and not problems.limit and not problems.offset and not problems.few_shot


def _as_published(debate: DebateConfig) -> bool:
    return (debate.strategy, debate.num_agents, debate.num_rounds) == ("debate", AGENTS, ROUNDS)
