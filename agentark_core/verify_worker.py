"""The child process of the verifier: JSON lines in, JSON lines out, Math-Verify in between. Imports nothing of ours.

    in   {"id": 1, "gold": "\\\\frac{1}{2}", "answer": "0.5", "reader": "formula"}
    out  {"id": 1, "outcome": "equal"}              also: different | unparsed | timeout | memory | killed
    argv: memory limit in bytes, time limit per request in seconds. First line out: {"ready": true}.

This process imports and warms the parser once, then only forks: a fork serves the requests and may die at any time, the
next one takes over in milliseconds instead of the second that a start takes. The kernel ends a fork at its time limit
(SIGALRM with its default action, which no long computation delays); the template then reports the outcome itself.

Its text comes from models, so a fork gives up what it does not need: memory and time are limited, files cannot grow,
and an audit hook ends any attempt to start a program or open a socket. Math-Verify's own SIGALRM time-outs stay off.
Its reader of plain expressions goes through Python's eval; here the LaTeX reader takes its place.

reader "formula": answer is one LaTeX formula. "response": answer is a whole response, in which Math-Verify looks for
the final answer itself.
"""

from __future__ import annotations

import gc
import json
import logging
import mmap
import os
import resource
import signal
import struct
import sys
from typing import IO, Any

_FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.", "socket.", "pty.")
_WARM = (
    ("1", "2"),
    ("\\frac{1}{2}+x", "\\sqrt{3}-2x^2"),
    ("(-\\infty, 5) \\cup (5, \\infty)", "[0,1)"),
    ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "x \\le 3"),
    ("y = 2x+1", "\\sin x + \\pi"),
    ("\\left(1, -\\frac{2}{3}\\right)", "\\{1, 2\\}"),
)
"""ANTLR builds its tables as it meets the grammar, 20 to 500 ms for the first formula of each kind."""


def main() -> None:
    """Serve requests until stdin closes."""
    memory_limit, time_limit_s = int(sys.argv[1]), float(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # parsers print warnings on stdout
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    logging.disable(logging.CRITICAL)
    from math_verify import parser

    parser.parse_expr_cached = lambda text: parser.parse_latex_cached(text.replace("**", "^").strip(" ."))
    for gold, answer in _WARM:
        _compare(gold, answer, "formula")
    _compare("1", "1", "response")
    gc.freeze()  # the forks share these pages; a collection would copy them
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends the fork; this process sees that, reaps it and ends
    current = mmap.mmap(-1, 8)  # the id of the request that the fork works on, 0 while it waits
    _reply(replies, {"ready": True})
    while True:
        fork = os.fork()
        if fork == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _serve(replies, current, memory_limit=memory_limit, time_limit_s=time_limit_s)
            os._exit(0)
        _, status = os.waitpid(fork, 0)
        number = struct.unpack("q", current[:])[0]
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number == 0 or ended_by == signal.SIGTERM:
            return  # stdin is closed, or it was killed while idle: the pool decides
        current[:] = bytes(8)
        if status != 0:
            _reply(replies, {"id": number, "outcome": "timeout" if ended_by == signal.SIGALRM else "killed"})


def _serve(replies: IO[str], current: mmap.mmap, *, memory_limit: int, time_limit_s: float) -> None:
    """Answer requests until stdin closes or the memory ran out once: a heap that has once been full is not used again;
    `current` then still holds the id."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_deny)
    for line in sys.stdin:
        request = json.loads(line)
        current[:] = struct.pack("q", request["id"])
        signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        try:
            outcome = _compare(request["gold"], request["answer"], request["reader"])
        except (MemoryError, RecursionError):
            outcome = "memory"
        if outcome != "equal" and _near_memory_limit(memory_limit):
            outcome = "memory"
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(replies, {"id": request["id"], "outcome": outcome})
        if outcome == "memory":
            return
        current[:] = bytes(8)


def _compare(gold: str, answer: str, reader: str) -> str:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    formula = [LatexExtractionConfig()]
    golds = parse(f"${gold}$", formula, parsing_timeout=0)
    if reader == "response":
        answers = parse(answer, [*formula, ExprExtractionConfig()], parsing_timeout=0)
    else:
        answers = parse(f"${answer}$", formula, parsing_timeout=0)
    if not golds or not answers:
        return "unparsed"
    if verify(golds, answers, timeout_seconds=0):
        return "equal"
    if reader == "response" and not all(any(not isinstance(v, str) for v in found) for found in (golds, answers)):
        return "unparsed"  # where Math-Verify finds no value it keeps the text, and two different texts say nothing
    return "different"


def _reply(replies: IO[str], reply: dict[str, Any]) -> None:
    """One write: a reply is never cut in two by a kill."""
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _deny(event: str, _: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        os._exit(77)


def _near_memory_limit(limit: int) -> bool:
    """Whether this process ever mapped over a third of its limit (idle: 90 MB). Math-Verify swallows MemoryError and
    answers "not equal"; big integers double as they grow, so the last size that fitted is at least a third."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmPeak"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak > limit // 3


if __name__ == "__main__":
    main()
