"""What students keep of a debate's accuracy, and what they cost of its tokens, over seeds of their training.

    python -m experiments.share_arkling --home HOME --students steps-student-5000-5x1-16-0 steps-student-5000-5x1-16-1

Each student answers the test questions greedily (`agentark run evaluate-model`, vLLM), beside two debates of the
shipped teacher: one that stops when all agree, and the paper's of sixteen calls (5 agents in all of 3 rounds, and a
summariser). The claim "at least 95 %" is the paired difference of the students and 0.95 times the debate's vote. 95 %
intervals that hold the variance of seeds and of questions (agentark_core/seeds.py). Writes share.json to HOME.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from agentark_core.evaluation import STUDENT
from agentark_core.report.pairing import method_outcomes
from agentark_core.seeds import difference_over_seeds, mean_over_seeds
from agentark_core.statistics import Array
from experiments import runs

DEBATES: dict[str, dict[str, Any]] = {
    "until all agree": {"num_agents": 5, "num_rounds": 2, "quorum": 1.0, "summariser": "never"},
    "all rounds": {"num_agents": 5, "num_rounds": 3, "quorum": 0, "summariser": "always"},
}
DEBATE = "teacher debate"
SHARE = 0.95


def main() -> None:
    """Evaluate what is missing, print a line for each debate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--students", nargs="+", required=True, help="runs of distil in HOME, of two or more seeds")
    parser.add_argument("--test", type=int, default=1000)
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    table = []
    for name, debate in DEBATES.items():
        reports = [evaluated(name, debate, student=student, given=given) for student in given.students]
        answers = [method_outcomes(given.home, report, STUDENT) for report in reports]
        of_debate = method_outcomes(given.home, reports[0], DEBATE)
        keys = sorted(of_debate)
        students_S_Q = np.array([[found[key] is True for key in keys] for found in answers], float)
        debate_1_Q = np.array([[of_debate[key] is True for key in keys]], float)
        rows = [{row["name"]: row for row in report["rows"]} for report in reports]
        tokens = [found[STUDENT]["tokens_per_question"] for found in rows]
        row = {
            "debate": name,
            "n": len(keys),
            "tokens_share": [found / rows[0][DEBATE]["tokens_per_question"] for found in tokens],
            "students": students_S_Q.mean(1).tolist(),
            "share": [found[STUDENT]["retention"] for found in rows],
            "teacher": {
                other: {key: found[key] for key in ("accuracy", "calls_per_question", "tokens_per_question")}
                for other, found in rows[0].items()
                if other.startswith("teacher")
            },
            "students_over_seeds": over_seeds(students_S_Q),
            "minus_debate": over_seeds(students_S_Q, debate_1_Q),
            f"minus_{SHARE}_debate": over_seeds(students_S_Q, SHARE * debate_1_Q),
        }
        table.append(row)
        print(json.dumps(row), flush=True)
    (given.home / "share.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def evaluated(name: str, debate: dict[str, Any], *, student: str, given: argparse.Namespace) -> dict[str, Any]:
    """The report of one student beside one debate; a finished one is found again."""
    run = f"share-{name.replace(' ', '-')}-{student}"
    model = json.loads((given.home / "runs" / student / "student.json").read_bytes())["model"]
    config = {
        "run": {"name": run, "home": str(given.home)},
        "student": {"path": model, "prompts": "arkling"},
        "teacher": runs.TEACHER,
        "debate": {**debate, "sampling": runs.SAMPLING},
        "evaluation": {"problems": {"source": "arkling", "split": "test", "limit": given.test}},
    }
    runs.agentark("evaluate-model", config, folder=given.home)
    report: dict[str, Any] = json.loads((given.home / "reports" / run / "evaluation.json").read_bytes())
    return report


def over_seeds(outcomes_S_Q: Array, minus_S_Q: Array | None = None) -> dict[str, float | None]:
    """A mean, or a paired difference, with its interval."""
    found = mean_over_seeds(outcomes_S_Q) if minus_S_Q is None else difference_over_seeds(outcomes_S_Q, minus_S_Q)
    return {"value": found.value, "low": found.low, "high": found.high, "p_value": found.p_value}


if __name__ == "__main__":
    main()
