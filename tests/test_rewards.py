"""Rewards of completions: aggregates, terms, failures; advantages of two groups by hand; the watch's rule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentark_core import prompts, steps
from agentark_core.arkling import generator
from agentark_core.config import GRPOConfig
from agentark_core.errors import ConfigError, DataError
from agentark_core.training import TrainingError, watch
from agentark_core.training.rewards import (
    EXACT_RIGHT,
    EXACT_WRONG,
    Asked,
    ExactScorer,
    Rewarder,
    advantages,
    aggregate,
    no_variance,
    open_scorer,
)
from agentark_core.types import Message
from agentark_core.verify import Verifier

SPEC = generator.Spec("bags", (22, 11, 9, 98))
QUESTION = "Q: Ann fills 22 red bags and 11 blue bags with 9 pens each and gives away 98 pens. How many pens are left?"
RIGHT = "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 297\nStep 3: 297 - 98 = 199\n\\boxed{199}"
WRONG = "Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 296\nStep 3: 296 - 98 = 198\n\\boxed{198}"


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(workers=1) as opened:
        yield opened


def asked(name: str = "q") -> Asked:
    return Asked(problem_id=name, prompt=prompts.first_answer(QUESTION, wording="arkling"), gold="199", task="number")


def test_aggregates_of_step_scores() -> None:
    scores = [0.5, 0.25, 0.75]
    assert aggregate(scores, how="mean") == 0.5
    assert aggregate(scores, how="min") == 0.25
    assert aggregate(scores, how="last") == 0.75
    assert aggregate(scores, how="product") == 0.09375
    assert aggregate([], how="product") == 0.0


def test_advantages_of_two_groups_by_hand() -> None:
    first, second = [1.0, 0.0, 0.0, 1.0], [0.2, 0.6, 1.0]
    half = 0.5 / (1 / math.sqrt(3) + 1e-4)  # mean 1/2, variance 4 * 0.25 / 3
    assert advantages(first, how="group") == pytest.approx([half, -half, -half, half])
    one = 0.4 / (0.4 + 1e-4)  # mean 0.6, variance (0.16 + 0.16) / 2
    assert advantages(second, how="group") == pytest.approx([-one, 0, one])
    assert advantages(second, how="mean_only") == pytest.approx([-0.4, 0, 0.4])
    assert advantages(second, how="leave_one_out") == pytest.approx([0.2 - 0.8, 0.6 - 0.6, 1.0 - 0.4])
    assert advantages(first, how="leave_one_out") == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_unknown_rewards_have_no_part_in_their_group() -> None:
    for how in ("group", "leave_one_out", "mean_only"):
        known = advantages([0.0, 1.0, 0.5], how=how)
        assert advantages([0.0, None, 1.0, 0.5], how=how) == [known[0], 0.0, known[1], known[2]]
        assert advantages([None, 1.0], how=how) == [0.0, 0.0]
    assert no_variance([0.5, None, 0.5]) and no_variance([None, None]) and not no_variance([0.5, 0.4])


def test_the_exact_scorer_gives_one_score_a_step() -> None:
    scores = ExactScorer().scores([asked().prompt] * 3, [RIGHT, WRONG, ""])
    assert [len(row) for row in scores] == [len(steps.split(text)) for text in (RIGHT, WRONG, "")]
    assert scores == [[EXACT_RIGHT] * 4, [EXACT_RIGHT, EXACT_WRONG, EXACT_WRONG, EXACT_WRONG], []]
    with pytest.raises(DataError, match="not a question of arkling"):
        ExactScorer().scores([[{"role": "user", "content": "2 + 2?"}]], ["4"])


def test_terms_are_weighted_and_undecided_is_not_wrong(verifier: Verifier) -> None:
    config = GRPOConfig(scorer="exact", process_weight=1, outcome_weight=0.5, format_weight=0.1)
    rewarder = Rewarder(config, scorer=ExactScorer(), verifier=verifier)
    found = rewarder([asked()] * 3, [RIGHT, WRONG, "no idea"], group_size=3)
    assert [reward.total for reward in found] == pytest.approx([EXACT_RIGHT + 0.6, 0.2505 + 0.1, EXACT_WRONG])
    hard = Asked(problem_id="t", prompt=asked().prompt, gold="\\int_0^1 f", task="math")
    alone = Rewarder(GRPOConfig(process_weight=0, outcome_weight=1), scorer=None, verifier=verifier)
    found = alone([hard, asked()], ["\\boxed{\\int_0^{1} g}", RIGHT], group_size=2)
    assert [reward.total for reward in found] == [None, 1.0]


class Failing:
    """A scorer that fails on a batch that holds a text, or gives it a score."""

    def __init__(self, text: str, *, score: float | None = None) -> None:
        self.text = text
        self.score = score

    def scores(self, prompts: list[list[Message]], completions: list[str]) -> list[list[float]]:
        if self.score is None and self.text in completions:
            raise RuntimeError("out of memory")
        if "long" in completions:
            raise DataError("completion 0: 9,000 tokens with its prompt, the process reward model reads 8,192")
        return [[self.score if self.score is not None and text == self.text else 0.5] for text in completions]


def test_a_group_whose_scoring_fails_is_failed_and_not_zero(verifier: Verifier) -> None:
    config = GRPOConfig()
    rewarder = Rewarder(config, scorer=Failing("c"), verifier=verifier)
    found = rewarder([asked(n) for n in "pppqqq"], list("abxcde"), group_size=3)
    assert [reward.total for reward in found] == [0.5, 0.5, 0.5, None, None, None]
    found = rewarder([asked(n) for n in "ppqq"], ["a", "b", "long", "d"], group_size=2)
    assert [reward.total for reward in found] == [0.5, 0.5, None, None]
    with pytest.raises(TrainingError, match=r"failed on every group \(RuntimeError: out of memory\); questions: q$"):
        rewarder([asked("q")] * 2, ["c", "d"], group_size=2)
    for score in (math.nan, math.inf, -0.1):
        broken = Rewarder(config, scorer=Failing("c", score=score), verifier=verifier)
        with pytest.raises(TrainingError, match=r"no number in \[0, 1\]; questions: q;"):
            broken([asked("p"), asked("q")], ["a", "c"], group_size=1)


def test_a_process_reward_model_must_be_named() -> None:
    with pytest.raises(ConfigError, match="set `prm` to the directory"):
        open_scorer(GRPOConfig(), prm=None)
    assert open_scorer(GRPOConfig(process_weight=0, outcome_weight=1), prm=None) is None


def look(step: int, *, reward: float, right: int, rollouts: float = 0.2) -> watch.Look:
    outcomes = {f"q{i}": i < right for i in range(100)}
    return watch.Look(step=step, reward=reward, rollout_reward=rollouts, outcomes=outcomes)


def test_the_watch_stops_only_for_more_reward_and_surely_less_accuracy(tmp_path: Path) -> None:
    looks = [look(0, reward=0.4, right=50), look(10, reward=0.5, right=60), look(20, reward=0.6, right=60)]
    assert watch.best(looks).step == 10

    def hacked(now: watch.Look, *, margin: float = 0.02) -> str | None:
        return watch.hacked([*looks, now], margin=margin)

    assert hacked(look(30, reward=0.7, right=59)) is None  # may be chance
    assert hacked(look(30, reward=0.5, right=30)) is None  # no more reward
    assert hacked(look(30, reward=0.7, right=45), margin=0.2) is None  # within the margin
    reason = hacked(look(30, reward=0.7, right=30))
    assert reason and "accuracy changed by -30.0 points" in reason and "since step 10" in reason
    assert "from 0.500 to 0.700 there" in reason
    assert hacked(look(30, reward=0.4, right=30, rollouts=0.3))
    undecided = watch.Look(step=5, reward=0.9, rollout_reward=0.9, outcomes=dict.fromkeys(looks[1].outcomes))
    assert hacked(undecided, margin=0) is None
    watch.write(tmp_path / "watch.jsonl", looks)
    assert watch.read(tmp_path / "watch.jsonl", until=10) == looks[:2]


def test_the_base_s_rollouts_are_those_until_the_first_look() -> None:
    """One batch of them says too little: no alarm for more reward than that."""
    base, first = look(0, reward=0.4, right=60, rollouts=0.1), look(10, reward=0.3, right=40, rollouts=0.2)
    assert watch.hacked([base, first], margin=0.02) is None
    reason = watch.hacked([base, first, look(20, reward=0.3, right=40, rollouts=0.21)], margin=0.02)
    assert reason and "from 0.200 to 0.210 in the rollouts" in reason
