"""`agentark debates`: debate runs, the debates of one run, or one debate, as plain text.

Text of models and data goes through rich's Text, so no markup in it is interpreted, and control characters are shown
as escapes: a trace cannot move the terminal's cursor.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from io import StringIO
from pathlib import Path

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agentark_core import records
from agentark_core.errors import ConfigError, DataError
from agentark_core.ledger import Store
from agentark_core.stored import debate_runs, read_debates, read_verdicts, verdict_store
from agentark_core.types import SUMMARISER, Debate, Turn, Verdict

WIDTH = 110


def render(home: Path, *, run: str, show: str, limit: int) -> str:
    """The list of runs; or of `limit` debates of one run; or one debate, found in `run` or in any run."""
    runs = debate_runs(home)
    if run and run not in runs:
        raise ConfigError(
            f"--run {run}: no such debate run under {home}/ledger; there are: {', '.join(runs) or 'none'}"
        )
    console = Console(file=StringIO(), width=WIDTH, color_system=None, highlight=False)
    if show:
        for name in [run] if run else runs:
            for debate in read_debates(home, fingerprint=name):
                if show in (debate.work_id, debate.problem.problem_id):
                    _show(console, debate, verdicts=_verdicts(home, name))
                    return _text(console)
        raise ConfigError(f"--show {show}: no debate with this work id or question id; list them with --run RUN")
    if run:
        _list(console, home, run=run, limit=limit)
    else:
        _runs(console, home, runs=runs)
    return _text(console)


def _runs(console: Console, home: Path, *, runs: list[str]) -> None:
    table = _table("run", "questions from", "model", "agents x rounds", "questions", "turns", "statuses", "verdicts")
    for name in runs:
        store = Store(home, stage="debates", fingerprint=name)
        config, metas = store.config, [entry.meta for entry in store.entries().values()]
        debate = config.get("debate")
        statuses: Counter[str] = Counter()
        for meta in metas:
            statuses.update(meta["statuses"])
        verdicts: Counter[str] = Counter()
        for entry in verdict_store(home, debates=name).entries().values():
            verdicts.update(entry.meta)
        _row(
            table,
            name,
            _safe(config["dataset"]),
            config.get("model_revision", "imported"),
            f"{debate['num_agents']} x {debate['num_rounds']}" if debate else "-",
            str(sum(meta["questions"] for meta in metas)),
            str(sum(meta["turns"] for meta in metas)),
            _counts(statuses),
            _counts(verdicts) or "not verified",
        )
    console.print(table if runs else "no debates yet: run build-traces or `agentark import`")


def _list(console: Console, home: Path, *, run: str, limit: int) -> None:
    verdicts = _verdicts(home, run)
    table = _table("question id", "question", "gold", "rounds", "ended by", "answers of the last round")
    for number, debate in enumerate(read_debates(home, fingerprint=run)):
        if number == limit:
            break
        answers = " ".join(f"{_safe(turn.answer or '-')}{_mark(turn, verdicts)}" for turn in debate.final_turns)
        question = debate.problem.question.replace("\n", " ")
        _row(
            table,
            debate.problem.problem_id,
            _safe(question if len(question) <= 40 else question[:39] + "…"),
            _safe(debate.problem.gold),
            str(debate.final_round),
            debate.stop_reason,
            answers,
        )
    console.print(table)


def _show(console: Console, debate: Debate, *, verdicts: dict[records.TurnKey, Verdict]) -> None:
    console.print(Rule(f"question {debate.problem.problem_id}", align="left"))
    console.print(Text(_safe(debate.problem.question)))
    console.print(
        Text(f"gold: {_safe(debate.problem.gold)}    ended by: {debate.stop_reason}    work id: {debate.work_id}")
    )
    for turn in debate.turns:
        who = "summariser" if turn.agent == SUMMARISER else f"round {turn.round}, agent {turn.agent}"
        verdict = verdicts.get((turn.work_id, turn.round, turn.agent))
        console.print(Rule(Text(f"{who}: {_safe(turn.answer or 'no answer')} {_mark(turn, verdicts)}"), align="left"))
        console.print(Text(_safe(turn.text)))
        tokens = (
            f"{turn.prompt_tokens} prompt ({turn.cached_tokens} cached) + {turn.completion_tokens} completion tokens"
        )
        decided = f"{verdict.label} by {verdict.method}" if verdict else "not verified"
        console.print(Text(f"[{turn.status}, {turn.finish_reason}; {tokens}; seed {turn.seed}; {decided}]"))


def _verdicts(home: Path, run: str) -> dict[records.TurnKey, Verdict]:
    try:
        return read_verdicts(home, debates=run)
    except DataError:
        return {}


def _mark(turn: Turn, verdicts: dict[records.TurnKey, Verdict]) -> str:
    verdict = verdicts.get((turn.work_id, turn.round, turn.agent))
    return {"correct": "+", "incorrect": "x", "undecided": "?"}[verdict.label] if verdict else ""


def _safe(text: str) -> str:
    return "".join(
        character
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else f"\\u{ord(character):04x}"
        for character in text
    )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header in ("run", "model", "question id"))  # to be copied
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))


def _text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
