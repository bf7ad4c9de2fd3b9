"""The live view: what a terminal shows, beside log lines; what it must never do to the run."""

from __future__ import annotations

import logging
import os
import signal
import sys
import textwrap
import threading
import time
from io import StringIO
from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home, make_problem, write_usage
from ledger_helpers import in_child, kill_self, until, wait
from rich.console import Console
from terminal_helpers import Screen, Terminal

from agentark_core import live_view
from agentark_core.errors import ConfigError
from agentark_core.ledger import Store
from agentark_core.progress import Progress, ProgressReader
from agentark_core.stored import RUN_LEASE

ROOT = Path(__file__).resolve().parents[1]
USAGE = {
    "questions": 3,
    "turns": 27,
    "correct": 2,
    "answered": 3,
    "running": 20,
    "slots": 16,
    "statuses": {"ok": 26, "\x1b[31m[blink]": 1},
    "stop_reasons": {"consensus": 3},
    "rounds": {"1": {"turns": 9, "prompt_tokens": 900, "cached_tokens": 450, "completion_tokens": 1500}},
    "flips": {"2": {"to_right": 2, "to_wrong": 1}},
    "saved_turns": 6,
    "saved_tokens": 600,
    "replayed_turns": 4,
}


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"TICK_S": 0.02, "PATIENCE_S": 0.5, "ENDED_FOR_S": 0.1}.items():
        monkeypatch.setattr(live_view, name, seconds)


def five_questions(home: Path) -> Store:
    return make_home(home, [make_problem(n, gold=n) for n in range(5)])


def look(home: Path) -> Progress:
    reader = ProgressReader(home, [RUN])
    reader.read()
    write_usage(Store(home, stage="debates", fingerprint=RUN), "h-1-aa", **USAGE)
    return reader.read()


def test_a_look_says_everything_and_obeys_no_text(tmp_path: Path) -> None:
    five_questions(tmp_path)
    console = Console(file=StringIO(), width=120, force_terminal=True)
    console.print(live_view.render(look(tmp_path)))
    assert isinstance(console.file, StringIO)
    screen = Screen()
    screen.feed(console.file.getvalue().replace("\n", "\r\n"))
    assert screen.text.splitlines() == [
        "questions  ████████████████████████░░░░░░░░░░░░░░░░  3 of 5 questions (60 %)   time left: ?",
        "engines    1 at work   16 of 16 slots (+4 queued)",
        "cache hits round 1: 50 %",
        "accuracy   66.7 [20.8, 93.9] % of the 3 questions finished so far (0 without an answer)",
        "changed    round 2: 2 to right, 1 to wrong",
        "turns      1 \\u001b[31m[blink], 26 ok   (4 replayed)",
        "ended by   3 consensus   (saved about 6 turns, 600 tokens)",
        "shards     0 of 1 committed",
    ]


def test_where_there_is_no_terminal_a_line_is_printed_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    five_questions(tmp_path)
    console = Console(file=StringIO(), width=40)
    progress = look(tmp_path)
    with live_view.view(console) as show:
        show(progress)
        monkeypatch.setattr(live_view, "LINE_EVERY_S", 0)
        show(progress)
        monkeypatch.setattr(live_view, "LINE_EVERY_S", 30)
        show(progress)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == (
        "3 of 5 questions; 16 of 16 slots (+4 queued); cache hits 50 %; accuracy 66.7 [20.8, 93.9] % of 3; "
        "time left: ?\n"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.9, "60 s"), (61, "2 min"), (3541, "1 h 0 min"), (7300, "2 h 2 min"), (200_000, "2 d 7 h")],
)
def test_durations_have_two_units(seconds: float, words: str) -> None:
    assert live_view.duration(seconds) == words


# ---- beside a run ----


def test_reports_go_on_after_a_failure_which_is_logged_once(
    tmp_path: Path, fast: None, caplog: pytest.LogCaptureFixture
) -> None:
    five_questions(tmp_path)
    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        raise ConnectionError("the server is away")

    with live_view.live(tmp_path, [RUN], on_tick=report):
        until(lambda: len(seen) > 3)
    assert [record.message for record in caplog.records] == ["progress could not be reported; the run goes on"]
    assert seen[0].total_questions == 5


def test_a_broken_view_does_not_stop_the_run(
    tmp_path: Path, fast: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    five_questions(tmp_path)
    monkeypatch.setattr(live_view, "LINE_EVERY_S", 0)
    closed = StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    for run in (RUN, "0123456789abcdef"):
        caplog.clear()
        with live_view.live(tmp_path, [run], on_tick=lambda progress: None):
            until(lambda: bool(caplog.records))
        (record,) = caplog.records
        assert (record.levelno, record.message) == (logging.WARNING, "the live view ended early; the run goes on")


def test_an_error_of_the_run_passes_through(tmp_path: Path, fast: None) -> None:
    five_questions(tmp_path)
    with pytest.raises(ZeroDivisionError), live_view.live(tmp_path, [RUN], on_tick=lambda progress: None):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live-")]


def test_a_report_that_hangs_holds_up_neither_the_view_nor_the_end(
    tmp_path: Path, fast: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_view, "LINE_EVERY_S", 0)
    five_questions(tmp_path)
    hanging, release = threading.Event(), threading.Event()

    def hang(progress: Progress) -> None:
        hanging.set()
        release.wait(30)

    started = time.monotonic()
    with live_view.live(tmp_path, [RUN], on_tick=hang):
        assert hanging.wait(5)
        capsys.readouterr()
        time.sleep(0.2)
        assert capsys.readouterr().err.count("0 of 5 questions") >= 2
    assert time.monotonic() - started < 10
    release.set()


PROGRAM = """
import logging, sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from debate_helpers import RUN, make_home, make_problem, write_usage
from prefect.logging.configuration import setup_logging
from agentark_core import live_view
setup_logging()
home = Path({home!r})
store = make_home(home, [make_problem(n, gold=n) for n in range(200)])
log = logging.getLogger("prefect.test")
log.setLevel("INFO")
live_view.TICK_S = 0.01
def work(name):
    for number in range(40):
        log.info("%s line %d ends here", name, number)
        time.sleep(0.01)
with live_view.live(home, [RUN], on_tick=lambda progress: None):
    threads = [threading.Thread(target=work, args=(name,)) for name in ("first", "second")]
    for thread in threads: thread.start()
    for number in range(100):
        flips = {{"2": {{}}}} if number % 2 else {{}}
        write_usage(store, "h-1-aa", questions=number, running=3, slots=4, flips=flips)
        time.sleep(0.005)
    print("a result on stdout")
    print("a word on stderr", file=sys.stderr)
    for thread in threads: thread.join()
print("the end")
"""


def test_log_lines_stay_whole_above_the_view(tmp_path: Path) -> None:
    """Real Prefect logging from two threads, on a pseudo-terminal, while the view is renewed 100 times a second and
    changes its height."""
    program = PROGRAM.format(tests=str(ROOT / "tests"), home=str(tmp_path / "home"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    terminal = Terminal([sys.executable, "-c", textwrap.dedent(program)], environment=environment, folder=tmp_path)
    assert terminal.wait(timeout_s=60) == 0, terminal.output
    screen = terminal.screen
    lines = screen.text.splitlines()
    for name in ("first", "second"):
        mine = [line for line in lines if f"{name} line" in line]
        assert len(mine) == 40
        assert all(
            line.endswith(f"| INFO    | prefect.test - {name} line {n} ends here") for n, line in enumerate(mine)
        )
    assert "a result on stdout" in lines and "a word on stderr" in lines
    assert terminal.output.count("questions  ") > 20, "it was renewed"
    (last,) = [number for number, line in enumerate(lines) if line.startswith("questions  ")]
    assert "99 of 200 questions" in lines[last], "one view is left, the last one"
    assert "3 of 4 slots" in terminal.output
    assert lines[-1] == "the end"
    assert screen.cursor_shown


def test_the_cursor_is_never_hidden_so_a_killed_run_leaves_a_usable_terminal(tmp_path: Path) -> None:
    five_questions(tmp_path)
    code = (
        "import os, time; from pathlib import Path; from agentark_core import live_view\n"
        f"with live_view.live(Path({str(tmp_path)!r}), [{RUN!r}], on_tick=lambda progress: None):\n"
        "    time.sleep(1); os._exit(143)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    terminal = Terminal([sys.executable, "-c", code], environment=environment, folder=tmp_path)
    assert terminal.wait(timeout_s=60) == 143
    assert "0 of 5 questions" in terminal.output and terminal.screen.cursor_shown


# ---- from another terminal ----


def test_watch_ends_when_every_shard_is_committed(tmp_path: Path, fast: None) -> None:
    debates = [make_debate(n, [[1, 1, 1]], gold=1) for n in range(2)]
    store = make_home(tmp_path, [debates[0].problem], [debates[1].problem])
    commit_debates(store, "00000", debates[:1])
    with store.lease(RUN_LEASE, timeout_s=5):
        timer = threading.Timer(0.3, commit_debates, (store, "00001", debates[1:]))
        timer.start()
        assert live_view.watch(tmp_path, [RUN]) == "finished: all 2 shards are committed"
        timer.join()


def test_watch_ends_with_the_flow_also_while_no_engine_works(tmp_path: Path, fast: None) -> None:
    store = five_questions(tmp_path)
    ended = threading.Event()

    def run() -> None:
        with store.lease(RUN_LEASE, timeout_s=5):
            held.set()
            time.sleep(0.5)  # engines load their model
            ended.set()

    held = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(5)
    assert live_view.watch(tmp_path, [RUN]).startswith("does not run; what is finished is kept")
    assert ended.is_set()
    thread.join()


def test_watch_ends_after_the_flow_was_killed(tmp_path: Path, fast: None) -> None:
    store = five_questions(tmp_path)

    def run() -> None:
        with store.lease(RUN_LEASE, timeout_s=5):
            kill_self()

    assert wait(in_child(run)) == -signal.SIGKILL
    assert live_view.watch(tmp_path, [RUN]).startswith("does not run")


def test_watch_ends_when_the_heart_of_a_flow_on_another_host_has_stopped(
    tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = five_questions(tmp_path)
    monkeypatch.setattr("agentark_core.progress.HEART_STOPS_S", 0.3)
    with store.lease(RUN_LEASE, timeout_s=5):
        owner = store.root / "leases" / f"{RUN_LEASE}.1"
        owner.write_text(owner.read_text().replace('"host":"', '"host":"far-away '))
        beat = owner.with_name(f"{RUN_LEASE}.1.beat")
        silent = beat.read_text()
    beat.write_text(silent)  # as if it had never been released
    started = time.monotonic()
    assert live_view.watch(tmp_path, [RUN]).startswith("does not run")
    assert time.monotonic() - started > 0.3


def test_watch_takes_the_newest_run_and_names_unknown_ones(tmp_path: Path, fast: None) -> None:
    with pytest.raises(ConfigError, match="no debate run yet"):
        live_view.watch_runs(tmp_path, [])
    five_questions(tmp_path)
    with pytest.raises(ConfigError, match=f"nothing: no such debate run .* there are: {RUN}"):
        live_view.watch_runs(tmp_path, ["nothing"])
    assert live_view.watch_runs(tmp_path, []).startswith(f"{RUN}: does not run")


def test_ctrl_c_ends_the_view_and_changes_nothing(tmp_path: Path) -> None:
    store = five_questions(tmp_path)
    before = sorted(store.root.rglob("*"))
    command = [sys.executable, "-m", "agentark_core.cli", "watch", RUN, "--home", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    terminal = Terminal(command, environment=environment, folder=tmp_path)
    until(lambda: "0 of 5 questions" in terminal.output)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait(timeout_s=20) == 0
    assert terminal.screen.text.splitlines()[-1] == "not watched any more; the job goes on"
    assert "Traceback" not in terminal.output and sorted(store.root.rglob("*")) == before
