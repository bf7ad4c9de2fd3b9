"""What the rules for near duplicates drop from real training sets, what they miss, and what they cost at full size.

    python benchmarks/decontamination.py --data ../shared/data [--questions 342000 --tests 20000] [--dropped FILE]

DIR holds math/, gsm8k/, metamath/, medmcqa/, debate/ and verifier/ as published. MetaMath's backward questions were
made from GSM8K's test questions: every one of them must be found. Real training sets hold siblings of test questions,
which nobody labelled, so what was dropped is to be read: --dropped writes each pair with rule, score and both texts.

The large set is made of real questions, half of them MedMCQA's, in which half of the numbers and an eighth of the words
are replaced; 2 % of it are questions with one other word, and the backward questions are hidden in it. It runs in a
process of its own, whose peak resident memory holds the texts too. Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import multiprocessing
import random
import re
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentark_core import near_duplicates
from agentark_core.benchmark_prompts import bare
from agentark_core.config import ProblemsConfig
from agentark_core.held_out import question_key
from agentark_core.near_duplicates import Match, contaminated, near_duplicate_questions, near_duplicate_traces
from agentark_core.problems import load
from agentark_core.statistics import wilson

SWEEP = (0.4, 0.45, 0.5, 0.55, 0.6, 0.7)


def rows(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, plain or gzip."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Data:
    """The published files, read once."""

    def __init__(self, folder: Path) -> None:
        self.math = [row["problem"] for row in rows(folder / "math" / "train.jsonl.gz")]
        self.math_test = [row["problem"] for row in rows(folder / "math" / "test.jsonl.gz")]
        self.gsm8k = [row["question"] for row in rows(folder / "gsm8k" / "train.jsonl.gz")]
        self.gsm8k_test = [row["question"] for row in rows(folder / "gsm8k" / "test.jsonl")]
        medmcqa = {"source": "medmcqa", "path": str(folder / "medmcqa" / "dev.jsonl.gz")}
        self.medmcqa = [
            bare(problem.question, task="medmcqa") for problem in load(ProblemsConfig.model_validate(medmcqa)).problems
        ]
        backward = rows(folder / "metamath" / "GSM8K_Backward.jsonl")
        place = {question_key(text): number for number, text in enumerate(self.gsm8k_test)}
        self.backward = [row["question"] for row in backward]
        self.source = [place[question_key(row["original_question"])] for row in backward]


# ---- test questions


@contextlib.contextmanager
def numbers_ignored() -> Iterator[None]:
    """The rules without the one that other numbers make another question."""
    kept = near_duplicates._Numbers.replaced
    near_duplicates._Numbers.replaced = lambda self, test, question: test < 0  # type: ignore[method-assign]
    try:
        yield
    finally:
        near_duplicates._Numbers.replaced = kept  # type: ignore[method-assign]


def other_numbers(text: str, rng: random.Random, *, how_many: int) -> str:
    """The text with so many of its numbers replaced by others of the same length."""
    places = [found.span() for found in re.finditer(r"\d+", text)]
    for start, end in sorted(rng.sample(places, min(how_many, len(places))), reverse=True):
        digits = text[start:end]
        other = digits
        while int(other) == int(digits):
            other = str(rng.randint(10 ** (len(digits) - 1), 10 ** len(digits) - 1))
        text = text[:start] + other + text[end:]
    return text


def against_tests(data: Data) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of every pair of sets, and the dropped questions with what they matched."""
    rng = random.Random(0)
    halves = rng.sample(data.medmcqa, len(data.medmcqa))
    middle = len(halves) // 2
    numbered = [text for text in data.gsm8k_test if len(re.findall(r"\d+", text)) > 1]
    pairs = {
        "MATH train / test": (data.math, data.math_test),
        "GSM8K train / test": (data.gsm8k, data.gsm8k_test),
        "MedMCQA dev, half / half": (halves[:middle], halves[middle:]),
        "MetaMath backward / GSM8K test": (data.backward, data.gsm8k_test),
        "GSM8K test, all numbers changed": ([other_numbers(t, rng, how_many=99) for t in numbered], data.gsm8k_test),
        "GSM8K test, one number changed": ([other_numbers(t, rng, how_many=1) for t in numbered], data.gsm8k_test),
    }
    figures: dict[str, Any] = {}
    dropped = []
    for name, (questions, tests) in pairs.items():
        start = time.perf_counter()
        found = contaminated(questions, tests)
        seconds = time.perf_counter() - start
        with numbers_ignored():
            templates = {match.index for match in contaminated(questions, tests)} - {match.index for match in found}
        figures[name] = {
            "questions": len(questions),
            "tests": len(tests),
            "dropped": len(found),
            **Counter(match.rule for match in found),
            "kept for other numbers": len(templates),
            "seconds": round(seconds, 1),
            "dropped at overlap": sweep(questions, tests),
        }
        if questions is data.backward:
            low, high = wilson(len(found), len(questions))
            figures[name]["recall"] = len(found) / len(questions)
            figures[name]["recall 95 %"] = [low, high]
            figures[name]["right source"] = sum(match.matched == data.source[match.index] for match in found)
        if not name.startswith(("MetaMath", "GSM8K test")):
            dropped += [described(match, questions, tests, pair=name) for match in found]
    return figures, dropped


def sweep(questions: list[str], tests: list[str]) -> dict[str, int]:
    """How many questions go at other thresholds of the token overlap."""
    chosen, counted = near_duplicates.TEST_OVERLAP, {}
    for threshold in SWEEP:
        near_duplicates.TEST_OVERLAP = threshold
        counted[str(threshold)] = len(contaminated(questions, tests))
    near_duplicates.TEST_OVERLAP = chosen
    return counted


def described(match: Match, questions: list[str], tests: list[str], *, pair: str) -> dict[str, Any]:
    """A dropped question for people to read."""
    return {
        "pair": pair,
        "rule": match.rule,
        "score": round(match.score, 3),
        "question": match.index,
        "test": match.matched,
        "question_text": questions[match.index],
        "test_text": tests[match.matched],
    }


# ---- within a training set, within a question


def within_sets(folder: Path) -> dict[str, Any]:
    """Repeated questions of real training sets."""
    figures = {}
    for source, name in (("gsm8k", "gsm8k/train"), ("math", "math/train"), ("medmcqa", "medmcqa/dev")):
        config = ProblemsConfig.model_validate({"source": source, "path": str(folder / f"{name}.jsonl.gz")})
        problems = load(config).problems
        found = near_duplicate_questions([bare(p.question, task=p.task) for p in problems], [p.gold for p in problems])
        figures[name] = {"questions": len(problems), "dropped": len(found), **Counter(match.rule for match in found)}
    return figures


def within_questions(folder: Path) -> dict[str, Any]:
    """Repeated traces of recorded debates and samples."""
    debates = [
        (message["content"], row["id"])
        for row in rows(folder / "debate" / "gsm8k_3agents_2rounds.jsonl")
        for chat in row["agents"]
        for message in chat
        if message["role"] == "assistant"
    ]
    samples = [
        (text, str(number))
        for number, row in enumerate(rows(folder / "verifier" / "qwen_math_cot_100x8.jsonl.gz"))
        for text in row["code"]
    ]
    figures = {}
    for name, traces in (("debates, 3 agents x 2 rounds", debates), ("samples, 8 a question", samples)):
        texts, problems = [text for text, _ in traces], [problem for _, problem in traces]
        start = time.perf_counter()
        found = near_duplicate_traces(texts, problems)
        figures[name] = {
            "traces": len(traces),
            "dropped": len(found),
            **Counter(match.rule for match in found),
            "traces_per_s": round(len(traces) / (time.perf_counter() - start)),
        }
    return figures


# ---- full size


def large_set(data: Data, *, size: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """(questions, golds): mutated training questions, 2 % of them again with one other word, and the backward ones."""
    words = sorted({word for text in data.gsm8k for word in re.findall(r"[a-z]{4,}", text)})
    bases = (data.gsm8k + data.math, data.medmcqa)

    def mutated(text: str) -> str:
        def number(found: re.Match[str]) -> str:
            return str(rng.randint(1, 10 ** len(found[0]))) if rng.random() < 0.5 else found[0]

        def word(found: re.Match[str]) -> str:
            return rng.choice(words) if rng.random() < 0.125 else found[0]

        return re.sub(r"[A-Za-z]{4,}", word, re.sub(r"\d+", number, text))

    repeated = size // 50
    questions = [mutated(rng.choice(rng.choice(bases))) for _ in range(size - repeated - len(data.backward))]
    golds = [rng.choice("ABCD") for _ in questions]
    for index in rng.sample(range(len(questions)), repeated):
        parts = questions[index].split(" ")
        parts[rng.randrange(len(parts))] = rng.choice(words)
        questions.append(" ".join(parts))
        golds.append(golds[index])
    return questions + data.backward, golds + ["?"] * len(data.backward)


def full_size(folder: Path, size: int, test_size: int, seed: int) -> dict[str, Any]:
    """Seconds, peak resident memory and what was found at full size."""
    rng = random.Random(seed)
    data = Data(folder)
    questions, golds = large_set(data, size=size, rng=rng)
    tests = data.gsm8k_test + data.math_test
    more, _ = large_set(data, size=max(test_size - len(tests), 0) + len(data.backward), rng=rng)
    tests = (tests + more[: -len(data.backward)])[:test_size]
    start = time.perf_counter()
    found = contaminated(questions, tests)
    middle = time.perf_counter()
    repeats = near_duplicate_questions(questions, golds)
    end = time.perf_counter()
    hidden = range(len(questions) - len(data.backward), len(questions))
    again = range(hidden.start - size // 50, hidden.start)
    return {
        "questions": len(questions),
        "tests": len(tests),
        "seconds against tests": round(middle - start, 1),
        "seconds within": round(end - middle, 1),
        "peak RSS MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "dropped": len(found),
        "backward found": sum(match.index in hidden for match in found),
        "backward": len(hidden),
        "repeats dropped": len(repeats),
        "one-word changes found": sum(match.index in again for match in repeats),
        "one-word changes": len(again),
    }


def main() -> None:
    """Print a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=342_000, help="size of the large set; 0 leaves it out")
    parser.add_argument("--tests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dropped", type=Path, help="file for the dropped questions, as JSON lines")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"version": near_duplicates.NEAR_DUPLICATES_VERSION}
    report["against tests"], dropped = against_tests(Data(arguments.data))
    report["within a set"] = within_sets(arguments.data)
    report["within a question"] = within_questions(arguments.data)
    if arguments.questions:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            size = (arguments.data, arguments.questions, arguments.tests, arguments.seed)
            report["full size"] = pool.apply(full_size, size)
    print("The ten coincidences of MATH and other exact matches:")
    for row in dropped:
        if row["rule"] == "exact":
            for side in ("question", "test"):
                print(f"  {side:<8} {row[side]:>5} {row[side + '_text'][:100]!r}")
    for part in ("against tests", "within a set", "within a question"):
        print(f"\n{part}")
        for name, figures in report[part].items():
            print(f"  {name:<32}", "  ".join(f"{key} {value}" for key, value in figures.items()))
    print("\nfull size\n ", "\n  ".join(f"{key}: {value}" for key, value in report.get("full size", {}).items()))
    print(json.dumps(report))
    if arguments.dropped:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in dropped)
        arguments.dropped.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
