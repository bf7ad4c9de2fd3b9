"""An audit as Markdown: the figures, and the disagreeing cases ready to read. Text of models is shown, never obeyed."""

from __future__ import annotations

from agentark_core.audit import Audit, Item, Opinion
from agentark_core.markdown import fenced, inline
from agentark_core.terminal import counts, safe, share

TAIL = 1_500
"""Characters of a response that are shown, from its end."""

SHOWN = 3_000
"""Characters of a question, gold or answer that are shown."""


def summary(audit: Audit) -> str:
    """The figures, for a terminal or the head of the Markdown file."""
    lines = [
        f"Audit of {safe(audit.source)}, seed {audit.seed}. Second checker: {safe(audit.checker)}.",
        "",
        "| verdict | all | drawn | second opinion | disagree | disagree, % [95 %] |",
        "|---|---|---|---|---|---|",
    ]
    for s in audit.strata:
        lines.append(
            f"| {s.label} | {s.population:,} | {s.drawn:,} | {s.decided:,} | {s.disagree:,} | "
            f"{share(s.disagree, s.decided)} |"
        )
    lines += ["", _noise(audit)]
    if audit.not_audited:
        lines += ["", f"Not audited: {counts(audit.not_audited)}."]
    return "\n".join(lines)


def _noise(audit: Audit) -> str:
    if audit.noise is None:
        return "Label noise: not estimable, a stratum has no second opinion at all; try --judge or a larger --sample."
    estimate, low, high = (100 * value for value in audit.noise)
    decided, population = (sum(getattr(s, name) for s in audit.strata) for name in ("decided", "population"))
    return (
        f"Estimated label noise: {estimate:.2f} % [{low:.2f}, {high:.2f}] of {population:,} verdicts (95 %, from "
        f"n = {decided:,} second opinions, weighted by stratum). It counts the second checker's errors too, so read "
        "the cases; errors that both checkers share, such as a wrong gold, do not show."
    )


def markdown(audit: Audit) -> str:
    """The figures and every disagreeing case."""
    parts = ["# Audit of verdicts", summary(audit), f"## {len(audit.disagreements)} cases to read"]
    parts += [_case(number, item, opinion) for number, (item, opinion) in enumerate(audit.disagreements, start=1)]
    return "\n\n".join(parts) + "\n"


def _case(number: int, item: Item, opinion: Opinion) -> str:
    case, verdict = item.case, item.verdict
    reason = f", {inline(verdict.reason)}" if verdict.reason else ""
    tail = case.response[-TAIL:]
    cut = f" (last {TAIL:,} of {len(case.response):,} characters)" if len(tail) < len(case.response) else ""
    return "\n\n".join(
        [
            f"### {number}. {inline(item.name)} ({case.task})",
            f"- verdict: **{verdict.label}** ({inline(verdict.method)}{reason})\n"
            f"- second checker: **{opinion.label}** ({inline(opinion.note)})",
            f"Question\n\n{fenced(case.question[:SHOWN])}",
            f"Gold\n\n{fenced(case.gold[-SHOWN:])}",
            f"Extracted answer\n\n{fenced((verdict.extracted or '')[:SHOWN])}",
            f"Response{cut}\n\n{fenced(tail)}",
        ]
    )
