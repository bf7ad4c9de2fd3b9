"""What a debate changed in an agent's mind, and whom it followed: verified debates -> flips (method.md section 2).

    question q1, agent 2: wrong in round 1 ("... = 17"), right in round 2 ("... = 18"), as agent 4 was in round 1,
    of whose operations it took over 3; 2 of its 4 peers were right

A flip to right is a *corrective* trajectory: both texts are kept. A flip to wrong is kept as a negative. Only turns
with status ok and a decided verdict count; an undecided round in between is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from agentark_core import answers
from agentark_core.records import TurnKey
from agentark_core.rounds import solutions
from agentark_core.structure import operations
from agentark_core.types import Debate, Turn, Verdict

SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("problem_id", pa.string()),
            ("work_id", pa.string()),
            ("agent", pa.int32()),
            ("to_right", pa.bool_()),
            ("before_round", pa.int32()),
            ("after_round", pa.int32()),
            ("before", pa.large_string()),
            ("after", pa.large_string()),
            ("followed_agent", pa.int32()),
            ("shared_operations", pa.int32()),
            ("peers", pa.int32()),
            ("peers_right", pa.int32()),
        )
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One agent's change from wrong to right or back, between two of its solutions.

    followed: the peer's turn of the round before `after` that has the same answer and shares the most operations with
    it that `before` lacks (shared_operations of them); None if no peer had that answer. peers, peers_right: how many
    peers had a decided solution in that round, and how many of them were right.
    """

    before: Turn
    after: Turn
    to_right: bool
    followed: Turn | None
    shared_operations: int
    peers: int
    peers_right: int


def flips(debate: Debate, verdicts: Mapping[TurnKey, Verdict]) -> list[Flip]:
    """All flips of one debate, by round, then agent. verdicts must hold the turns of the debating agents."""
    rounds = {number: _decided(turns, verdicts) for number, turns in solutions(debate).items()}
    last: dict[int, tuple[Turn, bool]] = {}
    found: list[Flip] = []
    for number, decided in rounds.items():
        shown = rounds.get(number - 1, {})
        for agent, (turn, right) in decided.items():
            before = last.get(agent)
            if before is not None and before[1] != right:
                peers = [peer for other, peer in shown.items() if other != agent]
                followed, shared = _followed(before[0], turn, [peer for peer, _ in peers], task=debate.problem.task)
                found.append(
                    Flip(
                        before=before[0],
                        after=turn,
                        to_right=right,
                        followed=followed,
                        shared_operations=shared,
                        peers=len(peers),
                        peers_right=sum(peer_right for _, peer_right in peers),
                    )
                )
        last.update(decided)
    return found


def to_table(flips: Iterable[Flip]) -> pa.Table:
    """One row a flip; followed_agent is 0 where nobody was followed."""
    rows = [
        {
            "problem_id": flip.after.problem_id,
            "work_id": flip.after.work_id,
            "agent": flip.after.agent,
            "to_right": flip.to_right,
            "before_round": flip.before.round,
            "after_round": flip.after.round,
            "before": flip.before.text,
            "after": flip.after.text,
            "followed_agent": flip.followed.agent if flip.followed else 0,
            "shared_operations": flip.shared_operations,
            "peers": flip.peers,
            "peers_right": flip.peers_right,
        }
        for flip in flips
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _decided(turns: Iterable[Turn], verdicts: Mapping[TurnKey, Verdict]) -> dict[int, tuple[Turn, bool]]:
    labels = {turn.agent: (turn, verdicts[turn.key].label) for turn in turns}
    return {
        agent: (turn, label == "correct")
        for agent, (turn, label) in labels.items()
        if turn.status == "ok" and label != "undecided"
    }


def _followed(before: Turn, after: Turn, peers: Iterable[Turn], *, task: str) -> tuple[Turn | None, int]:
    if after.answer is None:
        return None, 0
    new = set(operations(after.text)) - set(operations(before.text))
    same = [
        (peer, len(new & set(operations(peer.text))))
        for peer in peers
        if peer.answer is not None and answers.equivalent(peer.answer, after.answer, task=task)
    ]
    return max(same, key=lambda pair: pair[1], default=(None, 0))
