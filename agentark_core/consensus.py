"""What stopping at a consensus would have changed, measured on debates that went through all their rounds.

Both answers come from the same debate: the majority vote of the first round in which at least `quorum` of the agents
agreed, and that of the last round. So the comparison is paired, and what would have been saved is counted, not
estimated. The summariser is left aside: nobody knows what it would have said after an earlier round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentark_core import answers, terminal
from agentark_core.errors import ConfigError, EmptyDataset
from agentark_core.paired_tests import PairedTest, paired
from agentark_core.records import TurnKey, table_to_verdicts
from agentark_core.rounds import solutions, vote, vote_label
from agentark_core.stored import debate_runs, debate_store, latest_verdict_store, read_debates
from agentark_core.types import Debate, Turn, Verdict, outcome_of

REMEDY = (
    "make a sample with all rounds: agentark run build-traces --config FILE --set debate.quorum=0 "
    "--set problems.limit=200, then give its fingerprint"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Debates stopped at the first round with agreement >= quorum, against the same debates in full.

    questions; early: of them, those that would have stopped before the last round; stops: how many in which round;
    same, same_early: questions (early ones) whose vote is the same; correct_*, undecided_*: verdicts on both votes;
    test: stopped minus full (None if no question was decided for both). Turns and completion tokens are those of the
    agents' solutions: all that were made, and of them those after the stop.
    """

    questions: int
    early: int
    stops: dict[int, int]
    same: int
    same_early: int
    correct_stopped: int
    correct_full: int
    undecided_stopped: int
    undecided_full: int
    test: PairedTest | None
    turns: int
    saved_turns: int
    completion_tokens: int
    saved_tokens: int


def compare(debates: Iterable[Debate], verdicts: Mapping[TurnKey, Verdict], *, quorum: float) -> Comparison:
    """Replay the stop rule on debates that were held in full. quorum: share of the agents in (0, 1]."""
    stops: Counter[int] = Counter()
    n: Counter[str] = Counter()
    stopped: dict[str, bool | None] = {}
    full: dict[str, bool | None] = {}
    for debate in debates:
        rounds = solutions(debate)
        last = max(rounds)
        at = next((number for number, turns in rounds.items() if _agreed(debate, turns, quorum=quorum)), last)
        early = at < last
        same = _same(debate, at, last)
        later = [turn for number, turns in rounds.items() if number > at for turn in turns]
        stops[at] += int(early)
        n.update(
            questions=1,
            early=int(early),
            same=int(same),
            same_early=int(same and early),
            turns=sum(len(turns) for turns in rounds.values()),
            saved_turns=len(later),
            completion_tokens=sum(turn.completion_tokens for turns in rounds.values() for turn in turns),
            saved_tokens=sum(turn.completion_tokens for turn in later),
        )
        for outcomes, turns in ((stopped, rounds[at]), (full, rounds[last])):
            label = vote_label(debate, turns, verdicts)
            outcomes[debate.work_id] = outcome_of(label)
    decided = any(value is not None and full[key] is not None for key, value in stopped.items())
    return Comparison(
        questions=n["questions"],
        early=n["early"],
        stops={number: count for number, count in sorted(stops.items()) if count},
        same=n["same"],
        same_early=n["same_early"],
        correct_stopped=sum(value is True for value in stopped.values()),
        correct_full=sum(value is True for value in full.values()),
        undecided_stopped=sum(value is None for value in stopped.values()),
        undecided_full=sum(value is None for value in full.values()),
        test=paired(stopped, full) if decided else None,
        turns=n["turns"],
        saved_turns=n["saved_turns"],
        completion_tokens=n["completion_tokens"],
        saved_tokens=n["saved_tokens"],
    )


def measure(home: Path, *, run: str, quorum: float) -> Comparison:
    """`compare` on the verified shards of a committed run.

    Raises ConfigError if the run is unknown, if it stopped at a consensus itself, or if nothing could stop it;
    EmptyDataset if no shard is verified yet.
    """
    if not 0 < quorum <= 1:
        raise ConfigError(f"--quorum {quorum}: give the share of agents that must agree, above 0 and at most 1")
    runs = debate_runs(home)
    if run not in runs:
        raise ConfigError(f"{run}: no such debate run under {home}/ledger; there are: {', '.join(runs) or 'none'}")
    store = debate_store(home, run)
    config = store.config.get("debate")
    if config is None or config["strategy"] != "debate":
        raise ConfigError(f"{run}: only debates made here with strategy debate can be compared; {REMEDY}")
    if config["quorum"] != 0:
        raise ConfigError(
            f"{run}: made with debate.quorum {config['quorum']:g}, so it does not show what later rounds would have "
            f"said; {REMEDY}"
        )
    if config["num_agents"] < 2 or config["num_rounds"] < 2:
        raise ConfigError(f"{run}: one agent, or one round, has no consensus to stop at; {REMEDY}")
    verdicts = latest_verdict_store(home, debates=run)
    shards = sorted(store.committed() & verdicts.committed())
    if not shards:
        raise EmptyDataset(f"{run}: no shard is verified yet; let its build-traces finish first")
    return compare(
        read_debates(home, fingerprint=run, shards=shards),
        table_to_verdicts(verdicts.read(shards=shards)),
        quorum=quorum,
    )


def render(home: Path, *, run: str, quorum: float) -> str:
    """`measure` as plain text."""
    found = measure(home, run=run, quorum=quorum)
    config = debate_store(home, run).config["debate"]
    page = terminal.page()
    page.print(
        f"{found.questions:,} debates of {config['num_agents']} agents in {config['num_rounds']} rounds; what if each "
        f"had stopped at the first round with agreement >= {quorum:g}?"
    )
    table = terminal.table("", "count", "n", "% [95 %]")
    shares = [
        ("stop before the last round", found.early, found.questions),
        *((f"    after round {number}", count, found.questions) for number, count in found.stops.items()),
        ("same answer, all", found.same, found.questions),
        ("same answer, of those that stop early", found.same_early, found.early),
        ("correct when stopped", found.correct_stopped, found.questions),
        ("correct in full", found.correct_full, found.questions),
    ]
    for name, count, n in shares:
        terminal.add_row(table, name, f"{count:,}", f"{n:,}", terminal.share(count, n))
    for name, part, whole in (
        ("turns saved", found.saved_turns, found.turns),
        ("completion tokens saved", found.saved_tokens, found.completion_tokens),
    ):
        terminal.add_row(table, name, f"{part:,}", f"{whole:,}", f"{100 * part / whole:.1f}" if whole else "-")
    page.print(table)
    if found.test is not None:
        test = found.test
        page.print(
            f"stopped minus full: {test.difference:+.1f} points [{test.low:+.1f}, {test.high:+.1f}] on {test.n:,} "
            f"questions decided for both; right only when stopped {test.only_a:,}, only in full {test.only_b:,}; exact "
            f"McNemar p = {test.p_value:.3g}"
        )
    page.print(
        f"Answers are majority votes; undecided by the verifier: {found.undecided_stopped:,} when stopped, "
        f"{found.undecided_full:,} in full (not counted as correct). Savings are those of the agents' solutions, "
        "counted in these debates; the summariser is left aside."
    )
    return terminal.text(page)


def _agreed(debate: Debate, turns: tuple[Turn, ...], *, quorum: float) -> bool:
    return answers.agreement([turn.answer for turn in turns], task=debate.problem.task) >= quorum


def _same(debate: Debate, at: int, last: int) -> bool:
    """Whether both rounds vote for equivalent answers; two rounds without any answer are the same, too."""
    rounds = solutions(debate)
    first, second = (vote(debate, rounds[number]) for number in (at, last))
    if first is None or second is None or first.answer is None or second.answer is None:
        return first is second
    return answers.equivalent(first.answer, second.answer, task=debate.problem.task)
