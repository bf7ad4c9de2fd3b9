"""A ledger for reports: two runs of debates, one of them hostile text, evaluations, and what other commands leave."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM
from debate_helpers import QUESTIONS, RUN, commit_debates, make_debate, make_home, put, verify
from test_card import HOSTILE, hostile

from agentark_core import evaluation, reasoning
from agentark_core.config import DebateConfig
from agentark_core.evaluation import EvalReport
from agentark_core.ledger import Store
from agentark_core.problems import state_licence
from agentark_core.qualities import QUALITIES, Agreement, Correlation
from agentark_core.reasoning import MeanPerplexity, MeanScore, Rated
from agentark_core.records import debates_to_table, verdicts_to_table
from agentark_core.report.gather import scores_path
from agentark_core.robustness import failures
from agentark_core.shards import shard_meta
from agentark_core.stored import verdict_store
from agentark_core.types import MethodResult, Verdict

VOTE = "00000000000000d2"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")

DEBATES = [
    hostile(make_debate(0, [[5, 7, 7], [7, 7, 7]], gold=7)),
    hostile(make_debate(1, [[4, 2, 4], [1, 1, 4]], gold=4)),
    make_debate(2, [[2, 3, 3], [3, 3, None]], gold=2),
    make_debate(3, [[9, 9, 9]], gold=9, stop_reason="consensus"),
]
VOTES = [make_debate(number, [[7, 4, 4, 4]], gold=(7, 4, 4, 9)[number]) for number in range(4)]


def commit_votes(home: Path) -> None:
    """A second run on the same questions: four samples, one round."""
    how = DebateConfig(num_agents=4, num_rounds=1, quorum=0, summariser="never").model_dump(mode="json")
    config = {"problems": QUESTIONS, "dataset": "t", "model_revision": "m0", "wording": "general", "seed": 1}
    store = Store(home, stage="debates", fingerprint=VOTE, config={**config, "debate": how})
    labels = {
        turn.key: Verdict(
            label="correct" if turn.answer == debate.problem.gold else "incorrect",
            method="number",
            extracted=turn.answer,
        )
        for debate in VOTES
        for turn in debate.turns
    }
    for number, shard in enumerate(("00000", "00001")):
        part = VOTES[2 * number : 2 * number + 2]
        put(store, shard, debates_to_table(part), shard_meta(part, replayed=0, seconds=1.0, plan=None))
        of_part = {key: verdict for key, verdict in labels.items() if key[0] in {debate.work_id for debate in part}}
        put(verdict_store(home, debates=VOTE), shard, verdicts_to_table(of_part), {"correct": 1})


def method(name: str, right: int, *, n: int, tokens: int, calls: int = 1) -> MethodResult:
    outcomes: dict[str, bool | None] = {str(number): number < right for number in range(n)}
    return MethodResult(
        name=name, model=HOSTILE, outcomes=outcomes, completion_tokens=tokens * n, prompt_tokens=n, calls=calls * n
    )


def evaluated(*, student: int = 50, n: int = 100) -> EvalReport:
    results = [
        method("base student greedy", 20, n=n, tokens=50),
        method("distilled student greedy", student, n=n, tokens=40),
        method("teacher greedy", 70, n=n, tokens=50),
        method("teacher debate", 80, n=n, tokens=400, calls=8),
    ]
    return evaluation.compare(results, baseline="base student greedy", contrasts=[("teacher debate", "teacher greedy")])


def state_evaluation(home: Path, run: str, **more: Any) -> None:
    folder = home / "reports" / run
    folder.mkdir(parents=True, exist_ok=True)
    data = evaluation.to_json(evaluated()) | {
        "questions": {"dataset": "t", "fingerprint": QUESTIONS},
        "made_from": {
            "teacher majority@4": {"debates": VOTE, "answer": "vote"},
            "teacher debate": {"debates": RUN, "answer": "vote"},
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(data | more))


CLEAN: dict[str, bool | None] = {str(number): number < 50 for number in range(100)}
BROKEN: dict[str, bool | None] = {**CLEAN, **{str(number): False for number in range(5)}, "60": True}
ROBUSTNESS = [
    asdict(row)
    for row in failures.table(
        CLEAN,
        [
            failures.Asked(name="renamed", outcomes=BROKEN, left_out={HOSTILE: 3}),
            failures.Asked(name="irrelevant", outcomes=CLEAN, left_out={}),
            failures.Asked(name="typos", outcomes={}, left_out={HOSTILE: 100}),
        ],
    )
]
DROP = failures.drop(CLEAN, {str(number): number < 10 for number in range(40)})


def state_behaviour(home: Path) -> None:
    """What `agentark perplexity` and `agentark qualities` keep, in hostile words."""
    perplexity = MeanPerplexity(
        model=HOSTILE, mean=3.5, interval=(3.0, 4.0), n=4, tokens=99, no_reasoning=1, too_long=0, incomplete=2
    )
    rated = Rated(
        judge=HOSTILE,
        solutions=4,
        unrated=1,
        means={"coherence": MeanScore(mean=4.5, interval=None, n=3)},
        agreement={name: Agreement(n=3, equal=2 / 3, kappa=0.5) for name in QUALITIES},
        correlations={"error_localisation": Correlation(n=3, rho=None, low=None, high=None)},
    )
    for found in (perplexity, rated):
        reasoning.keep(home, VOTE, found)


def state_runs(home: Path, run: str) -> None:
    """What distil leaves, in hostile words."""
    folder = home / "runs" / run
    folder.mkdir(parents=True)
    (folder / "distil.json").write_text(json.dumps({"traces": [RUN]}))
    stage = {"strategy": HOSTILE, "model": HOSTILE, "revision": HOSTILE, "examples": 3, "training": {"steps": 2}}
    made = {"stages": [stage], "lineage": {"base_model": HOSTILE, "examples": HOSTILE}}
    (folder / "student.json").write_text(json.dumps(made))


def make_report_home(home: Path) -> Path:
    """Two debate runs in two shards, of which the first is hostile, and an evaluation of each; not to be changed."""
    store = make_home(home, [d.problem for d in DEBATES[:2]], [d.problem for d in DEBATES[2:]])
    for shard, debates in (("00000", DEBATES[:2]), ("00001", DEBATES[2:])):
        commit_debates(store, shard, debates)
        verify(home, shard, debates)
    commit_votes(home)
    state_licence(Store(home, stage="problems", fingerprint=QUESTIONS), HOSTILE)
    state_behaviour(home)
    for run in ("first", "second"):
        state_evaluation(home, run, robustness=ROBUSTNESS, ood_drop=asdict(DROP))
        state_runs(home, run)
    scores = [
        {"work_id": turn.work_id, "round": turn.round, "agent": turn.agent, "scores": [0.25] * 40}
        for turn in DEBATES[0].turns
    ]
    scores_path(home, "first").write_text(json.dumps({"model": "m", "rows": scores}))
    return home


def unpack(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))
