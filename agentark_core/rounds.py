"""What the rounds of a debate change: right and wrong answers, round by round, by the committed verdicts.

Flips are counted over agents: each agent's solution against its own previous one. Accuracy is that of the majority
vote over questions, because the agents of one question are not independent and an interval over them would be too
narrow. After round k, a question whose debate ended earlier counts with its last vote; so all rounds have the same n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agentark_core import answers
from agentark_core.records import TurnKey
from agentark_core.types import Debate, Turn, Verdict, VerdictLabel, outcome_of

Answer = Literal["vote", "summary", "decision"]
"""How a discussion answers: majority vote of its last round, the summariser (the vote where it did not speak), or
whatever its strategy decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One round. Of the solutions written in it: turns, statuses, shortened (their prompt showed shortened solutions).

    Of agents that also wrote one before: pairs (both decided), to_right, to_wrong. Of all questions, by the majority
    vote after this round: questions, correct, undecided.
    """

    round: int
    turns: int
    statuses: dict[str, int]
    shortened: int
    pairs: int
    to_right: int
    to_wrong: int
    questions: int
    correct: int
    undecided: int


def flips(debates: Iterable[Debate], verdicts: Mapping[TurnKey, Verdict]) -> list[RoundRow]:
    """One row per round in which agents wrote solutions. verdicts must hold all their turns."""
    counts: dict[int, Counter[str]] = {}
    statuses: dict[int, Counter[str]] = {}
    votes: dict[int, Counter[str]] = {}
    ended: dict[int, Counter[str]] = {}
    questions = 0
    for debate in debates:
        rounds = solutions(debate)
        if not rounds:
            continue
        questions += 1
        previous: dict[int, VerdictLabel] = {}
        for number, turns in rounds.items():
            count = counts.setdefault(number, Counter())
            statuses.setdefault(number, Counter()).update(turn.status for turn in turns)
            for turn in turns:
                label, before = _label(turn, verdicts), previous.get(turn.agent)
                decided = before is not None and "undecided" not in (before, label)
                count.update(
                    turns=1,
                    shortened=int(turn.shown_limit > 0),
                    pairs=int(decided),
                    to_right=int(decided and label == "correct" != before),
                    to_wrong=int(decided and before == "correct" != label),
                )
                previous[turn.agent] = label
            votes.setdefault(number, Counter())[vote_label(debate, turns, verdicts)] += 1
        ended.setdefault(debate.final_round, Counter())[vote_label(debate, debate.final_turns, verdicts)] += 1
    rows, earlier = [], Counter[str]()
    for number in sorted(counts):
        standing = votes[number] + earlier
        rows.append(
            RoundRow(
                round=number,
                statuses=dict(sorted(statuses[number].items())),
                questions=questions,
                correct=standing["correct"],
                undecided=standing["undecided"],
                **counts[number],
            )
        )
        earlier += ended.get(number, Counter())
    return rows


def solutions(debate: Debate) -> dict[int, tuple[Turn, ...]]:
    """The agents' solutions by round, in order."""
    rounds: dict[int, tuple[Turn, ...]] = {}
    for turn in debate.turns:
        if turn.role == "agent":
            rounds[turn.round] = (*rounds.get(turn.round, ()), turn)
    return dict(sorted(rounds.items()))


def vote(debate: Debate, turns: Sequence[Turn]) -> Turn | None:
    """The first turn with the answer that most of turns gave; None if none has an answer."""
    winner = answers.majority([turn.answer for turn in turns], task=debate.problem.task)
    return next((turn for turn in turns if winner is not None and turn.answer == winner), None)


def vote_label(debate: Debate, turns: Sequence[Turn], verdicts: Mapping[TurnKey, Verdict]) -> VerdictLabel:
    """The verdict on the majority vote of turns; no answer at all is incorrect."""
    turn = vote(debate, turns)
    return _label(turn, verdicts) if turn else "incorrect"


def deciding_turn(debate: Debate, *, answer: Answer) -> Turn | None:
    """The turn whose answer is the debate's; None if no agent answered."""
    summary = debate.summary
    if answer == "summary" and summary is not None and summary.answer is not None:
        return summary
    if answer == "decision":
        return next((turn for turn in reversed(debate.turns) if turn.answer == debate.answer is not None), None)
    return vote(debate, debate.final_turns)


def outcome(debate: Debate, verdicts: Mapping[TurnKey, Verdict], *, answer: Answer) -> bool | None:
    """Right, wrong, or None where the verdict is undecided; no answer at all is wrong."""
    turn = deciding_turn(debate, answer=answer)
    return outcome_of(_label(turn, verdicts) if turn else "incorrect")


def _label(turn: Turn, verdicts: Mapping[TurnKey, Verdict]) -> VerdictLabel:
    return verdicts[turn.key].label
