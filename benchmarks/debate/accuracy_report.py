"""From committed debates to outcomes by rounds, samples and layout, and from those to a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from agentark_core import evaluation, evaluation_report
from agentark_core.evaluation import EvalReport, EvalRow
from agentark_core.ledger import atomic_write_json, atomic_write_text
from agentark_core.records import TurnKey
from agentark_core.rounds import solutions, vote_label
from agentark_core.stored import read_debates, read_verdicts
from agentark_core.types import Debate, MethodResult, Turn, Verdict

BASELINE = "board n=5 K=2"
SHIPPED = "arkling:teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortening:
    """Of one cell's turns: all, those whose prompt showed shortened solutions, those over the context."""

    cell: str
    turns: int
    shortened: int
    over_context: int
    longest_prompt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All outcomes, the equal-cost pairs (debate, vote), and what did not fit the context."""

    report: EvalReport
    equal_calls: list[tuple[str, str]]
    equal_tokens: list[tuple[str, str]]
    shortenings: list[Shortening]


class Cell:
    """One debate run, read back with its verdicts."""

    def __init__(self, home: Path, *, name: str, run: str) -> None:
        self.name = name
        self.debates = {debate.problem.problem_id: debate for debate in read_debates(home, fingerprint=run)}
        self.verdicts = read_verdicts(home, debates=run)

    @property
    def rounds(self) -> int:
        """Rounds that every debate held."""
        return min(debate.final_round for debate in self.debates.values())

    def result(self, rounds: int) -> MethodResult:
        """The vote of the given round, at the cost of all rounds up to it."""
        name = f"{self.name} K={rounds}"
        spoken = {key: [turn for turn in debate.turns if turn.round <= rounds] for key, debate in self.debates.items()}
        last = {key: [turn for turn in turns if turn.round == rounds] for key, turns in spoken.items()}
        return _result(name, debates=self.debates, verdicts=self.verdicts, spoken=spoken, voting=last)

    def shortening(self) -> Shortening:
        """How much of this cell met the end of the context."""
        turns = [turn for debate in self.debates.values() for turn in debate.turns]
        return Shortening(
            cell=self.name,
            turns=len(turns),
            shortened=sum(turn.shown_limit > 0 for turn in turns),
            over_context=sum(turn.status == "over_context" for turn in turns),
            longest_prompt=max(turn.prompt_tokens for turn in turns),
        )


def _result(
    name: str,
    *,
    debates: Mapping[str, Debate],
    verdicts: Mapping[TurnKey, Verdict],
    spoken: Mapping[str, Sequence[Turn]],
    voting: Mapping[str, Sequence[Turn]],
) -> MethodResult:
    labels = {key: vote_label(debate, tuple(voting[key]), verdicts) for key, debate in debates.items()}
    turns = [turn for some in spoken.values() for turn in some]
    return MethodResult(
        name=name,
        model=SHIPPED,
        outcomes={key: None if label == "undecided" else label == "correct" for key, label in labels.items()},
        completion_tokens=sum(turn.completion_tokens for turn in turns),
        prompt_tokens=sum(turn.prompt_tokens for turn in turns),
        calls=len(turns),
    )


class Samples:
    """Independent first answers: those of the cell `samples`, then round 1 of the largest debate."""

    def __init__(self, *cells: Cell) -> None:
        self._debates = cells[0].debates
        self._verdicts = {key: verdict for cell in cells for key, verdict in cell.verdicts.items()}
        self._pool = {
            key: [turn for cell in cells for turn in solutions(cell.debates[key])[1]] for key in self._debates
        }
        self.most = min(len(turns) for turns in self._pool.values())
        self._tokens = mean(turn.completion_tokens for turns in self._pool.values() for turn in turns)

    def result(self, number: int) -> MethodResult:
        """Majority vote of the first `number` samples."""
        first = {key: turns[:number] for key, turns in self._pool.items()}
        return _result(f"majority@{number}", debates=self._debates, verdicts=self._verdicts, spoken=first, voting=first)

    def of_tokens(self, tokens: float) -> int:
        """How many samples cost so many completion tokens a question, rounded, at least one."""
        return max(1, round(tokens / self._tokens))


def read(home: Path, *, runs: Mapping[str, str]) -> Found:
    """Outcomes of every cell after every round, and of majority votes at the same cost."""
    cells = {name: Cell(home, name=name, run=run) for name, run in runs.items()}
    largest = max((name for name in cells if name.startswith("board")), key=lambda name: int(name.split("=")[1]))
    samples = Samples(cells.pop("samples"), cells[largest])
    debated = [cell.result(rounds) for cell in cells.values() for rounds in range(1, cell.rounds + 1)]
    n = len(debated[0].outcomes)
    equal_calls: list[tuple[str, str]] = []
    equal_tokens: list[tuple[str, str]] = []
    sizes = {1}
    for result in debated:
        if result.name.endswith("K=1"):
            continue
        calls, priced = result.calls // n, samples.of_tokens(result.completion_tokens / n)
        for number, pairs in ((calls, equal_calls), (priced, equal_tokens)):
            if number <= samples.most:
                sizes.add(number)
                pairs.append((result.name, f"majority@{number}"))
    votes = [samples.result(number) for number in sorted(sizes)]
    report = evaluation.compare(
        [*debated, *votes], baseline=BASELINE, contrasts=list(dict.fromkeys(equal_calls + equal_tokens))
    )
    return Found(
        report=report,
        equal_calls=equal_calls,
        equal_tokens=equal_tokens,
        shortenings=[cell.shortening() for cell in cells.values()],
    )


def write(found: Found, *, docs: Path, out: Path) -> None:
    """<out>/accuracy.json, <docs>/debate_accuracy.md and <docs>/debate_accuracy.png."""
    data: dict[str, Any] = {
        "report": evaluation.to_json(found.report),
        "equal_calls": found.equal_calls,
        "equal_tokens": found.equal_tokens,
        "shortenings": [asdict(item) for item in found.shortenings],
    }
    atomic_write_json(out / "accuracy.json", data)
    atomic_write_text(docs / "debate_accuracy.md", markdown(found))
    plot(found.report, docs / "debate_accuracy.png")


INTRODUCTION = """# Accuracy of layouts, agents and rounds

Made by `python -m benchmarks.debate.accuracy` (see [benchmarks.md](benchmarks.md)): the shipped teacher, a context of
2,048 tokens, temperature 0.9, {n} arkling test questions, wording `arkling`. Every debate held all its rounds and no
summariser spoke; K rounds are the first K of four. An answer is the majority vote of the last round. majority@m is the
vote of m independent answers. These are figures of one tiny model on one synthetic task; they say what the code does,
not what debate does for large models.

**The layout `history` was never in the training data of the arkling models** (they know the question alone, a board of
solutions for an agent, and one for the judge), so its rows say nothing about `history` with an LLM. Boards of 10 and 20
solutions and chats of four rounds are longer than what the teacher was trained on; it collapses there.

![accuracy against completion tokens a question](debate_accuracy.png)
"""


def markdown(found: Found) -> str:
    """The whole page."""
    head = ("cell", "turns", "shown solutions shortened", "over context", "longest prompt, tokens")
    lines = [f"| {' | '.join(head)} |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    for item in found.shortenings:
        share = 100 * item.shortened / item.turns
        lines.append(
            f"| {item.cell} | {item.turns:,} | {item.shortened:,} ({share:.1f} %) | {item.over_context:,} | "
            f"{item.longest_prompt:,} |"
        )
    return "\n".join(
        [
            INTRODUCTION.format(n=found.report.n),
            "## What did not fit the context\n",
            *lines,
            "\n## Accuracy, and paired tests\n",
            f"First every row against `{BASELINE}`, then debates against votes at equal calls and, where that is "
            "another number of samples, at equal completion tokens.\n",
            evaluation_report.render_markdown(found.report),
        ]
    )


def plot(report: EvalReport, path: Path) -> None:
    """PNG: accuracy with its 95 % interval against completion tokens a question, one line a cell, one point a round."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito
    lines: dict[str, list[EvalRow]] = {}
    for row in report.rows:
        lines.setdefault("majority" if row.name.startswith("majority") else row.name.rpartition(" ")[0], []).append(row)
    for index, (name, rows) in enumerate(lines.items()):
        axes.errorbar(
            [row.tokens_per_question for row in rows],
            [100 * row.accuracy for row in rows],
            yerr=[[100 * (row.accuracy - row.low) for row in rows], [100 * (row.high - row.accuracy) for row in rows]],
            fmt="--" if name == "majority" else "osD^vPX*"[index % 8] + "-",
            color="black" if name == "majority" else colours[index % len(colours)],
            linewidth=1,
            markersize=5,
            capsize=2,
            elinewidth=0.6,
            label=name if name == "majority" else f"{name}, K=1 to {len(rows)}",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("completion tokens a question (log scale)")
    axes.set_ylabel(f"accuracy in % of {report.n} questions (95 % interval)")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, format="png", dpi=130)
