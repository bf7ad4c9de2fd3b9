"""Evaluated runs that differ in the seed of the training alone, as the arms of a comparison over seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agentark_core.errors import ConfigError, DataError
from agentark_core.evaluation import BASE, STUDENT
from agentark_core.paired_tests import Outcomes
from agentark_core.report.pairing import method_outcomes
from agentark_core.seeds_view import BASE as FIXED
from agentark_core.seeds_view import Arms

RUNS, AGAINST = "runs", "against"


def arms_of(home: Path, runs: Sequence[str], *, against: Sequence[str] = (), method: str = STUDENT) -> Arms:
    """The base of the first run, the runs, and those that they are set against: seeds x questions, 1 where right.

    An undecided answer is not right. Raises ConfigError for a run without an evaluation or method, DataError where two
    runs asked different questions.
    """
    base = _outcomes(home, runs[0], BASE)
    arms = {FIXED: [base], RUNS: [_outcomes(home, run, method) for run in runs]}
    if against:
        arms[AGAINST] = [_outcomes(home, run, method) for run in against]
    for run, outcomes in zip((*runs, *against), (*arms[RUNS], *arms.get(AGAINST, ())), strict=True):
        if outcomes.keys() != base.keys():
            raise DataError(
                f"{run}: asked {len(outcomes)} questions, {len(outcomes.keys() & base.keys())} of them those of "
                f"{runs[0]} ({len(base)}); give all runs the same evaluation.problems"
            )
    keys = sorted(base)
    return {
        arm: np.array([[answers[key] is True for key in keys] for answers in several], float)
        for arm, several in arms.items()
    }


def _outcomes(home: Path, run: str, method: str) -> Outcomes:
    path = home / "reports" / run / "evaluation.json"
    if not path.is_file():
        known = ", ".join(sorted(each.parent.name for each in home.glob("reports/*/evaluation.json"))) or "none"
        raise ConfigError(f"{run}: no evaluation under {home}; runs with one: {known}")
    stated = json.loads(path.read_bytes())
    found = method_outcomes(home, stated, method)
    if not found:
        known = ", ".join(stated.get("made_from", {})) or "none"
        raise ConfigError(f"{run}: its evaluation has no method {method!r}; there are: {known}")
    return found
