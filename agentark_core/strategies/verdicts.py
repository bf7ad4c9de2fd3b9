"""Short words of judges and critics, read from hostile text: the last one counts, unreadable ones are no vote."""

from __future__ import annotations

import re

from agentark_core.discussion import Discussion
from agentark_core.types import Turn

MAX_TEXT = 4_000
_VERDICT = re.compile(r"verdict[:\s*`]{1,6}(approve|reject)", re.IGNORECASE)
_RANKING = re.compile(r"ranking[:\s*`]{1,6}([0-9][0-9, >]{0,200})", re.IGNORECASE)
_UNDECIDED = re.compile(r"\bUNDECIDED\W{0,20}\Z")
_NUMBER = re.compile(r"[0-9]{1,3}")


def approves(discussion: Discussion, verdict: Turn, *, of: Turn) -> bool:
    """Whether a critic approves a solution. An arkling critic solves again: it approves an answer equal to its own."""
    if discussion.wording == "arkling":
        return discussion.same(verdict.answer, of.answer)
    words = _VERDICT.findall(verdict.text[-MAX_TEXT:])
    return bool(words) and words[-1].lower() == "approve"


def decided(judge: Turn) -> str | None:
    """The judge's answer; None where it ends with UNDECIDED, whatever numbers stand before that word."""
    return None if _UNDECIDED.search(judge.text[-MAX_TEXT:]) else judge.answer


def ranking(discussion: Discussion, judge: Turn, *, of: list[Turn]) -> list[Turn]:
    """Turns, best first: in the judge's order, then those that it does not name in their own order.

    An arkling judge writes a solution: who has its answer comes first.
    """
    if discussion.wording == "arkling":
        return sorted(of, key=lambda turn: not discussion.same(turn.answer, judge.answer))
    found = _RANKING.findall(judge.text[-MAX_TEXT:])
    order = [int(number) for number in _NUMBER.findall(found[-1])] if found else []
    return sorted(of, key=lambda turn: order.index(turn.agent) if turn.agent in order else len(order))
