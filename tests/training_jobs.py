"""The three training jobs, each tiny, for tests of what they share; and real processes that run them.

Processes are forked from a server that has imported everything (multiprocessing's forkserver): killing many is cheap.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import grpo_helpers
import prm_helpers
import sft_helpers
import tiny_models
from conftest import REPOSITORY, free_port

LIMIT_S = 240
"""A process that lives longer hangs: it ends with the stack of each thread in its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training job on its test data. section: of the config, and module of agentark_core.training; stage: folder of
    the output that its first checkpoints lie in."""

    section: str
    data: Path
    base: Path
    stage: str = ""

    def resolved(self, output: Path, *, base: Path | None = None, **settings: Any) -> dict[str, Any]:
        """Its resolved config, writable as JSON."""
        base = base or self.base
        if self.section == "sft":
            return sft_helpers.resolved(base, self.data, output, **settings)
        helpers = {"prm": prm_helpers, "grpo": grpo_helpers}[self.section]
        return helpers.resolved(self.data, output, base=base, **settings)

    @property
    def module(self) -> Any:
        """Its entry point: `train`, `main`."""
        return import_module(f"agentark_core.training.{self.section}")

    def plan(self, resolved: dict[str, Any], *, world_size: int) -> Any:
        """Its checked plan."""
        return import_module(f"agentark_core.training.{self.section}_plan").plan(resolved, world_size=world_size)

    def checkpoints(self, output: Path) -> Path:
        """Where its first checkpoints lie."""
        return output / self.stage / "checkpoints"

    def metrics(self, output: Path) -> list[dict[str, Any]]:
        """The rows of every step, of all stages."""
        logs = sorted(output.glob("**/metrics.jsonl"))
        return [json.loads(line) for log in logs for line in log.read_text().splitlines()]

    def final(self, result: dict[str, Any]) -> dict[str, Any]:
        """The figures of a result that no interruption may change, by name; losses and rewards among them."""
        parts = result.get("stages", {"": result})
        names = ("steps", "tokens", "final_loss", "final_reward")
        return {f"{part} {name}": row[name] for part, row in parts.items() for name in names if name in row}


def make(section: str, folder: Path) -> Job:
    """Write the test data of a job into folder."""
    match section:
        case "sft":
            base = tiny_models.make("qwen3", folder / "base")
            return Job(section=section, base=base, data=sft_helpers.write_examples(folder / "examples.parquet"))
        case "prm":
            data = prm_helpers.write_process(folder / "process.parquet")
            return Job(section=section, base=prm_helpers.STUDENT, data=data, stage="stage1")
        case _:
            data = grpo_helpers.write_prompts(folder / "prompts.parquet", number=20)
            return Job(section="grpo", base=prm_helpers.STUDENT, data=data)


def start_group(job: Job, resolved: dict[str, Any], *, log: Path, nodes: int = 1, **of_first: Any) -> list[Process]:
    """Two ranks, on one node or one each on two. of_first: arguments of rank 0's process."""
    port = free_port()
    return [
        Process(
            job, resolved, log=log, rank=rank, world_size=2, nodes=nodes, port=port, **(of_first if not rank else {})
        )
        for rank in range(2)
    ]


class Process:
    """One training process (or one rank of a group) that runs a resolved config through its command line.

    die_in: (save, call): it kills itself with SIGKILL at that call within that save, both counted from 0. nan_in: the
    backward pass, from 0, in which the gradient of one weight becomes NaN.
    """

    def __init__(
        self,
        job: Job,
        resolved: dict[str, Any],
        *,
        log: Path,
        rank: int = 0,
        world_size: int = 1,
        nodes: int = 1,
        port: int | None = None,
        die_in: tuple[int, int] | None = None,
        nan_in: int | None = None,
    ) -> None:
        self.log = log.with_suffix(f".{rank}.log")
        config = log.with_suffix(f".{rank}.json")
        config.write_text(json.dumps(resolved))
        local = {"LOCAL_RANK": rank // nodes, "LOCAL_WORLD_SIZE": world_size // nodes}
        names = {"RANK": rank, "WORLD_SIZE": world_size, **local}
        group = {**names, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port or free_port()}
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["warm_training"])
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        with environment(PYTHONPATH=paths):  # the server starts with the first process
            self._process = context.Process(
                target=_run,
                args=(job.section, str(config), str(self.log), {k: str(v) for k, v in group.items()}, die_in, nan_in),
            )
            self._process.start()

    def wait(self) -> int:
        """Exit code, or minus the signal."""
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        return code

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.join()

    @property
    def output(self) -> str:
        """What it printed."""
        return self.log.read_text()

    def result(self) -> dict[str, Any]:
        """Its result, after it ended well."""
        assert self.wait() == 0, self.output[-4000:]
        result: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return result


@contextlib.contextmanager
def environment(**changes: str) -> Any:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    yield
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


def calls_in_saves(log: Path) -> list[int]:
    """How many calls each save of a process took, in order (of a rank that wrote this log)."""
    return [int(line) for line in log.with_suffix(".saves").read_text().split()]


def _run(
    section: str, config: str, log: str, group: dict[str, str], die_in: tuple[int, int] | None, nan_in: int | None
) -> None:
    os.environ.update(group)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    _count_saves(Path(log).with_suffix(".saves"), die_in=die_in)
    if nan_in is not None:
        _spoil_gradient(nan_in)
    sys.exit(import_module(f"agentark_core.training.{section}").main(["--config", config]))


def _count_saves(record: Path, *, die_in: tuple[int, int] | None) -> None:
    """Count the calls (Python's and C's) inside every checkpoint and every publication, one line each in record."""
    from agentark_core.training import group, guarded, prm

    saves = calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if die_in and saves == die_in[0] and calls > die_in[1]:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(save: Callable[..., Any]) -> Callable[..., Any]:
        def within(*args: Any, **kwargs: Any) -> Any:
            nonlocal saves, calls
            calls = 0
            sys.setprofile(count)
            try:
                return save(*args, **kwargs)
            finally:
                sys.setprofile(None)
                saves += 1
                with record.open("a") as lines:
                    lines.write(f"{calls}\n")

        return within

    record.unlink(missing_ok=True)
    guarded.Guarded._save_checkpoint = counted(guarded.Guarded._save_checkpoint)  # type: ignore[method-assign]
    group.publish = counted(group.publish)
    prm._publish = counted(prm._publish)


def _spoil_gradient(backward: int) -> None:
    """In that backward pass one number of the last weight's gradient is NaN; losses are what they are."""
    from transformers import Trainer

    step, passes = Trainer.training_step, 0

    def spoilt(grad: Any) -> Any:
        grad = grad.clone()
        grad.view(-1)[0] = float("nan")
        return grad

    def training_step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes != backward + 1:
            return step(trainer, model, *args, **kwargs)
        hook = [weight for weight in model.parameters() if weight.requires_grad][-1].register_hook(spoilt)
        try:
            return step(trainer, model, *args, **kwargs)
        finally:
            hook.remove()

    Trainer.training_step = training_step
