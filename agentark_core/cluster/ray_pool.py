"""Engine actors on a Ray cluster: each owns one vLLM engine and debates the shards it is given.

A dead actor (kill -9, out of memory, dead EngineCore) is restarted by Ray and its shards are submitted again; the
journal makes that cheap. An actor takes two shards at a time, so that the tail of one never empties the batch. The
pull queue is a queue of engine slots: whoever is free takes the next shard, and which shards are left is read from the
manifest, never kept here.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentark_core import model_files
from agentark_core.cluster.ray_cluster import connect
from agentark_core.config import EngineConfig, ModelConfig, SamplingConfig
from agentark_core.dispatcher import Caps, Dispatcher
from agentark_core.engines.opening import open_engine
from agentark_core.errors import AgentArkError, ConfigError, EngineError
from agentark_core.judging import GoOnJob, JudgeJob, SelectJob, run_go_on, run_judge, run_select
from agentark_core.rollouts import Solutions
from agentark_core.selector import Picked
from agentark_core.shards import ShardJob, run_shard
from agentark_core.types import Verdict

SHARDS_PER_ENGINE = 2

RESERVE_TIMEOUT_S, RESERVE_EMBEDDED_S = 120, 10
"""A cluster may be busy, or grow on demand; the embedded one is what it is."""

ASK_AGAIN_S = 5.0


class DebateActor:
    """The class behind the Ray actor. Its methods are coroutines on one event loop."""

    def __init__(self, home: str, *, model: dict[str, Any], engine: dict[str, Any], pool: str, number: int) -> None:
        """number: of this engine in its pool, from 0."""
        self._home = Path(home)
        self._pool, self._number = pool, number
        self._model = ModelConfig.model_validate(model)
        self._config = EngineConfig.model_validate(engine)
        self._dispatcher: Dispatcher | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stop_reason = ""
        self._starting = asyncio.Lock()

    async def pid(self) -> int:
        """Process id of the actor (tests kill it)."""
        return os.getpid()

    async def run(self, job: ShardJob) -> dict[str, Any]:
        """Debate one shard; see shards.run_shard."""
        dispatcher = await self._started()
        self._check_room(job.plan.config.sampling, dispatcher, of="debate")
        return await run_shard(job, dispatcher=dispatcher, caps=self._caps())

    async def judge(self, job: JudgeJob) -> list[Verdict]:
        """Judge the undecided cases of one shard; see judging.run_judge."""
        return await run_judge(job, dispatcher=await self._started())

    async def select(self, job: SelectJob) -> list[Picked]:
        """Select traces in one shard; see judging.run_select."""
        return await run_select(job, dispatcher=await self._started())

    async def go_on(self, job: GoOnJob) -> list[Solutions]:
        """Sample from the steps of one shard; see judging.run_go_on."""
        dispatcher = await self._started()
        self._check_room(job.sampling, dispatcher, of="examples.rollouts")
        return await run_go_on(job, dispatcher=dispatcher, caps=self._caps())

    def _check_room(self, sampling: SamplingConfig, dispatcher: Dispatcher, *, of: str) -> None:
        context = dispatcher.engine.max_model_len
        if sampling.max_tokens >= context:
            raise ConfigError(
                f"{of}.sampling.max_tokens {sampling.max_tokens} leaves no room for a prompt in the context of "
                f"{context} tokens of {self._model.path}; lower it or raise max_model_len"
            )

    def _caps(self) -> Caps:
        return Caps(
            max_tokens=self._config.max_tokens_total,
            max_engine_seconds=self._config.max_engine_hours * 3600,
            num_engines=self._config.num_engines,
            pool=self._pool,
            engine=self._number,
        )

    async def _started(self) -> Dispatcher:
        """The engine behind its dispatcher, started by whoever asks first."""
        async with self._starting:
            if self._dispatcher is None:
                config = self._config
                self._dispatcher = Dispatcher(
                    open_engine(self._model, self._config, home=self._home),
                    slots=config.max_num_seqs,
                    stall_timeout_s=config.stall_timeout_s,
                    die=_end_process,
                )
                self._watch = asyncio.create_task(self._dispatcher.watch())
                self._watch.add_done_callback(_watch_ended)
                if self._stop_reason:
                    self._dispatcher.stop(self._stop_reason)
            return self._dispatcher

    async def stop(self, reason: str) -> None:
        """End the shards in order: nothing new begins, requests in the engine may finish."""
        self._stop_reason = reason
        if self._dispatcher is not None:
            self._dispatcher.stop(reason)


def _end_process(reason: str) -> None:
    """Leave at once, engine and all: Ray starts a new actor and submits its shards again."""
    import psutil

    print(f"engine restarted: {reason}", file=sys.stderr, flush=True)
    for child in psutil.Process().children(recursive=True):
        child.kill()  # a stopped or hanging engine does not notice that its owner is gone
    os._exit(1)


def _watch_ended(watch: asyncio.Task[None]) -> None:
    """Without its watchdog an engine would not be trusted; Ray starts a new one."""
    if not watch.cancelled():
        _end_process(f"the watchdog failed: {watch.exception()!r}")


class EnginePool:
    """Engines of one model. `start` them in a thread that stays (see `connect`); `run` blocks, call it from several
    threads."""

    def __init__(self, *, model: ModelConfig, engine: EngineConfig, home: Path) -> None:
        """home: where recorded generations are found (kind replay)."""
        self._home = home
        self._name = uuid.uuid4().hex[:8]
        self._model = model
        self._engine = engine
        self._actors: list[Any] = []
        self._group: Any = None
        self._free: queue.Queue[Any] = queue.Queue()
        """Engine slots; None once no engine is left."""
        self._slots_left = 0
        self._last_words = ""
        self._losing = threading.Lock()

    def start(self) -> None:
        """Create the actors if there are none yet. Their engines load the model with their first shard."""
        connect()
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if self._actors:
            return
        self._group = self._reserve()
        remote = ray.remote(DebateActor).options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=self._group),
            num_cpus=self._engine.num_cpus,
            num_gpus=self._engine.num_gpus,
            max_restarts=self._engine.max_restarts,
            max_task_retries=self._engine.max_restarts,
            max_concurrency=SHARDS_PER_ENGINE + 3,
        )
        model, engine = self._model.model_dump(), self._engine.model_dump()
        self._actors = [
            remote.remote(str(self._home), model=model, engine=engine, pool=self._name, number=number)
            for number in range(self._engine.num_engines)
        ]
        self._slots_left = len(self._actors) * SHARDS_PER_ENGINE
        for actor in self._actors * SHARDS_PER_ENGINE:
            self._free.put(actor)

    def _reserve(self) -> Any:
        """A placement group with one bundle an engine: all GPUs of a tensor-parallel engine on one node, all engines or
        none. Raises EngineError if the cluster does not have them."""
        import ray

        engine = self._engine
        bundle = {name: amount for name, amount in (("CPU", engine.num_cpus), ("GPU", engine.num_gpus)) if amount} or {
            "CPU": 0.001
        }
        group = ray.util.placement_group([bundle] * engine.num_engines, strategy="PACK")
        patience_s = RESERVE_TIMEOUT_S if os.environ.get("RAY_ADDRESS") else RESERVE_EMBEDDED_S
        if not group.wait(timeout_seconds=patience_s):
            ray.util.remove_placement_group(group)
            free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")}
            raise EngineError(
                f"engine: {engine.num_engines} engines of {bundle} did not fit the cluster within "
                f"{patience_s} s (free: {free or 'nothing'}); lower engine.num_engines, num_cpus or num_gpus, "
                "or add nodes"
            )
        return group

    def pids(self) -> list[int]:
        """Process ids of the actors."""
        import ray

        return [int(ray.get(actor.pid.remote())) for actor in self._actors]

    def run(self, job: ShardJob) -> dict[str, Any]:
        """Debate one shard on the next free engine; returns the shard's meta."""
        return dict(self._on_free_engine("run", job, shard=job.shard))

    def judge(self, job: JudgeJob) -> list[Verdict]:
        """Judge the undecided cases of one shard on the next free engine."""
        return list(self._on_free_engine("judge", job, shard=job.root.name))

    def select(self, job: SelectJob) -> list[Picked]:
        """Select traces in one shard on the next free engine."""
        return list(self._on_free_engine("select", job, shard=job.root.name))

    def go_on(self, job: GoOnJob) -> list[Solutions]:
        """Sample from the steps of one shard on the next free engine."""
        return list(self._on_free_engine("go_on", job, shard=job.root.name))

    def _on_free_engine(self, method: str, job: ShardJob | JudgeJob | SelectJob | GoOnJob, *, shard: str) -> Any:
        import ray

        while (actor := self._free.get()) is not None:
            try:
                done = ray.get(getattr(actor, method).remote(job))
            except ray.exceptions.RayTaskError as error:
                self._free.put(actor)
                cause = error.cause
                raise cause if isinstance(cause, AgentArkError) else error from None
            except ray.exceptions.RayActorError as error:
                self._lost(actor, str(error).splitlines()[0][:200])
            else:
                self._free.put(actor)
                return done
        self._free.put(None)  # for the next one who waits
        raise EngineError(
            f"shard {shard}: every engine actor died more often than engine.max_restarts allows; what they "
            f"finished is journaled, start the run again to go on ({self._last_words})"
        )

    def _lost(self, actor: Any, words: str) -> None:
        """One slot of an engine that Ray does not restart any more. The shard goes to another one, if there is one."""
        with self._losing:
            self._last_words = words
            self._slots_left -= 1
            if self._slots_left == 0:
                self._free.put(None)

    def close(self) -> None:
        """End the actors and their engines, and give their memory back."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
        if self._actors:
            ray.util.remove_placement_group(self._group)
        self._actors = []

    def stop(self, reason: str) -> None:
        """Ask all engines to end in order; their shards then raise Stopped. Returns at once, and goes on asking until
        the pool is closed: an engine that dies meanwhile is restarted and knows nothing of it."""
        threading.Thread(target=self._keep_asking, args=(reason,), name="stop-engines", daemon=True).start()

    def _keep_asking(self, reason: str) -> None:
        while self._actors:
            for actor in self._actors:
                actor.stop.remote(reason)
            time.sleep(ASK_AGAIN_S)


_open_pools: dict[tuple[str, str, str], EnginePool] = {}


@contextmanager
def engine_pool(*, model: ModelConfig, engine: EngineConfig, home: Path) -> Iterator[EnginePool]:
    """An EnginePool that is closed on exit. Inside the block, the same model and settings give the same pool again,
    so that a pipeline can keep a teacher's engines from one stage to the next."""
    model_files.source(model, engine)  # a missing or unsafe model is an error here, before any process starts
    key = (str(home), model.model_dump_json(), engine.model_dump_json())
    if key in _open_pools:
        yield _open_pools[key]
        return
    pool = _open_pools[key] = EnginePool(model=model, engine=engine, home=home)
    try:
        yield pool
    finally:
        del _open_pools[key]
        pool.close()
