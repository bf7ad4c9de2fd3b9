"""Debate runs seen while they run: one view that renews itself in a terminal, a line now and then elsewhere.

    with live(home, [fingerprint], on_tick=update_artifact):      in the process that runs the debates
        ...
    watch(home, [fingerprint])                                    in any other (`agentark watch`)

Both only read files (progress.py), so a view can neither slow down nor stop a run; whatever goes wrong in it is logged
once.
"""

from __future__ import annotations

import contextvars
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agentark_core.errors import ConfigError
from agentark_core.progress import Progress, ProgressReader
from agentark_core.stored import debate_runs
from agentark_core.terminal import counts, lines_above, share

log = logging.getLogger(__name__)

TICK_S = 1.0
LINE_EVERY_S = 30.0
BAR_WIDTH = 40
PATIENCE_S = 5.0
"""How long the end of a run waits for a slow on_tick."""

ENDED_FOR_S = 5.0
"""`watch` ends after this long without a flow that works on the runs."""


@contextmanager
def live(home: Path, fingerprints: list[str], *, on_tick: Callable[[Progress], None]) -> Iterator[None]:
    """Show the runs while the block runs. on_tick gets a look once a second, in a thread of its own.

    The thread has the caller's context variables (Prefect keeps the flow run in them), and a slow server behind on_tick
    holds up only on_tick.
    """
    ended = threading.Event()
    latest: Progress | None = None

    def show_all() -> None:
        nonlocal latest
        try:
            reader = ProgressReader(home, fingerprints)
            with view(Console(file=sys.stderr)) as show:  # where log lines go
                while True:
                    last = ended.is_set()
                    latest = reader.read()
                    show(latest)
                    if last:
                        break
                    ended.wait(TICK_S)
        except Exception:
            log.warning("the live view ended early; the run goes on", exc_info=True)

    def report_all() -> None:
        failed = False
        while not ended.wait(TICK_S):
            try:
                if latest is not None:
                    on_tick(latest)
            except Exception:
                if not failed:
                    log.warning("progress could not be reported; the run goes on", exc_info=True)
                failed = True

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(target,), name=name, daemon=True)
        for name, target in (("live-view", show_all), ("live-report", report_all))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(timeout=PATIENCE_S)


def watch_runs(home: Path, runs: list[str]) -> str:
    """`agentark watch`: show debate runs (default: the newest) until they end or Ctrl-C; returns what to say then.

    Raises ConfigError for an unknown run.
    """
    known = debate_runs(home)
    for run in runs:
        if run not in known:
            raise ConfigError(f"{run}: no such debate run under {home}/ledger; there are: {', '.join(known) or 'none'}")
    if not known:
        raise ConfigError(f"{home}/ledger: no debate run yet; start one with `agentark run`, or check --home")
    runs = runs or known[-1:]
    try:
        return f"{' '.join(runs)}: {watch(home, runs)}"
    except KeyboardInterrupt:
        return "not watched any more; the job goes on"


def watch(home: Path, fingerprints: list[str]) -> str:
    """Show the runs until they end; returns why it stopped looking. Raises DataError for an unknown run."""
    reader = ProgressReader(home, fingerprints)
    with view(Console(file=sys.stdout)) as show:
        alive_at = time.monotonic()
        while True:
            progress = reader.read()
            show(progress)
            if progress.finished:
                return f"finished: all {progress.total_shards} shards are committed"
            if reader.alive():
                alive_at = time.monotonic()
            elif time.monotonic() - alive_at > ENDED_FOR_S:
                return "does not run; what is finished is kept, start the same run again to go on"
            time.sleep(TICK_S)


@contextmanager
def view(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A function that shows a look: in place on a terminal, elsewhere as one line every LINE_EVERY_S seconds."""
    if not console.is_terminal:
        yield _lines(console)
        return
    shown = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with lines_above(console) as lock:
        try:
            with lock:
                shown.start()
                console.show_cursor(True)  # a killed run leaves a usable terminal

            def show(progress: Progress) -> None:
                with lock:
                    shown.update(render(progress), refresh=True)

            yield show
        finally:
            with lock:
                shown.stop()


def _lines(console: Console) -> Callable[[Progress], None]:
    printed_at = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at >= LINE_EVERY_S:
            printed_at = time.monotonic()
            console.print(Text(line(progress)), soft_wrap=True)

    return show


def line(progress: Progress) -> str:
    """A look in one line."""
    parts = [f"{progress.questions:,} of {progress.total_questions:,} questions"]
    if progress.tokens_per_s is not None:
        parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
    parts.append(_slots(progress))
    if progress.cache_hits:
        parts.append("cache hits " + " / ".join(f"{100 * hit:.0f} %" for hit in progress.cache_hits.values()))
    if progress.counted:
        parts.append(f"accuracy {share(progress.correct, progress.counted)} % of {progress.counted:,}")
    parts.append(_left(progress))
    return "; ".join(parts)


def render(progress: Progress) -> Group:
    """A look in a few lines. Styles are explicit, because the console's theme may be any program's."""
    done = progress.questions / progress.total_questions if progress.total_questions else 1.0
    filled = int(done * BAR_WIDTH)
    bar = Text.assemble(
        ("█" * filled, "green"),
        ("░" * (BAR_WIDTH - filled), "bright_black"),
        f"  {progress.questions:,} of {progress.total_questions:,} questions ({100 * done:.0f} %)   {_left(progress)}",
    )
    rows = [("questions", bar), ("engines", Text(_engines(progress)))]
    if progress.cache_hits:
        hits = "   ".join(f"round {number}: {100 * hit:.0f} %" for number, hit in progress.cache_hits.items())
        rows.append(("cache hits", Text(hits)))
    if progress.counted:
        found = f"{share(progress.correct, progress.counted)} % of the {progress.counted:,} questions finished so far"
        rows.append(("accuracy", Text(f"{found} ({progress.counted - progress.answered:,} without an answer)")))
    if progress.flips:
        flips = "   ".join(
            f"round {number}: {flip.to_right:,} to right, {flip.to_wrong:,} to wrong"
            for number, flip in progress.flips.items()
        )
        rows.append(("changed", Text(flips)))
    if progress.statuses:
        replayed = f"   ({progress.replayed_turns:,} replayed)" if progress.replayed_turns else ""
        rows.append(("turns", Text(counts(progress.statuses) + replayed)))
        rows.append(("ended by", Text(_endings(progress))))
    shards = f"{progress.shards:,} of {progress.total_shards:,} committed"
    unreadable = f"   ({progress.unreadable} unreadable usage files)" if progress.unreadable else ""
    rows.append(("shards", Text(shards + unreadable)))
    return Group(*(Text.assemble((f"{name:<11}", "bold"), text) for name, text in rows))


def _engines(progress: Progress) -> str:
    if progress.finished:
        return f"done   {progress.completion_tokens:,} tokens in {duration(progress.engine_seconds)} of engine time"
    if not progress.engines:
        quiet = "none works at the moment" if progress.rounds else "starting"
        return quiet + (f"; {progress.lost} fell silent" if progress.lost else "")
    parts = [f"{progress.engines} at work   {_slots(progress)}"]
    if progress.tokens_per_s is not None:
        parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
    if progress.occupancy is not None:
        parts.append(f"{100 * progress.occupancy:.0f} % busy while questions wait")
    if progress.cost:
        parts.append(f"cost {progress.cost:,.2f}")
    return "   ".join(parts)


def _slots(progress: Progress) -> str:
    busy = min(progress.running, progress.slots)
    queued = f" (+{progress.running - busy:,} queued)" if progress.running > busy else ""
    return f"{busy:,} of {progress.slots:,} slots{queued}"


def _endings(progress: Progress) -> str:
    saved = f"   (saved about {progress.saved_turns:,} turns, {progress.saved_tokens:,} tokens)"
    return counts(progress.stop_reasons) + (saved if progress.saved_turns else "")


def _left(progress: Progress) -> str:
    if progress.finished:
        return "done"
    return "time left: " + ("?" if progress.seconds_left is None else duration(progress.seconds_left))


def duration(seconds: float) -> str:
    """In two units: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = math.ceil(seconds / 60)
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
