"""The last sections of a report: what the run cost, where its data come from, and what its figures do not show."""

from __future__ import annotations

from agentark_core import yields
from agentark_core.page import Section, Table
from agentark_core.report.gather import Facts
from agentark_core.statistics import wilson


def cost(facts: Facts) -> Section:
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
            note="Saved: by stopping at a consensus, about as many a turn as in the last round. Engine seconds and "
            "price are of all starts together; price in the currency of the configured prices, - where nothing was "
            "charged.",
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


def lineage(facts: Facts) -> Section:
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
                    f"{how['strategy']}, {how['num_agents']} agents, {how['num_rounds']} rounds, layout "
                    f"{how['layout']}, temperature {how['sampling']['temperature']}, seed {one.config['seed']}",
                )
            )
    lineage = facts.made.get("lineage", {})
    names = {
        "base_model": "base model",
        "base_revision": "its revision",
        "reward_model": "revision of its reward model",
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


def limits(facts: Facts) -> Section:
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
            f"Undecided answers count as not correct; {undecided.name} has most, {undecided.undecided:,} of "
            f"{report.n:,}."
            if undecided.undecided
            else "The verifier decided every answer of the evaluation."
        )
        points.append(
            "Tokens are completion tokens. The prompts of a debate grow with its agents and rounds: see Cost."
        )
    if any(one.config["dataset"] == "arkling" for one in facts.sets):
        points.append(
            "arkling questions are generated word problems for models of less than a million parameters: they show "
            "that the machinery works, not how large models behave."
        )
    points.append("Right and wrong are the verifier's words: agentark audit RUN estimates how often it errs.")
    points.append(
        "A peer that an agent followed is the one with its new answer and the most shared operations: a likely cause, "
        "not a proven one."
    )
    return Section(title="Limits", points=points)
