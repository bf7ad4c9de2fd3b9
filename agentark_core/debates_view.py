"""`agentark debates`: debate runs, the debates of one run with what its rounds changed, or one debate, as plain text.

Debates of shards that are not committed yet are read from their journals, so a running job shows too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from agentark_core import records, terminal
from agentark_core.dynamics import dynamics
from agentark_core.errors import ConfigError, DataError
from agentark_core.journaled import RUNNING, read_journaled
from agentark_core.ledger import Store
from agentark_core.rounds import flips
from agentark_core.stored import RUN_LEASE, debate_runs, debate_store, latest_verdict_store, read_debates
from agentark_core.terminal import add_row, safe
from agentark_core.types import Debate, Turn, Verdict

VOTE = "vote correct, % [95 %]"


def render(home: Path, *, run: str, show: str, limit: int) -> str:
    """The list of runs; or of `limit` debates of one run; or one debate, found in `run` or in any run."""
    runs = debate_runs(home)
    if run and run not in runs:
        raise ConfigError(
            f"--run {run}: no such debate run under {home}/ledger; there are: {', '.join(runs) or 'none'}"
        )
    console = terminal.page()
    if show:
        for name in [run] if run else runs:
            for debate in _debates(home, name):
                if show in (debate.work_id, debate.problem.problem_id):
                    _show(console, debate, verdicts=_verdicts(home, name))
                    return terminal.text(console)
        raise ConfigError(f"--show {show}: no debate with this work id or question id; list them with --run RUN")
    if run:
        _list(console, home, run=run, limit=limit)
    else:
        _runs(console, home, runs=runs)
    return terminal.text(console)


def _debates(home: Path, run: str) -> Iterator[Debate]:
    # In this order, a shard that is committed meanwhile is found in one of the two.
    yield from read_journaled(home, fingerprint=run)
    yield from read_debates(home, fingerprint=run)


def _runs(console: Console, home: Path, *, runs: list[str]) -> None:
    table = terminal.table(
        "run",
        "questions from",
        "model",
        "agents x rounds",
        "state",
        "questions",
        "turns",
        "statuses",
        "verdicts",
        whole=("run", "model"),
    )
    for name in runs:
        store = debate_store(home, name)
        problems = Store(home, stage="problems", fingerprint=store.config["problems"])
        config, metas = store.config, [entry.meta for entry in store.entries().values()]
        debate = config.get("debate")
        statuses: Counter[str] = Counter()
        for meta in metas:
            statuses.update(meta["statuses"])
        verdicts: Counter[str] = Counter()
        for entry in latest_verdict_store(home, debates=name).entries().values():
            verdicts.update(entry.meta)
        questions, asked = (sum(meta["questions"] for meta in metas)), sum(e.rows for e in problems.entries().values())
        add_row(
            table,
            name,
            safe(config["dataset"]),
            config.get("model_revision", "imported"),
            f"{debate['num_agents']} x {debate['num_rounds']}" if debate else "-",
            _state(store, problems),
            f"{questions}" if questions == asked else f"{questions} of {asked}",
            str(sum(meta["turns"] for meta in metas)),
            terminal.counts(statuses),
            terminal.counts(verdicts) or "not verified",
        )
    console.print(table if runs else "no debates yet: run build-traces or `agentark import`")


def _state(store: Store, problems: Store) -> str:
    if problems.committed() <= store.committed():
        return "complete"
    return "running" if store.heartbeat(RUN_LEASE) else "unfinished"


def _list(console: Console, home: Path, *, run: str, limit: int) -> None:
    going_on = sorted(read_journaled(home, fingerprint=run), key=lambda debate: debate.stop_reason != RUNNING)[:limit]
    if going_on:
        console.print(f"not committed yet, from the journals (up to {limit}, running ones first):")
        _table(console, going_on, verdicts={})
    if not debate_store(home, run).committed():
        return
    verdicts = _verdicts(home, run)
    _table(console, islice(read_debates(home, fingerprint=run), limit), verdicts=verdicts)
    _endings(console, home, run=run)
    _rounds(console, home, run=run, verdicts=verdicts)
    _dynamics(console, home, run=run, verdicts=verdicts)


def _table(console: Console, debates: Iterable[Debate], *, verdicts: dict[records.TurnKey, Verdict]) -> None:
    table = terminal.table(
        "question id", "question", "gold", "rounds", "ended by", "answers of the last round", whole=("question id",)
    )
    for debate in debates:
        answers = " ".join(f"{safe(turn.answer or '-')}{_mark(turn, verdicts)}" for turn in debate.final_turns)
        question = debate.problem.question.replace("\n", " ")
        add_row(
            table,
            debate.problem.problem_id,
            safe(question if len(question) <= 40 else question[:39] + "…"),
            safe(debate.problem.gold),
            str(debate.final_round),
            safe(debate.stop_reason),
            answers,
        )
    console.print(table)


def _endings(console: Console, home: Path, *, run: str) -> None:
    """Why the committed debates ended, and what consensus stop saved."""
    metas = [entry.meta for entry in debate_store(home, run).entries().values()]
    stop_reasons: Counter[str] = Counter()
    for meta in metas:
        stop_reasons.update(meta["stop_reasons"])
    console.print(Text(f"ended by: {terminal.counts(stop_reasons)}"))
    turns, tokens = (sum(meta[name] for meta in metas) for name in ("saved_turns", "saved_tokens"))
    if turns:
        console.print(
            f"saved by consensus stop: {turns:,} turns, about {tokens:,} completion tokens (as many a turn as in the "
            "last round held)"
        )


def _rounds(console: Console, home: Path, *, run: str, verdicts: dict[records.TurnKey, Verdict]) -> None:
    """What each round changed, on the shards that are verified."""
    store = debate_store(home, run)
    shards = sorted(store.committed() & latest_verdict_store(home, debates=run).committed())
    rows = flips(read_debates(home, fingerprint=run, shards=shards), verdicts)
    if not rows:
        return
    table = terminal.table(
        "round",
        "solutions",
        "statuses",
        "shortened",
        "to right",
        "to wrong",
        "of pairs",
        VOTE,
        "of questions",
        whole=(VOTE,),
    )
    for row in rows:
        add_row(
            table,
            str(row.round),
            f"{row.turns:,}",
            terminal.counts(row.statuses),
            f"{row.shortened:,}",
            f"{row.to_right:,}" if row.pairs else "-",
            f"{row.to_wrong:,}" if row.pairs else "-",
            f"{row.pairs:,}" if row.pairs else "-",
            terminal.share(row.correct, row.questions),
            f"{row.questions:,}" + (f" ({row.undecided:,} undecided)" if row.undecided else ""),
        )
    console.print(table)
    console.print(
        "shortened: solutions whose prompt showed shortened solutions. to right, to wrong: an agent's solution against "
        "its previous one; pairs: both decided by the verifier. vote: majority of the agents after the round; a debate "
        "that ended earlier counts with its last vote."
    )


def _dynamics(console: Console, home: Path, *, run: str, verdicts: dict[records.TurnKey, Verdict]) -> None:
    """What agents do next to how many peers who are right, on the shards that are verified."""
    store = debate_store(home, run)
    shards = sorted(store.committed() & latest_verdict_store(home, debates=run).committed())
    found = dynamics(read_debates(home, fingerprint=run, shards=shards), verdicts)
    table = terminal.table("", "right agents", "share, % [95 %]", "of", "questions", whole=("share, % [95 %]",))
    for what, shares in (
        ("wrong agent is right one round later, by right peers", found.to_right),
        ("right agent is wrong one round later, by right peers", found.to_wrong),
        ("right minority of round 1 wins the last vote, by its size", found.minority),
    ):
        for number, share in shares.items():
            interval = f"{100 * share.share:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
            add_row(table, what, str(number), interval, f"{share.n:,}", f"{share.questions:,}")
    if table.row_count:
        console.print(table)
        console.print("intervals: questions are the unit, because the agents of one question are not independent.")


def _show(console: Console, debate: Debate, *, verdicts: dict[records.TurnKey, Verdict]) -> None:
    console.print(Rule(Text(f"question {debate.problem.problem_id}"), align="left"))
    console.print(safe(debate.problem.question))
    ended = "running" if debate.stop_reason == RUNNING else f"ended by: {safe(debate.stop_reason)}"
    decision = "" if debate.answer is None else f"    decision: {safe(debate.answer)}"
    console.print(f"gold: {safe(debate.problem.gold)}{decision}    {ended}    work id: {debate.work_id}")
    for turn in debate.turns:
        who = f"agent {turn.agent}" if turn.role == "agent" else turn.role
        verdict = verdicts.get(turn.key)
        header = f"round {turn.round}, {who}: {safe(turn.answer or 'no answer')} {_mark(turn, verdicts)}"
        console.print(Rule(Text(header), align="left"))
        console.print(safe(turn.text))
        notes = [turn.status, turn.finish_reason]
        notes.append(
            f"{turn.prompt_tokens} prompt ({turn.cached_tokens} cached) + {turn.completion_tokens} completion tokens"
        )
        notes += [f"solutions in the prompt shortened to {turn.shown_limit} characters"] if turn.shown_limit else []
        notes += [f"seed {turn.seed}", f"{verdict.label} by {verdict.method}" if verdict else "not verified"]
        console.print(f"[{'; '.join(notes)}]")


def _verdicts(home: Path, run: str) -> dict[records.TurnKey, Verdict]:
    try:
        return records.table_to_verdicts(latest_verdict_store(home, debates=run).read())
    except DataError:
        return {}


def _mark(turn: Turn, verdicts: dict[records.TurnKey, Verdict]) -> str:
    verdict = verdicts.get(turn.key)
    return {"correct": "+", "incorrect": "x", "undecided": "?"}[verdict.label] if verdict else ""
