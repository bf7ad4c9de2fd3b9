"""The child process of the verifier: JSON lines in, JSON lines out, Math-Verify in between. Imports nothing of ours.

    in   {"gold": "\\\\frac{1}{2}", "answer": "0.5", "reader": "formula"}      out  {"equal": true, "parsed": true}
    argv: memory limit in bytes, CPU limit per request in seconds. First line out: {"ready": true}.

Its text comes from models, so the process gives up what it does not need: memory and CPU are limited, files cannot
grow, and an audit hook ends any attempt to start a program or open a socket. Math-Verify's own SIGALRM time-outs
stay off because the parent kills. Its reader of plain expressions goes through Python's eval; here the LaTeX reader
takes its place.

reader "formula": answer is one LaTeX formula. "response": answer is a whole response, in which Math-Verify looks for
the final answer itself.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
from typing import Any

_FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.", "socket.", "pty.")


def _deny(event: str, _: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        os._exit(77)


def _limit_cpu(seconds: int) -> None:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + seconds + 1, resource.RLIM_INFINITY))


def _near_memory_limit(limit: int) -> bool:
    """Whether this process ever mapped over a third of its limit (idle: 60 MB). Math-Verify swallows MemoryError and
    answers "not equal"; big integers double as they grow, so the last size that fitted is at least a third."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmPeak"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak > limit // 3


def main() -> None:
    """Serve requests until stdin closes."""
    memory_limit, cpu_limit = int(sys.argv[1]), int(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # parsers print warnings on stdout
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    logging.disable(logging.CRITICAL)
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, parser, verify

    parser.parse_expr_cached = lambda text: parser.parse_latex_cached(text.replace("**", "^").strip(" ."))
    formula = [LatexExtractionConfig()]
    response = [LatexExtractionConfig(), ExprExtractionConfig()]
    for warm in (formula, response):
        parse("$1$", warm, parsing_timeout=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_deny)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        _limit_cpu(cpu_limit)
        request = json.loads(line)
        try:
            gold = parse(f"${request['gold']}$", formula, parsing_timeout=0)
            if request["reader"] == "response":
                answer = parse(request["answer"], response, parsing_timeout=0)
            else:
                answer = parse(f"${request['answer']}$", formula, parsing_timeout=0)
            equal = bool(gold and answer) and verify(gold, answer, timeout_seconds=0)
            parsed = bool(gold and answer)
            if request["reader"] == "response" and not equal:
                # Where Math-Verify finds no value it keeps the text, and two different texts say nothing.
                parsed = all(any(not isinstance(value, str) for value in found) for found in (gold, answer))
            reply: dict[str, Any] = {"equal": equal, "parsed": parsed}
        except (MemoryError, RecursionError) as error:
            reply = {"fault": "memory", "error": type(error).__name__}
        if not reply.get("equal") and _near_memory_limit(memory_limit):
            reply = {"fault": "memory", "error": "MemoryError"}
        print(json.dumps(reply), file=replies, flush=True)
        if "fault" in reply:
            return  # a heap that has once been full is not used again


if __name__ == "__main__":
    main()
