"""Caps, suspects, poison, the watchdog and the counters, with a scripted engine behind a real ledger."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import enlarge
from scripted import Scripted, boxed

from agentark_core import usage
from agentark_core.config import DebateConfig, SamplingConfig
from agentark_core.discussion import Plan
from agentark_core.dispatcher import Caps, Dispatcher, Run
from agentark_core.engines.base import Prompt, Request
from agentark_core.errors import EngineDied, NoAnswers, Stopped, StorageFull
from agentark_core.ledger import Store
from agentark_core.shards import ShardJob, run_shard
from agentark_core.stored import read_debates
from agentark_core.types import Generation, Message, Problem

MAX_TOKENS = 40


class Engine(Scripted):
    """Many questions: (round, agent) comes with the question's number, and so does what the engine does."""

    def __init__(self, act: Callable[[str, int, int], str] = lambda question, round, agent: boxed(42)) -> None:
        super().__init__(lambda round, agent: "")
        self.act = act
        self.now: set[str] = set()
        self.watched: set[str] = set()
        self.together = self.suspects_together = 0
        self.asked: list[str] = []

    def prompt(self, messages: list[Message]) -> Prompt:
        return Prompt(messages=tuple(messages), token_ids=None, length=10)

    async def generate(self, request: Request) -> Generation:
        self.asked.append(request.problem_id)
        self.now.add(request.request_id)
        self.together = max(self.together, len(self.now))
        self.suspects_together = max(self.suspects_together, len(self.now & self.watched))
        try:
            await asyncio.sleep(0.001)
            text = self.act(request.problem_id, request.round, request.agent)
        finally:
            self.now.discard(request.request_id)
        return Generation(text=text, prompt_tokens=10, cached_tokens=4, completion_tokens=5, finish_reason="stop")


class Died(BaseException):
    """Stands for the end of the process."""


def die(reason: str) -> None:
    raise Died(reason)


def job(home: Path, *, questions: int = 20, shard: str = "00000", **debate: Any) -> ShardJob:
    Store(home, stage="debates", fingerprint="f", config={"problems": "p"})
    config = {"num_agents": 2, "num_rounds": 2, "quorum": 0, "summariser": "never", **debate}
    config["sampling"] = SamplingConfig(max_tokens=MAX_TOKENS)
    problems = tuple(
        Problem(problem_id=f"{shard}-{n}", dataset="d", task="number", question=f"q{n}", gold="42")
        for n in range(questions)
    )
    return ShardJob(
        home=home,
        fingerprint="f",
        shard=shard,
        problems=problems,
        plan=Plan(config=DebateConfig.model_validate(config), wording="general", base_seed=0),
        dataset_revision="d",
        teacher_revision="t",
        prompt_hash="p",
        config_hash="c",
        lease_timeout_s=5,
    )


NO_CAPS = Caps()


def start(
    engine: Engine, shard: ShardJob, *, slots: int = 8, caps: Caps = NO_CAPS, stall_s: float = 60
) -> dict[str, Any]:
    """One life of an engine actor."""

    async def life() -> dict[str, Any]:
        dispatcher = Dispatcher(engine, slots=slots, stall_timeout_s=stall_s, die=die)
        watch = asyncio.create_task(dispatcher.watch())
        work = asyncio.create_task(run_shard(shard, dispatcher=dispatcher, caps=caps))
        done, _ = await asyncio.wait({watch, work}, return_when=asyncio.FIRST_COMPLETED)
        watch.cancel()
        work.cancel()
        return dict(done.pop().result())

    return asyncio.run(life())


def test_a_full_disk_stops_the_shard_and_it_goes_on_from_its_journal_when_space_returns(small_disk: Path) -> None:
    """F10 above the ledger: nothing new is asked, nothing is half-committed, and only what was in flight is redone."""
    engine = Engine(lambda question, round, agent: f"{os.urandom(40_000).hex()} \\boxed{{42}}")
    shard = job(small_disk)
    with pytest.raises(StorageFull, match=r"00000\.1\.journal.* \d+ bytes needed"):
        start(engine, shard)
    first = len(engine.asked)
    assert first < 20 * 4, "most questions were not asked for"
    store = Store(small_disk, stage="debates", fingerprint="f")
    assert not store.entries()
    enlarge(small_disk)
    start(engine, shard)
    (entry,) = store.entries().values()
    assert entry.meta["replayed_turns"] > 0
    assert len(engine.asked) == first + 20 * 4 - entry.meta["replayed_turns"]
    keys = [(row["work_id"], row["round"], row["agent"]) for row in store.read().to_pylist()]
    assert len(keys) == len(set(keys)) == 20 * 4


def usages(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((home / "ledger/debates-f/usage").glob("*.json"))]


def test_token_cap_is_never_exceeded_over_all_starts_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    cap, spent = 400, []  # a turn uses 15 tokens and reserves 50; 80 turns need 1,200
    for _ in range(3):
        with pytest.raises(Stopped, match="engine.max_tokens_total is reached after .*start the same run again"):
            start(Engine(), job(tmp_path), caps=Caps(max_tokens=cap))
        spent.append(usage.spent(tmp_path / "ledger/debates-f")[0])
    assert cap - 50 <= spent[0] <= spent[-1] <= cap, "near the cap requests wait for what others give back"
    meta = start(Engine(), job(tmp_path), caps=Caps(max_tokens=10_000))
    assert meta["turns"] == 80 and meta["replayed_turns"] == spent[-1] // 15
    assert usage.spent(tmp_path / "ledger/debates-f")[0] == 80 * 15, "nothing was generated twice"


def test_engines_share_the_cap(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        start(Engine(), job(tmp_path), caps=Caps(max_tokens=400, num_engines=2))
    assert usage.spent(tmp_path / "ledger/debates-f")[0] <= 200


def test_engine_hours_cap_ends_in_order(tmp_path: Path) -> None:
    start(Engine(), job(tmp_path, questions=2))
    (path,) = (tmp_path / "ledger/debates-f/usage").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "engine_seconds": 7200.0}))
    with pytest.raises(Stopped, match="engine.max_engine_hours"):
        start(Engine(), job(tmp_path, shard="00001"), caps=Caps(max_engine_seconds=3600))


def poison(bad: str) -> Callable[[str, int, int], str]:
    def act(question: str, round: int, agent: int) -> str:
        if question == bad and (round, agent) == (1, 2):
            raise EngineDied("boom")
        return boxed(42)

    return act


def test_a_prompt_in_flight_at_two_deaths_is_quarantined_and_all_others_are_not(tmp_path: Path) -> None:
    deaths = 0
    while True:
        engine = Engine(poison("00000-3"))
        try:
            meta = start(engine, job(tmp_path))
            break
        except Died:
            deaths += 1
            assert deaths <= 2
    assert deaths == 2
    assert meta["statuses"] == {"engine_poison": 1, "ok": 79}
    debates = {debate.problem.problem_id: debate for debate in _debates(tmp_path)}
    assert [t.status for t in debates["00000-3"].turns] == ["ok", "engine_poison", "ok", "ok"]


def _debates(home: Path) -> list[Any]:
    from agentark_core import records

    problems = Store(home, stage="problems", fingerprint="p", config={})
    with problems.lease("00000", timeout_s=5) as lease:
        table = records.problems_to_table(job(home).problems)
        problems.commit("00000", table, lease=lease, config_hash="p")
    return list(read_debates(home, fingerprint="f"))


def test_suspects_go_one_at_a_time_beside_the_others(tmp_path: Path) -> None:
    with pytest.raises(Died):
        start(Engine(poison("00000-0")), job(tmp_path), slots=12)
    record = json.loads((tmp_path / "ledger/debates-f/engine_deaths.jsonl").read_text())
    suspects = {f"{work_id}-{round}-{agent}" for work_id, round, agent in record["in_flight"]}
    engine = Engine()
    engine.watched = suspects
    start(engine, job(tmp_path), slots=12)
    assert len(suspects) > 4 and engine.suspects_together == 1 and engine.together > 4


def test_an_engine_without_tokens_is_taken_for_dead_and_its_requests_are_recorded(tmp_path: Path) -> None:
    class Hanging(Engine):
        async def generate(self, request: Request) -> Generation:
            if request.problem_id == "00000-1":
                await asyncio.sleep(3600)
            return await super().generate(request)

    with pytest.raises(Died, match="no token for"):
        start(Hanging(), job(tmp_path, questions=3), stall_s=1.5)
    deaths = (tmp_path / "ledger/debates-f/engine_deaths.jsonl").read_text()
    assert json.loads(deaths)["in_flight"] and "engine.stall_timeout_s" in deaths
    meta = start(Engine(), job(tmp_path, questions=3))
    assert meta["questions"] == 3 and meta["replayed_turns"] > 0


def test_half_of_the_first_200_questions_without_an_answer_stop_the_run_and_show_samples(tmp_path: Path) -> None:
    def mostly_silent(question: str, round: int, agent: int) -> str:
        return boxed(42) if int(question.split("-")[1]) % 5 == 0 else "I wonder"

    shard = job(tmp_path, questions=260, num_agents=1, num_rounds=1)
    with pytest.raises(NoAnswers, match=r"160 of the first 200 .*max_tokens.*I wonder.*\|.*I wonder"):
        start(Engine(mostly_silent), shard)
    # 120 of 260 without an answer is a hard data set, not a broken run.
    fewer = job(tmp_path, questions=260, shard="00001", num_agents=1, num_rounds=1)
    meta = start(Engine(lambda q, r, a: boxed(42) if int(q.split("-")[1]) % 2 else "I wonder"), fewer)
    assert meta["statuses"] == {"no_answer": 130, "ok": 130}


def test_usage_counts_what_was_generated_and_how_right_it_was(tmp_path: Path) -> None:
    def improving(question: str, round: int, agent: int) -> str:
        return boxed(42 if round == 2 or agent == 1 else 7)

    start(Engine(improving), job(tmp_path, questions=6))
    (one,) = usages(tmp_path)
    assert one["rounds"] == {
        str(number): {"turns": 12, "prompt_tokens": 120, "cached_tokens": 48, "completion_tokens": 60}
        for number in (1, 2)
    }
    assert (one["questions"], one["answered"], one["correct"]) == (6, 6, 6)
    assert one["flips"] == {"2": {"to_right": 6, "to_wrong": 0}}
    assert one["stop_reasons"] == {"rounds": 6} and one["ended"]


def test_what_consensus_saved_is_counted(tmp_path: Path) -> None:
    meta = start(Engine(), job(tmp_path, questions=3, quorum=1.0, num_rounds=4))
    assert meta["stop_reasons"] == {"consensus": 3}
    assert (meta["saved_turns"], meta["saved_tokens"]) == (3 * 3 * 2, 3 * 3 * 2 * 5)


def test_a_stop_lets_requests_finish_and_loses_none_of_them(tmp_path: Path) -> None:
    engine = Engine()

    async def life() -> None:
        dispatcher = Dispatcher(engine, slots=4, stall_timeout_s=60, die=die)
        work = asyncio.create_task(run_shard(job(tmp_path), dispatcher=dispatcher, caps=Caps()))
        while len(engine.asked) < 20:
            await asyncio.sleep(0.0005)
        dispatcher.stop("SIGTERM: resumable")
        with pytest.raises(Stopped, match="resumable"):
            await work

    asyncio.run(life())
    made = len(engine.asked)
    rest = Engine()
    meta = start(rest, job(tmp_path))
    assert meta["replayed_turns"] == made and made + len(rest.asked) == 80


def test_caps_stay_hard_when_one_of_two_engines_is_restarted(tmp_path: Path) -> None:
    def spend(engine: int, tokens: int) -> None:
        generation = Generation(
            text="", prompt_tokens=tokens, cached_tokens=0, completion_tokens=0, finish_reason="stop"
        )
        run = Run(tmp_path, Caps(max_tokens=1000, num_engines=2, pool="p", engine=engine))
        assert run.tokens_left is not None and run.tokens_left >= tokens
        run.usage.add_generation(generation, round=1)
        run.usage.save(run.usage.snapshot())

    before = usage.Usage(tmp_path, owner="earlier-0-")
    before.add_generation(
        Generation(text="", prompt_tokens=100, cached_tokens=0, completion_tokens=0, finish_reason="stop"), round=1
    )
    before.save(before.snapshot())
    spend(0, 400)
    spend(1, 50)
    assert Caps(max_tokens=1000, num_engines=2, pool="p", engine=0).shares(tmp_path)[0] == 50, "its own half, less 400"
    assert Caps(max_tokens=1000, num_engines=2, pool="p", engine=1).shares(tmp_path)[0] == 400
    assert Caps(max_tokens=1000, num_engines=2, pool="next").shares(tmp_path)[0] == (1000 - 550) // 2


def test_the_watch_goes_on_when_usage_cannot_be_written_and_runs_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentark_core.dispatcher.TICK_S", 0.01)
    saves = 0

    def save(self: usage.Usage, snapshot: dict[str, Any]) -> None:
        nonlocal saves
        saves += 1
        time.sleep(0.02)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(usage.Usage, "save", save)

    async def life() -> None:
        dispatcher = Dispatcher(Engine(), slots=8, stall_timeout_s=60, die=die)
        watch = asyncio.create_task(dispatcher.watch())
        for number in range(20):
            dispatcher.run(tmp_path / str(number), Caps()).usage.running = 1
            await asyncio.sleep(0.01)
        assert not watch.done() and saves > 2
        watch.cancel()

    asyncio.run(life())


def test_an_older_usage_snapshot_never_replaces_a_newer_one(tmp_path: Path) -> None:
    counts = usage.Usage(tmp_path)
    older, newer = counts.snapshot(), counts.snapshot(ended=True)
    counts.save(newer)
    counts.save(older)
    (path,) = usage.usage_folder(tmp_path).glob("*.json")
    assert json.loads(path.read_bytes())["ended"]


def test_three_shards_keep_the_batch_full_though_lengths_vary(tmp_path: Path) -> None:
    """Two shards at a time, as an actor takes them; log-normal lengths; the counters that a run writes."""

    class Slow(Engine):
        async def generate(self, request: Request) -> Generation:
            self.asked.append(request.problem_id)
            await asyncio.sleep(0.03 * random.Random(request.request_id).lognormvariate(0, 0.5))
            return Generation(
                text=boxed(42), prompt_tokens=10, cached_tokens=4, completion_tokens=5, finish_reason="stop"
            )

    async def life() -> None:
        dispatcher = Dispatcher(Slow(), slots=32, stall_timeout_s=60, die=die)
        watch = asyncio.create_task(dispatcher.watch())
        free = asyncio.Semaphore(2)

        async def work(number: int) -> None:
            async with free:
                shard = job(tmp_path, questions=100, shard=f"{number:05d}", num_agents=5, num_rounds=3)
                await run_shard(shard, dispatcher=dispatcher, caps=NO_CAPS)

        await asyncio.gather(*(work(number) for number in range(3)))
        watch.cancel()
        admission = dispatcher.admission
        assert admission.slot_seconds > 32 * 0.5, "most of the run had questions waiting"
        assert admission.busy_slot_seconds / admission.slot_seconds >= 0.95

    asyncio.run(life())
