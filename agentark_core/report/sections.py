"""What a report shows below its verdict, section by section; the same in HTML and in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator

from agentark_core import card_figures, evaluation_report, yields
from agentark_core.dynamics import Share
from agentark_core.evaluation import wilson
from agentark_core.figures import BLUE, GREEN
from agentark_core.page import Section, Table
from agentark_core.report import charts, step_scores
from agentark_core.report.gather import CurvePoint, DebateSet, Facts
from agentark_core.report.verdict import found, row_of
from agentark_core.terminal import share


def sections(facts: Facts) -> Iterator[Section]:
    """Everything but the verdict and the debates, in order."""
    if facts.evaluation is not None:
        yield _accuracy(facts)
    if len(facts.students) > 1:
        yield _students(facts)
    if curves := _curves(facts):
        yield _scaling(facts, curves)
    for number, one in enumerate(facts.sets, start=1):
        if len(one.rounds) > 1:
            yield _flips(one, name=f"flips-{number}")
    if facts.step_scores:
        yield _calibration(facts)
    yield _cost(facts)
    yield _lineage(facts)
    yield _limits(facts)


def _accuracy(facts: Facts) -> Section:
    report = facts.evaluation
    assert report is not None
    return Section(
        title="Accuracy against tokens",
        figures=[charts.accuracy_by_tokens(report)],
        tables=evaluation_report.tables(report),
    )


def _students(facts: Facts) -> Section:
    report = facts.evaluation
    rows = [
        (
            one.strategies,
            one.run,
            f"{one.row.correct:,} / {one.row.n:,}",
            share(one.row.correct, one.row.n),
            f"{one.row.tokens_per_question:.1f}",
        )
        for one in facts.students
    ]
    tested = row_of(report, "distilled student") if report else None
    return Section(
        title="Strategies compared",
        figures=[charts.students(facts.students)],
        tables=[
            Table(
                headers=("strategies", "run", "correct", "accuracy, % [95 %]", "completion tokens a question"),
                rows=rows,
                left=2,
                note="Greedy answers on the same held-out questions. Students of other runs of this home are beside this "
                "run's; their intervals are unpaired, so two that overlap may still differ.",
            )
        ],
        points=[f"Against {report.baseline}, paired: this run's student is {found(tested.vs_baseline)}."]
        if report and tested and tested.vs_baseline
        else [],
    )


def _curves(facts: Facts) -> list[charts.Curve]:
    curves = [
        charts.Curve(
            name=f"{one.title.removeprefix('Held-out debates: ')}, after round",
            points=one.by_round,
            colour=GREEN,
            marker="s",
        )
        for one in facts.held_out or facts.learned
        if len(one.by_round) > 1
    ]
    if len(facts.votes) > 1:
        curves.append(charts.Curve(name="majority vote, first k samples", points=facts.votes, colour=BLUE, marker="o"))
    return curves


def _scaling(facts: Facts, curves: list[charts.Curve]) -> Section:
    student = row_of(facts.evaluation, "distilled student") if facts.evaluation and facts.held_out else None
    rows = [(curve.name, str(point.at), *_point(point)) for curve in curves for point in curve.points]
    return Section(
        title="Scaling: more samples, more rounds",
        figures=[charts.scaling(curves, student)],
        tables=[
            Table(
                headers=("way of answering", "size", "accuracy, % [95 %]", "correct", "completion tokens a question"),
                rows=rows,
                note="A vote of k takes the first k samples of each question; numbers at some points are k, or the round. "
                "After a round, a debate that ended earlier counts with its last vote.",
            )
        ],
    )


def _point(point: CurvePoint) -> tuple[str, str, str]:
    return share(point.correct, point.n), f"{point.correct:,} / {point.n:,}", f"{point.tokens:,.1f}"


def _flips(one: DebateSet, *, name: str) -> Section:
    shown = one.dynamics
    rows = [
        (
            str(row.round),
            f"{row.turns:,}",
            _share(shown.to_right_in.get(row.round)),
            _share(shown.to_wrong_in.get(row.round)),
            share(row.correct, row.questions),
            f"{row.questions:,}" + (f", {row.undecided:,} undecided" if row.undecided else ""),
        )
        for row in one.rounds
    ]
    headers = (
        "round",
        "solutions",
        "wrong that turn right, % [95 %]",
        "right that turn wrong, % [95 %]",
        "vote right, % [95 %]",
        "of questions",
    )
    return Section(
        title=f"Flips by round. {one.title}, {one.fingerprint}",
        figures=[card_figures.flips(shown, name=name)] if shown.to_right_in or shown.to_wrong_in else [],
        tables=[
            Table(
                headers=headers,
                rows=rows,
                note="An agent's solution against its own in the round before, where both are decided; the intervals take "
                "questions as the unit, because the agents of one question are not independent. Vote: majority of the "
                "agents after the round; a debate that ended earlier counts with its last vote.",
            )
        ],
    )


def _share(found: Share | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.share:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}] of {found.n:,}"


def _calibration(facts: Facts) -> Section:
    measured = step_scores.measure(facts)
    if measured is None:
        return Section(title="Calibration of the process reward model", note=step_scores.UNMEASURED)
    table, error, auc = measured
    rows = [
        (
            f"{row.low:.1f} to {row.high:.1f}",
            f"{row.right.n:,}",
            f"{100 * row.mean_score:.1f}",
            f"{100 * row.right.value:.1f} [{100 * row.right.low:.1f}, {100 * row.right.high:.1f}]",
        )
        for row in table
    ]
    return Section(
        title="Calibration of the process reward model",
        points=[
            f"Step AUC {auc} labelled steps.",
            f"Expected calibration error {error} labelled steps.",
        ],
        figures=[charts.reliability(table)],
        tables=[
            Table(headers=("score", "steps", "mean score, %", "right, % [95 %]"), rows=rows, note=step_scores.NOTE)
        ],
    )


def _cost(facts: Facts) -> Section:
    spent = [(one.title, one.fingerprint, one.cost) for one in facts.learned]
    shown = {of for _, of, _ in spent}
    for method in facts.methods:
        if method.fingerprint not in shown:
            shown.add(method.fingerprint)
            spent.append((f"Evaluation: {method.name}", method.fingerprint, method.cost))
    rows = [
        (
            what,
            f"{cost['questions']:,.0f}",
            f"{cost['turns']:,.0f}",
            f"{cost['prompt_tokens']:,.0f}",
            f"{100 * cost['cached_tokens'] / cost['prompt_tokens']:.0f}" if cost["prompt_tokens"] else "-",
            f"{cost['completion_tokens']:,.0f}",
            f"{cost['saved_tokens']:,.0f}",
            f"{cost['engine_seconds']:,.0f}",
            f"{cost['cost']:,.2f}" if cost["cost"] else "-",
        )
        for what, _, cost in spent
    ]
    tables = [
        Table(
            headers=(
                "debates",
                "questions",
                "calls",
                "prompt tokens",
                "of them cached, %",
                "completion tokens",
                "completion tokens saved",
                "engine seconds",
                "price",
            ),
            rows=rows,
            note="Saved: by stopping at a consensus, about as many a turn as in the last round. Engine seconds and price "
            "are of all starts together; price in the currency of the configured prices, - where nothing was charged.",
        )
    ]
    if stages := facts.made.get("stages"):
        tables.append(
            Table(
                headers=("training", "rows learned from", "steps", "seconds", "last loss"),
                rows=[
                    (
                        one["strategy"],
                        f"{one['examples']:,}",
                        *(_figure(one["training"].get(name)) for name in ("steps", "seconds", "final_loss")),
                    )
                    for one in stages
                ],
            )
        )
    return Section(title="Cost", tables=tables)


def _figure(value: object) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else "-"


def _lineage(facts: Facts) -> Section:
    rows: list[tuple[str, str]] = []
    for one in facts.sets:
        how = one.config.get("debate")
        rows.append(
            (one.title, f"ledger/debates-{one.fingerprint}, {one.questions:,} questions, shards: {len(one.shards):,}")
        )
        rows.append(("its questions", f"{one.config['dataset']}, ledger/problems-{one.config['problems']}"))
        rows.append(("their licence", one.licence or "not stated"))
        rows.append(
            (
                "its model",
                one.config.get("model_revision") or f"imported from {one.config.get('imported_from', 'elsewhere')}",
            )
        )
        if how:
            rows.append(
                (
                    "how",
                    f"{how['strategy']}, {how['num_agents']} agents, {how['num_rounds']} rounds, layout {how['layout']}, "
                    f"temperature {how['sampling']['temperature']}, seed {one.config['seed']}",
                )
            )
    lineage = facts.made.get("lineage", {})
    names = {
        "base_model": "base model",
        "base_revision": "its revision",
        "examples": "rows learned from",
        "debate_manifests": "digest of the debates",
        "verdict_manifests": "digest of the verdicts",
    }
    rows += [(names[key], value) for key, value in lineage.items() if key in names]
    for one in facts.made.get("stages", []):
        version = one.get("registered") or {}
        registered = f", {version['name']} version {version['version']}" if version.get("version") else ""
        rows.append((f"student after {one['strategy']}", f"revision {one['revision']}{registered}"))
    if questions := facts.stated.get("questions"):
        rows.append(("held-out questions", f"{questions['dataset']}, ledger/problems-{questions['fingerprint']}"))
    rows += [("data card", card) for card in facts.cards]
    tables = [Table(headers=("what", "which"), rows=rows, left=2)]
    if learned := facts.stated.get("yield"):
        tables.append(
            Table(headers=yields.COLUMNS, rows=[yields.cells(row) for row in learned], left=3, note=yields.NOTE)
        )
    return Section(title="Where the data come from", tables=tables, note="Paths are relative to the run's home.")


def _limits(facts: Facts) -> Section:
    """What these figures do not show; each point follows from the run."""
    points = []
    if (report := facts.evaluation) is not None:
        low, high = wilson(report.n // 2, report.n)
        points.append(
            f"{report.n:,} held-out questions: an interval near 50 % is {100 * (high - low):.1f} points wide. "
            "Intervals and tests take questions as the sample; they do not cover another training seed."
        )
        undecided = max(report.rows, key=lambda row: row.undecided)
        points.append(
            f"Undecided answers count as not correct: at most {undecided.undecided:,} of {report.n:,} ({undecided.name})."
            if undecided.undecided
            else "The verifier decided every answer of the evaluation."
        )
        points.append(
            "Tokens are completion tokens; the prompts of a debate grow with its agents and rounds, and are in the table of costs."
        )
    verdicts = {one.title: one.config for one in facts.sets}
    if any("arkling" in json.dumps(config.get("dataset", "")) for config in verdicts.values()):
        points.append(
            "arkling questions are generated word problems for models of less than a million parameters: they show that "
            "the machinery works, not how large models behave."
        )
    points.append("Right and wrong are the verifier's words: agentark audit RUN estimates how often it errs.")
    points.append(
        "A peer that an agent followed is the one with its new answer and the most shared operations: a likely cause, not a proven one."
    )
    return Section(title="Limits", points=points)
