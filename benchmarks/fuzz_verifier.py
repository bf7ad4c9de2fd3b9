"""Fuzz the verifier: mutated answers and golds, no hang, no crash, nothing executed.

    python benchmarks/fuzz_verifier.py --cases 100000 --seed 0

Each case is drawn from the seed: a formula of the list below or a random one, mutated up to three times, as gold and as
answer, in one of the ways a response states an answer. Prints counts by label and method, the slowest cases, the
peak memory of a child and how many children had to be replaced as a whole; exits 1 if a limit was passed.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from agentark_core.answers import KINDS
from agentark_core.verify import Case, Verifier

_ATOMS = (
    "0", "1", "-7", "12", "3.5", "1,200", "\\frac{1}{2}", "\\dfrac43", "x", "x^2", "2x+1", "\\sqrt{2}",
    "\\sqrt[3]{x}", "\\pi", "e^{i\\pi}", "3+4i", "\\infty", "(1,2)", "[0,1)", "(-\\infty,5)\\cup(5,\\infty)",
    "\\{1,2,3\\}", "1,2,-3", "1\\pm\\sqrt{5}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "y=2x+1", "x<3",
    "x\\in[1,2]", "\\sin^2 x", "\\log_2 8", "\\ln(x)", "10!", "\\binom{5}{2}", "\\text{east}", "\\text{(B)}", "B",
    "1011_2", "60^\\circ", "40\\%", "\\$15", "3:4", "|x|", "\\lfloor x\\rfloor", "\\overline{AB}", "0.\\overline{3}",
    "\\int_0^1 x dx", "\\sum_{k=1}^{9}k", "twenty-one", "f(x)", "a_1+a_{2}", "4:30 \\text{ p.m.}", "x=1, y=2",
    "\\emptyset", "\\mathbb{R}",
)  # fmt: skip
_BINARY = (
    "{}+{}", "{}-{}", "{}*{}", "{}/{}", "\\frac{{{}}}{{{}}}", "({})^{{{}}}", "{},{}", "{}={}", "{}\\cup{}", "{}<{}",
    "\\binom{{{}}}{{{}}}", "{}^{}", "\\log_{{{}}}{{{}}}", "{}\\cdot{}", "{} \\text{{ or }} {}",
)  # fmt: skip
_UNARY = (
    "({})", "\\sqrt{{{}}}", "-{}", "{}!", "\\left({}\\right)", "\\{{{}\\}}", "[{}]", "\\boxed{{{}}}", "{{{}}}",
    "\\sin({})", "|{}|", "$ {} $", "\\text{{{}}}", "\\frac{{1}}{{{}}}", "{}\\%", "\\int {} dx", "{}^{{-1}}",
)  # fmt: skip
_INSERTS = (
    "\x00", "\ud800", "\u202e", "\u0301" * 50, "\U0001f600", "\n", "\t", "\\", "{", "}", "$", "#### ", "\\boxed{",
    "^", "_", "__import__('os').system('touch PWNED')", "${jndi:x}", "'; exit() #", "\\input{/etc/passwd}", "\\\\",
    "&", "!!", "**", "lambda: 0", "os.fork()", "½", "²", "٣", "−", "∞", "∪", "9" * 500, "1e999", "^{9999999}",
    "^{9^{9^9}}", "\\left(", "%", "nan", "1/0", "\\frac{1}{0}", "\\begin{pmatrix}", "\\end{cases}", "a" * 300, ",,,",
    "\\pm\\pm", "\x1b[2J", "\ufeff",
)  # fmt: skip
_STATED = (
    "So it is $\\boxed{%s}$.", "The answer is %s.", "Thus\n#### %s", "We get $x = %s$.", "%s", "**%s**",
    '{"answer": "%s"}', "\\[ \\boxed{%s} \\]",
)  # fmt: skip
_LIMIT_S = 2.0 + 1.5
"""The limit of a request, and the start of a child if a whole one had to be replaced."""


def draw(rng: random.Random) -> Case:
    """One case; a third of the answers is a mutation of the gold."""
    gold = _mutated(_formula(rng, depth=rng.randint(0, 3)), rng) if rng.random() < 0.5 else rng.choice(_ATOMS)
    answer = gold if rng.random() < 0.33 else _formula(rng, depth=rng.randint(0, 4))
    response = rng.choice(_STATED).replace("%s", _mutated(answer, rng))
    return Case(
        response=response, gold=gold, task=rng.choice(["math", "math", *sorted(KINDS)]), question="Simplify it."
    )


def _formula(rng: random.Random, *, depth: int) -> str:
    if depth == 0:
        return rng.choice(_ATOMS)
    if rng.random() < 0.5:
        return rng.choice(_UNARY).format(_formula(rng, depth=depth - 1))
    return rng.choice(_BINARY).format(_formula(rng, depth=depth - 1), _formula(rng, depth=depth - 1))


def _mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        a, b = sorted(rng.randint(0, len(text)) for _ in range(2))
        kind = rng.random()
        if kind < 0.5:
            text = text[:a] + rng.choice(_INSERTS) + text[a:]
        elif kind < 0.65:
            text = text[:a] + text[b:]
        elif kind < 0.8:
            text = text[:a] + text[a:b] * rng.randint(2, 5) + text[b:]
        elif kind < 0.9:
            text = "".join(rng.sample(text, len(text))) if len(text) < 2_000 else text[::-1]
        elif kind < 0.98:
            opening, closing = rng.choice([("\\sqrt{", "}"), ("(", ")"), ("\\frac{1}{", "}"), ("2^{", "}"), ("{", "")])
            depth = rng.choice([3, 10, 40, 500])
            text = opening * depth + text + closing * depth
        else:
            text = (text + "+") * rng.choice([200, 5_000])
        text = text[:300_000]
    return text


def fuzz(number: int, *, seed: int) -> dict[str, Any]:
    """Verify `number` cases one by one; the report. Raises whatever the verifier raises.

    The peak is that of all processes that ended, this one's size when it started them included.
    """
    rng, labels, methods = random.Random(seed), Counter[str](), Counter[str]()
    slowest: list[tuple[float, str, str, str]] = []
    templates = set[int]()
    with Verifier(workers=1) as verifier:
        verifier.pool.compare([("x", "y")])
        for _ in range(number):
            case = draw(rng)
            start = time.monotonic()
            (verdict,) = verifier.verify_many([case])
            seconds = round(time.monotonic() - start, 3)
            labels[verdict.label] += 1
            methods[verdict.method] += 1
            templates.update(verifier.pool.pids)
            slowest = heapq.nlargest(10, [*slowest, (seconds, verdict.method, case.gold[:80], case.response[:120])])
    return {
        "cases": number,
        "seed": seed,
        "labels": dict(labels),
        "methods": dict(methods.most_common()),
        "slowest_s": slowest,
        "peak_mb_of_a_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "children_replaced": len(templates) - 1,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # whatever an executed answer writes shows up here
        report = fuzz(arguments.cases, seed=arguments.seed)
        report["files_written"] = os.listdir(folder)
    print(json.dumps(report, indent=2))
    if report["files_written"] or report["slowest_s"][0][0] > _LIMIT_S:
        sys.exit(1)


if __name__ == "__main__":
    main()
