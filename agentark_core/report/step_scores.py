"""Scores of a process reward model on the steps of a run's debates, kept beside its report; and how good they are.

    reports/RUN/step-scores.json
    {"model": .., "rows": [{"work_id": .., "round": 1, "agent": 2, "scores": [0.98, 0.03]}, ..]}

The scored debates are the first N of the held-out ones, else of those that were learned from. What says which steps
are right is the question's generator for arkling, else the evidence of the debate itself (step_labels.py).
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from agentark_core import prompts
from agentark_core.calibration import Bin, calibration
from agentark_core.errors import ConfigError, DataError
from agentark_core.ledger import atomic_write_json
from agentark_core.prm_metrics import auc
from agentark_core.report.debate_sets import Verdicts, verdicts_of
from agentark_core.report.gather import Facts, gather, scores_path
from agentark_core.statistics import Estimate
from agentark_core.step_labels import StepLabel, evidence_labels, exact_labels
from agentark_core.stored import read_debates
from agentark_core.types import Debate, Turn

NOTE = (
    "Steps of held-out debates if there are any. Labels: exact for arkling, else from the evidence of the debate, "
    "which labels some steps only and errs at times. Intervals of AUC and error resample whole questions."
)
UNMEASURED = "The scored steps are all right or all wrong, or have no label: nothing to measure."


def score(home: Path, run: str, *, questions: int) -> Path:
    """Score the solutions of the first debates with the run's process reward model (torch, here); returns the file.

    Raises ConfigError if the run trained no such model, or has no debates.
    """
    from agentark_core.training.prm_model import PRM

    facts = gather(home, run)
    models = [one["model"] for one in facts.made.get("stages", []) if one["strategy"] == "prm"]
    if not models or not facts.sets:
        raise ConfigError(f"{run}: no process reward model was trained in this run; use strategies: [pad]")
    model, shown = PRM.load(models[-1]), (facts.held_out or facts.learned)[0]
    wording = shown.config.get("wording", "general")
    asked = [
        (turn, prompts.first_answer(debate.problem.question, wording=wording))
        for debate in islice(read_debates(home, fingerprint=shown.fingerprint, shards=shown.shards), questions)
        for turn in solutions_of(debate)
    ]
    found = model.scores([prompt for _, prompt in asked], [turn.text for turn, _ in asked])
    rows = [
        {
            "work_id": turn.work_id,
            "round": turn.round,
            "agent": turn.agent,
            "scores": [round(value, 4) for value in scores],
        }
        for (turn, _), scores in zip(asked, found, strict=True)
    ]
    path = scores_path(home, run)
    atomic_write_json(path, {"model": models[-1], "rows": rows})
    return path


def solutions_of(debate: Debate) -> list[Turn]:
    """The turns that have steps to look at: whole, decided-on solutions of agents and of the summariser."""
    return [turn for turn in debate.turns if turn.role in ("agent", "summariser") and turn.status == "ok"]


def labels_of(debate: Debate, verdicts: Verdicts) -> dict[tuple[int, int], list[StepLabel]]:
    """Labelled steps of every such turn, by (round, agent)."""
    turns, problem = solutions_of(debate), debate.problem
    if problem.dataset == "arkling":
        labelled = [exact_labels(turn.text, question=problem.question) for turn in turns]
    else:
        labels = [verdicts[turn.key].label for turn in turns]
        labelled = evidence_labels([turn.text for turn in turns], labels, question=problem.question, task=problem.task)
    return {(turn.round, turn.agent): steps for turn, steps in zip(turns, labelled, strict=True)}


def measure(facts: Facts) -> tuple[list[Bin], Estimate, Estimate] | None:
    """Reliability table, calibration error and AUC of the labelled steps; None if there is nothing to tell apart."""
    scores: list[float] = []
    labels: list[bool] = []
    questions: list[str] = []
    for one in facts.sets:
        for shard in one.shards:
            verdicts = verdicts_of(facts.home, one, shard=shard)
            for debate in read_debates(facts.home, fingerprint=one.fingerprint, shards=[shard]):
                if not any(turn.key in facts.step_scores for turn in debate.turns):
                    continue
                for (number, agent), steps in labels_of(debate, verdicts).items():
                    values = facts.step_scores.get((debate.work_id, number, agent), [])
                    for value, step in zip(values, steps, strict=False):
                        if step.label is not None:
                            scores.append(value)
                            labels.append(step.label)
                            questions.append(debate.work_id)
    try:
        area = auc(scores, labels, questions)
    except DataError:
        return None
    table, error = calibration(scores, labels, questions)
    return table, error, area
