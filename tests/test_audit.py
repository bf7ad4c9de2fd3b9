"""Audits: what is drawn, what the second checker says, the estimate, and hostile text in the file to read."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from debate_helpers import RUN, commit_debates, make_debate, make_home, put
from debate_helpers import verify as verify_debates
from test_judge import Voter, local
from typer.testing import CliRunner

from agentark_core import audit, audit_view
from agentark_core.audit import Item, Reservoir, Stratum, audit_cases, audit_run, label_noise, second_opinions
from agentark_core.cli import app
from agentark_core.errors import ConfigError, EmptyDataset
from agentark_core.records import verdicts_to_table
from agentark_core.statistics import wilson
from agentark_core.stored import latest_verdict_store, verdict_store
from agentark_core.types import Verdict
from agentark_core.verify import Case

RIGHT = Verdict(label="correct", method="number", extracted="1")


def item(response: str, *, gold: str, task: str = "number", name: str = "i") -> Item:
    return Item(name=name, case=Case(response=response, gold=gold, task=task), verdict=RIGHT)


def stratum(label: str, population: int, decided: int, disagree: int) -> Stratum:
    return Stratum(
        label=label,
        population=population,
        drawn=decided,
        decided=decided,
        disagree=disagree,  # type: ignore[arg-type]
    )


SECOND = [
    ("number", "18", "So 2 + 3 = 5.\n#### 18", "correct"),
    ("number", "18", "It is \\boxed{17}.", "incorrect"),
    ("number", "0.5", "The answer is 1/2.", "correct"),
    ("math", "\\frac{1}{2}", "First $x = 3$. The final answer is $\\frac{2}{4}$.", "correct"),
    ("math", "\\text{east}", "facing **west**.", None),
    ("number", "5", "no idea", None),
    ("choice", "B", '{"step": "not A", "answer_choice": "B. Heart"}', "correct"),
    ("choice", "B", "A patient came. The answer is (C).", "incorrect"),
    ("choice", "B", "none of these", None),
    ("text", "Queen", "The answer is Queen.", None),
]


def test_the_second_checker_searches_the_whole_response_itself() -> None:
    opinions = second_opinions([item(text, gold=gold, task=task) for task, gold, text, _ in SECOND])
    assert [opinion.label for opinion in opinions] == [label for *_, label in SECOND]


def test_the_second_checker_finds_planted_errors_in_both_directions() -> None:
    texts = ["\\boxed{7}", "#### 8"]
    opinions = second_opinions([item(text, gold="7") for text in texts])
    assert [opinion.label for opinion in opinions] == ["correct", "incorrect"]


@pytest.mark.parametrize(
    "response",
    [
        "\\boxed{9^{9^{9^{9}}}}", "The answer is 9**9**9**9**9", "answer " * 3_000, "$" * 20_000, "\\boxed{" * 3_000,
        "(" * 20_000 + "1", "\ud800 \\boxed{7}", "1+" * 10_000, "__import__('os').system('touch /tmp/owned')",
    ],
)  # fmt: skip
def test_hostile_responses_end_within_their_limits(response: str) -> None:
    (opinion,) = second_opinions([item(response, gold="7")])
    assert opinion.label in ("correct", "incorrect", None)


def test_noise_is_weighted_back_to_the_population() -> None:
    strata = [stratum("correct", 9_000, 100, 10), stratum("incorrect", 1_000, 100, 50)]
    noise = label_noise(strata)
    assert noise is not None
    estimate, low, high = noise
    assert estimate == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
    assert low < estimate < high
    (one,) = [label_noise([stratum("correct", 50, 40, 3), stratum("incorrect", 0, 0, 0)])]
    assert one is not None and one[1:] == pytest.approx(wilson(3, 40))
    assert label_noise([stratum("correct", 9, 9, 0), stratum("incorrect", 9, 0, 0)]) is None


def test_the_interval_holds_the_true_share_about_19_times_in_20() -> None:
    rng, held = random.Random(0), 0
    sizes, rates = (8_000, 2_000), (0.02, 0.10)
    truth = sum(size * rate for size, rate in zip(sizes, rates, strict=True)) / sum(sizes)
    for _ in range(1_000):
        found = [sum(rng.random() < rate for _ in range(100)) for rate in rates]
        noise = label_noise([stratum(name, n, 100, k) for name, n, k in zip(audit.LABELS, sizes, found, strict=True)])
        assert noise is not None
        held += noise[1] <= truth <= noise[2]
    assert 930 <= held <= 990


def test_a_reservoir_is_uniform() -> None:
    hits = [0] * 20
    for seed in range(2_000):
        kept: Reservoir[int] = Reservoir(5, rng=random.Random(seed))
        for number in range(20):
            kept.offer(number)
        for number in kept.kept:
            hits[number] += 1
    assert all(400 < hit < 600 for hit in hits)


def write_cases(path: Path, *, right: int, wrong: int) -> Path:
    rows = [{"id": f"r{n}", "task": "number", "gold": str(n), "response": f"\\boxed{{{n}}}"} for n in range(right)]
    rows += [{"id": f"w{n}", "task": "number", "gold": "1", "response": f"#### {n + 2}"} for n in range(wrong)]
    rows += [{"id": "u", "task": "choice", "gold": "B", "response": "the answer is none of them"}, {"id": "bad"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_drawn_by_stratum_and_by_seed(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "c.jsonl", right=60, wrong=4)
    done = audit_cases(cases, sample=20, seed=3)
    assert [(s.label, s.population, s.drawn) for s in done.strata] == [("correct", 60, 16), ("incorrect", 4, 4)]
    assert done.not_audited == {"undecided": 1, "bad rows": 1} and done.noise is not None
    assert audit_cases(cases, sample=20, seed=3) == done


def test_nothing_decided_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataset, match="nothing to audit"):
        audit_cases(write_cases(tmp_path / "c.jsonl", right=0, wrong=0), sample=20, seed=0)


def test_a_run_is_audited_and_wrong_verdicts_are_found(tmp_path: Path) -> None:
    debates = [make_debate(n, [[n, 9]], gold=n) for n in range(1, 4)]
    cut = dataclasses.replace(debates[0].turns[1], agent=3, status="truncated")
    debates[0] = dataclasses.replace(debates[0], turns=(*debates[0].turns, cut))
    store = make_home(tmp_path, [debate.problem for debate in debates])
    commit_debates(store, "00000", debates)
    verify_debates(tmp_path, "00000", debates)
    sound = audit_run(tmp_path, RUN, sample=10, seed=0)
    assert [(s.population, s.disagree) for s in sound.strata] == [(3, 0), (3, 0)]
    assert sound.not_audited == {"no whole solution": 1}
    # The judged verdicts are newer: they are the ones that are audited.
    rules = latest_verdict_store(tmp_path, debates=RUN)
    judged = verdict_store(tmp_path, debates=RUN, judge={"model": "m"})
    rows = {
        (row["work_id"], row["round"], row["agent"]): Verdict(
            label="correct", method="judge", extracted=row["extracted"], reason="3 of 3 votes"
        )
        for row in rules.read().to_pylist()
    }
    put(judged, "00000", verdicts_to_table(rows))
    assert latest_verdict_store(tmp_path, debates=RUN).root == judged.root
    found = audit_run(tmp_path, RUN, sample=10, seed=0)
    assert [(s.population, s.disagree) for s in found.strata] == [(6, 3), (0, 0)]
    assert {one.verdict.method for one, _ in found.disagreements} == {"judge"}
    with pytest.raises(ConfigError, match="no such debate run"):
        audit_run(tmp_path, "0" * 16, sample=10, seed=0)


def test_a_judge_can_be_the_second_checker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    voter = Voter(lambda request: '{"verdict": "correct"}' if request.agent < 3 else "?")
    opened, starts = local(monkeypatch, tmp_path, voter)
    cases = write_cases(tmp_path / "c.jsonl", right=3, wrong=2)
    with cases.open("a") as file:
        file.write(json.dumps({"id": "n", "task": "number", "gold": "1", "response": "I give up."}) + "\n")
    with opened:
        done = audit_cases(cases, sample=10, seed=0, judge=opened)
    assert [(s.population, s.decided, s.disagree) for s in done.strata] == [(3, 3, 0), (3, 2, 2)]
    assert len(starts) == voter.closed == 1 and "judge some/model" in done.checker
    assert {opinion.note for _, opinion in done.disagreements} == {"judge: 2 of 3 votes"}


def test_the_file_shows_hostile_text_without_obeying_it(tmp_path: Path) -> None:
    hostile = "````\n# Owned\n<script>alert(1)</script> \x1b[2J ```` \\boxed{8}"
    cases = tmp_path / "c.jsonl"
    row = {"id": "a`b\n# x", "task": "number", "gold": "7", "question": hostile, "response": hostile}
    cases.write_text(json.dumps(row) + "\n")
    done = audit_cases(cases, sample=2, seed=0)
    wrong = audit.Opinion(label="correct", note="second <b>note</b>")
    verdict = Verdict(label="incorrect", method="number", extracted=hostile)
    shown = Item(
        name=row["id"], case=Case(response=hostile, gold="7", task="number", question=hostile), verdict=verdict
    )
    text = audit_view.markdown(dataclasses.replace(done, disagreements=((shown, wrong),)))
    assert "\x1b" not in text and "<b>" not in text.replace("\\<b\\>", "")
    outside, fence = [], ""
    for line in text.splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text")
        else:
            outside.append(line)
    assert not fence and not any("Owned" in line or "script" in line for line in outside)
    assert [line for line in outside if line.startswith("#")][0] == "# Audit of verdicts"


def test_the_command_prints_the_figures_and_writes_the_cases(tmp_path: Path) -> None:
    cases, out = write_cases(tmp_path / "c.jsonl", right=5, wrong=5), tmp_path / "audit.md"
    done = CliRunner().invoke(app, ["audit", "--cases", str(cases), "--sample", "6", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "| correct | 5 | 3 | 3 | 0 |" in done.output and "Estimated label noise: 0.00 %" in done.output
    assert out.read_text().startswith("# Audit of verdicts")
    both = CliRunner().invoke(app, ["audit", "run", "--cases", str(cases)])
    assert isinstance(both.exception, ConfigError)
