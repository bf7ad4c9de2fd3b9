"""The embedded default: generator, splits, step checker, training formats, pretraining, and the shipped models."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentark_core.arkling import generator, model_path
from agentark_core.arkling.corruption import wrong_solution
from agentark_core.arkling.families import FAMILIES
from agentark_core.arkling.formats import debate, drill, synthetic_texts
from agentark_core.errors import ConfigError, DataError


def test_splits_share_no_problem_and_have_no_repeats() -> None:
    keys = {
        split: [p.problem_id for p in generator.problems(split, limit=300 if split == "validation" else 1500)]
        for split in generator.SPLITS
    }
    for split, ids in keys.items():
        assert len(set(ids)) == len(ids) >= 300, split
    everything = [key for ids in keys.values() for key in ids]
    assert len(set(everything)) == len(everything)


def test_offsets_continue_one_stream_and_repeat_exactly() -> None:
    whole = generator.problems("test", limit=60, seed=3)
    assert (
        generator.problems("test", limit=25, seed=3) + generator.problems("test", limit=35, offset=25, seed=3) == whole
    )
    assert generator.problems("test", limit=60, seed=4) != whole


def test_exchanging_symmetric_parameters_is_the_same_problem() -> None:
    assert generator.Spec("bags", (10, 20, 3, 5)).key == generator.Spec("bags", (20, 10, 3, 5)).key
    assert generator.Spec("rest", (400, 10, 2, 20, 4)).key != generator.Spec("rest", (400, 20, 2, 10, 4)).key


def test_held_out_values_occur_only_in_ood() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        spec = generator.draw(rng, "train")
        family = FAMILIES[spec.family]
        assert family.held_out and spec.params[family.held_out[0]] != family.held_out[1]
    for problem_spec, _ in zip(generator.specs("ood"), range(500), strict=False):
        held_out = FAMILIES[problem_spec.family].held_out
        assert held_out is not None
        name, value = held_out
        symmetric = FAMILIES[problem_spec.family].symmetric
        assert value in [problem_spec.params[n] for n in (symmetric if name in symmetric else name)]


def test_families_that_no_training_has_are_splits_of_their_own_in_words_that_the_models_know() -> None:
    vocabulary = json.loads((model_path("student") / "tokenizer.json").read_text())["model"]["vocab"]
    rng = random.Random(2)
    drawn = {generator.draw(rng, split).family for split in generator.SPLITS[:5] for _ in range(60)}
    for name, family in FAMILIES.items():
        assert (name in drawn) == (not family.split)
        for wording in family.wordings:
            words = re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}", " ", wording))
            assert all("\u0120" + word in vocabulary for word in words), wording
        if family.split == "longer":
            learned = FAMILIES[name.removeprefix("longer ")]
            assert min(map(len, family.paths)) == min(map(len, learned.paths)) + 1


@pytest.mark.parametrize("split", ["train", "longer", "unseen"])
def test_every_path_of_every_family_reaches_the_gold_with_checked_steps(split: generator.Split) -> None:
    rng = random.Random(1)
    whole = split if split in ("longer", "unseen") else ""
    seen = {name: 0 for name, family in FAMILIES.items() if family.split == whole}
    while min(seen.values()) < 40:
        spec = generator.draw(rng, split)
        seen[spec.family] += 1
        texts, asked = generator.solutions(spec), generator.question(spec, rng)
        assert len(FAMILIES[spec.family].paths) >= 2 + (whole != "unseen")
        assert len({generator.parse_solution(text) for text in texts}) == 1
        for text in texts:
            checks = generator.check_steps(asked, text)
            assert checks and all(check.arithmetic and check.available for check in checks)


def test_problems_carry_the_contract_fields() -> None:
    for problem in generator.problems("distil", limit=50):
        assert problem.dataset == "arkling" and problem.task == "number" and problem.split == "distil"
        assert problem.problem_id.startswith("arkling-") and len(problem.problem_id) == len("arkling-") + 16
        assert problem.question.startswith("Q: ") and 1 <= int(problem.gold) <= generator.MAX_RESULT
        assert problem.meta["family"] in FAMILIES


@pytest.mark.parametrize(("split", "limit", "offset"), [("dev", 5, 0), ("test", 0, 0), ("test", 5, -1)])
def test_wrong_requests_are_refused_with_the_remedy(split: str, limit: int, offset: int) -> None:
    with pytest.raises(DataError, match="use one of|at least 1"):
        generator.problems(split, limit=limit, offset=offset)


def test_a_split_that_runs_dry_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    only = generator.draw(random.Random(0), "test")
    monkeypatch.setattr(generator, "draw", lambda rng, split: only)
    assert len(generator.problems("test", limit=1)) == 1
    with pytest.raises(DataError, match="ask for fewer"):
        generator.problems("test", limit=2)


STEP_TABLE = [
    ("Step 1: 22 + 11 = 33", [(True, True)]),
    ("Step 1: 22 + 11 = 32", [(False, True)]),
    ("Step 1: 22 + 12 = 34", [(True, False)]),
    ("Step 1: 22 + 11 = 33\nStep 2: 33 * 9 = 297", [(True, True), (True, True)]),
    ("Step 1: 22 + 11 = 32\nStep 2: 32 * 9 = 288", [(False, True), (True, True)]),
    ("Step 1: 33 * 9 = 297", [(True, False)]),
    ("Step 1: 22 / 11 = 2", [(True, True)]),
    ("Step 1: 11 / 22 = 0", [(False, True)]),
    ("Step 1: 9 / 0 = 0", [(False, False)]),
    ("Step 1: 11 - 22 = 11", [(False, True)]),
    ("Step 1: __import__('os') = 3", [(False, False)]),
    ("Step one: 22 + 11 = 33\n\\boxed{33}", [(False, False)]),
    ("Step 1: " + "9" * 5000 + " + 1 = 2", [(False, False)]),
    ("\\boxed{33}", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), STEP_TABLE)
def test_step_checker(text: str, expected: list[tuple[bool, bool]]) -> None:
    checks = generator.check_steps("Q: 22 red bags and 11 blue bags with 9 pens each.", text)
    assert [(check.arithmetic, check.available) for check in checks] == expected


PARSE_TABLE = [
    ("Step 1: 2 + 3 = 5\n\\boxed{5}", 5),
    ("Step 1: 2 + 3 = 5\n\\boxed{6}", 6),
    ("Step 2: 2 + 3 = 5\n\\boxed{5}", None),
    ("Step 1: 2 + 3 = 5", None),
    ("\\boxed{5}", None),
    ("Step 1: 2 + 3 = 5\n\\boxed{5}\n", None),
    ("Step 1: 2 + 3 = 5 <|end|>\n\\boxed{5}", None),
    ("You are Agent 1.\n\\boxed{5}", None),
]


@pytest.mark.parametrize(("text", "expected"), PARSE_TABLE)
def test_only_well_formed_solutions_parse(text: str, expected: int | None) -> None:
    assert generator.parse_solution(text) == expected


def test_corruptions_are_well_formed_and_wrong() -> None:
    rng = random.Random(2)
    for _ in range(500):
        spec = generator.draw(rng, "train")
        answer = generator.parse_solution(wrong_solution(spec, rng))
        assert answer is not None and answer != generator.parse_solution(generator.solutions(spec)[0])


def test_debate_targets_are_always_correct_paths_and_mostly_copied() -> None:
    rng = random.Random(3)
    copied = 0
    for _ in range(300):
        sample = debate(rng, [])
        asked = sample.prompt[0]["content"].split("\n")[0]
        assert all(check.arithmetic and check.available for check in generator.check_steps(asked, sample.completion))
        assert all(text in sample.prompt[0]["content"] for text, _ in sample.learn)
        copied += sample.completion in sample.prompt[0]["content"]
    assert copied > 150


def test_synthetic_peers_hold_right_wrong_and_missing_solutions() -> None:
    rng = random.Random(4)
    spec = generator.draw(rng, "train")
    texts = [text for _ in range(60) for text in synthetic_texts(spec, 5, rng)]
    paths = set(generator.solutions(spec))
    assert None in texts and paths & set(texts) and {t for t in texts if t} - paths


def test_drills_hold_true_equations() -> None:
    for seed in range(50):
        checks = generator.check_steps("", drill(random.Random(seed)).completion)
        assert len(checks) == 9 and all(check.arithmetic for check in checks)


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, agentark_core.arkling.generator, agentark_core.arkling.formats, agentark_core.arkling.pretrain\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'tokenizers', 'prefect', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "floor"), [("teacher", 0.45), ("student", 0.05)])
def test_shipped_models_load_in_transformers_and_beat_a_floor(name: str, floor: float) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from agentark_core.arkling.pretrain import accuracy

    path = model_path(name)  # type: ignore[arg-type]
    assert not [file.name for file in path.iterdir() if file.suffix not in (".json", ".safetensors")]
    assert sum(file.stat().st_size for file in path.iterdir()) < 4_000_000
    record = json.loads((path / "training_record.json").read_text())
    net = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    assert net.num_parameters() == record["parameters"]
    assert record["generator_version"] == generator.GENERATOR_VERSION
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert accuracy(net, tokenizer, split="test", count=20)["accuracy"] >= floor


def pretrain_tiny(out: Path, **changes: object) -> dict[str, object]:
    from agentark_core.arkling.pretrain import pretrain

    arguments = {"model": "student", "out": out, "tokens": 250_000, "seed": 0, "num_validation": 0, **changes}
    return pretrain(**arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_interrupted_pretraining_continues_lowers_the_loss_and_writes_a_loadable_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    from agentark_core.arkling import pretrain as module

    monkeypatch.setattr(module, "CHECKPOINT_S", 0.0)
    calls = 0
    real = module.pool_rows

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "pool_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain_tiny(tmp_path)
    with pytest.raises(ConfigError, match="repeat these arguments"):
        pretrain_tiny(tmp_path, seed=1)
    record = pretrain_tiny(tmp_path)
    assert calls == 3
    assert isinstance(record["trained_tokens"], int) and record["trained_tokens"] >= 250_000
    curve = record["loss_curve"]
    assert isinstance(curve, list) and curve[-1][1] < 0.6 * curve[0][1]
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() == record["parameters"]
    assert not (tmp_path / "checkpoint.pt").exists()
