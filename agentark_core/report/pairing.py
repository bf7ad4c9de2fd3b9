"""Two evaluations beside each other: the same method on the same questions, paired, from the debates of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentark_core.errors import DataError
from agentark_core.paired_tests import Outcomes, PairedTest, in_family, paired_or_none
from agentark_core.records import table_to_verdicts
from agentark_core.rounds import outcome
from agentark_core.stored import debate_store, latest_verdict_store, read_debates

Stated = Mapping[str, Any]
"""evaluation.json as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One method of both evaluations. questions: that both asked; right: of these, here and there; test: here minus
    there on those decided in both, None if there is none."""

    method: str
    questions: int
    right: int
    right_there: int
    test: PairedTest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """All methods that both evaluations have, one family of tests; same: those scored on the very same debates, which
    cannot differ."""

    run: str
    pairs: tuple[Pair, ...]
    same: tuple[str, ...]


def against(home: Path, *, run: str, here: Stated, there: Stated) -> Against:
    """Pair an evaluation with that of another run. Raises DataError if they share no method or no question."""
    ours, theirs = here.get("made_from", {}), there.get("made_from", {})
    same = tuple(method for method, of in ours.items() if theirs.get(method) == of)
    methods = [method for method in ours if method in theirs and method not in same]
    pairs = [
        _pair(method, method_outcomes(home, here, method), method_outcomes(home, there, method)) for method in methods
    ]
    if not any(pair.questions for pair in pairs):
        raise DataError(
            f"{run}: its evaluation and this one share no method on the same questions and other debates; give both "
            "the same evaluation.problems"
        )
    tests = in_family([pair.test for pair in pairs])
    tested = (replace(pair, test=test) for pair, test in zip(pairs, tests, strict=True) if pair.questions)
    return Against(run=run, pairs=tuple(tested), same=same)


def method_outcomes(home: Path, stated: Stated, method: str) -> Outcomes:
    """What a method of an evaluation came to, question by question, by the newest verdicts; empty if it is unknown."""
    of = stated.get("made_from", {}).get(method)
    if of is None:
        return {}
    store, verified = debate_store(home, of["debates"]), latest_verdict_store(home, debates=of["debates"])
    shards = sorted(store.committed() & verified.committed())
    if not shards:
        return {}
    verdicts = table_to_verdicts(verified.read(shards=shards))
    debates = read_debates(home, fingerprint=of["debates"], shards=shards)
    return {one.problem.problem_id: outcome(one, verdicts, answer=of["answer"]) for one in debates}


def _pair(method: str, here: Outcomes, there: Outcomes) -> Pair:
    common = here.keys() & there.keys()
    return Pair(
        method=method,
        questions=len(common),
        right=sum(here[key] is True for key in common),
        right_there=sum(there[key] is True for key in common),
        test=paired_or_none(here, there),
    )
