"""The first thing that a report says, in sentences that follow from its figures; and what the figures do not show."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentark_core import evaluation_report
from agentark_core.evaluation import EvalReport, EvalRow
from agentark_core.paired_tests import PairedTest
from agentark_core.report import prose
from agentark_core.report.debate_sets import DebateSet
from agentark_core.report.gather import Facts
from agentark_core.terminal import share


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """headline: one sentence. reasons: the figures behind it. missing: parts of a full report that this run lacks."""

    headline: str
    reasons: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def verdict(facts: Facts) -> Verdict:
    """What came of the run."""
    report = facts.evaluation
    if report is not None and prose.unjudged(report):
        return Verdict(
            headline=prose.headline(report, facts.prose),
            reasons=prose.reasons(report, facts.prose),
            missing=_missing(facts),
        )
    if report is not None and (student := row_of(report, "distilled student")):
        return Verdict(
            headline=_headline(report, student),
            reasons=[*_reasons(report, student), *prose.beside(facts.prose)],
            missing=_missing(facts),
        )
    if facts.learned:
        first = facts.learned[0]
        return Verdict(headline=_of_debates(first), reasons=_flips(first), missing=_missing(facts))
    return Verdict(headline=f"Run {facts.name} has nothing to show yet.", missing=_missing(facts))


def row_of(report: EvalReport, who: str) -> EvalRow | None:
    """The greedy row of a model if there is one, else its first."""
    rows = [row for row in report.rows if row.name.startswith(who)]
    return next((row for row in rows if row.name.endswith("greedy")), rows[0] if rows else None)


def discussion_of(report: EvalReport) -> EvalRow | None:
    """The row that the contrasts are about: the teacher's discussion."""
    names = {contrast.a for contrast in report.contrasts}
    return next((row for row in report.rows if row.name in names and "student" not in row.name), None)


def found(test: PairedTest | None) -> str:
    """What a paired test shows, by its interval."""
    if test is None:
        return "cannot be compared"
    return "better" if test.low > 0 else "worse" if test.high < 0 else "not shown to differ"


def difference(test: PairedTest | None) -> str:
    """ "+22.2 points [+17.7, +26.5], n = 600"."""
    if test is None:
        return "no question was decided for both"
    return f"{test.difference:+.1f} points [{test.low:+.1f}, {test.high:+.1f}], n = {test.n:,}"


def percent(row: EvalRow) -> str:
    """ "40.8 % [37.0, 44.8] of 600"."""
    return f"{100 * row.accuracy:.1f} % [{100 * row.low:.1f}, {100 * row.high:.1f}] of {row.n:,}"


def _headline(report: EvalReport, student: EvalRow) -> str:
    base, discussed = row_of(report, "base student"), discussion_of(report)
    parts = []
    if base is not None and student.vs_baseline is not None and report.baseline == base.name:
        verb = {"better": "gained", "worse": "lost", "not shown to differ": "is not shown to have gained anything:"}
        says = verb.get(found(student.vs_baseline), "cannot be compared with its base:")
        test = student.vs_baseline
        parts.append(
            f"The student {says} {test.difference:+.1f} points [{test.low:+.1f}, {test.high:+.1f}] over its base"
        )
    else:
        parts.append(f"The student answers {percent(student)} questions correctly")
    if discussed is not None and discussed.accuracy and discussed.tokens_per_question:
        tokens = student.tokens_per_question / discussed.tokens_per_question
        parts.append(f"at {100 * tokens:.0f} % of the {discussed.name}'s completion tokens")
        parts.append(f"it has {_kept(student, discussed)} of its accuracy")
    first, *rest = parts
    return f"{first}; {' '.join(rest)}." if rest else f"{first}."


def _kept(student: EvalRow, discussed: EvalRow) -> str:
    """The share of the discussion's accuracy, with its interval where the evaluation has one."""
    kept = student.retention
    if kept is None:
        return f"{100 * student.accuracy / discussed.accuracy:.0f} %"
    return f"{100 * kept.value:.0f} % [{100 * kept.low:.0f}, {100 * kept.high:.0f}]"


def _reasons(report: EvalReport, student: EvalRow) -> list[str]:
    base, discussed = row_of(report, "base student"), discussion_of(report)
    reasons = [
        f"{row.name}: {percent(row)}, {row.tokens_per_question:,.0f} completion tokens and "
        f"{row.calls_per_question:.3g} {'call' if row.calls_per_question == 1 else 'calls'} a question"
        for row in (student, base, discussed)
        if row is not None
    ]
    for contrast in report.contrasts:
        reasons.append(f"{contrast.a} against {contrast.b}: {found(contrast.test)}, {difference(contrast.test)}")
    if equal := evaluation_report.equal_tokens(report):
        reasons.append(equal)
    return reasons


def _of_debates(one: DebateSet) -> str:
    last = one.by_round[-1] if one.by_round else None
    if last is None:
        return f"{one.questions:,} debates, none with a solution."
    says = f"The vote of {one.questions:,} debates is right in {share(last.correct, last.n)} %"
    if one.gain is None:
        return f"{says}; there is one round, so nothing to compare it with."
    change = {"better": "the rounds helped", "worse": "the rounds harmed"}.get(
        found(one.gain), "the rounds are not shown to help"
    )
    return f"{says}; {change}: {difference(one.gain)} against the vote of round 1."


def _flips(one: DebateSet) -> list[str]:
    return [
        f"round {row.round}: {row.to_right:,} of {row.pairs:,} answers turned right, {row.to_wrong:,} turned wrong; "
        f"vote right in {share(row.correct, row.questions)} % of {row.questions:,}"
        for row in one.rounds
        if row.pairs
    ]


def _missing(facts: Facts) -> list[str]:
    missing = []
    if facts.evaluation is None:
        missing.append("No evaluation: agentark run evaluate-model, or full-pipeline, makes one.")
    elif discussion_of(facts.evaluation) is None:
        missing.append("No teacher was evaluated, so there is no debate to compare the student with.")
    if facts.evaluation is not None and not facts.methods:
        missing.append(
            "The evaluation was written by a version that did not note its debates: no held-out debates here."
        )
    if facts.evaluation is not None and not facts.learned:
        missing.append("Which debates the student learned from is not known: it was evaluated apart from distil.")
    if facts.evaluation is not None and "robustness" not in facts.stated:
        missing.append("No perturbed questions were asked: evaluation.robustness names them.")
    if facts.evaluation is not None and not any("student" in one.title for one in facts.votes):
        missing.append(
            "The student was sampled once, so its answers have no calibration: set evaluation.student_samples."
        )
    if facts.evaluation is not None and not facts.reasoning:
        missing.append(
            f"Nothing says how solutions reason: agentark perplexity {facts.name} --model M, agentark qualities "
            f"{facts.name} --judge M."
        )
    if not facts.step_scores and any(one["strategy"] == "prm" for one in facts.made.get("stages", [])):
        missing.append(
            f"No scores of steps, so no calibration of them: agentark report {facts.name} --scores 200 makes them."
        )
    elif not facts.step_scores:
        missing.append("No process reward model was trained in this run, so steps have no scores.")
    return missing
