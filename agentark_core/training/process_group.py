"""A training process: its place in the group, its threads, and its command line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentark_core.errors import AgentArkError, ConfigError


def join_group() -> None:
    """Fill in the environment of a group of one where no launcher did."""
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in alone.items()})


def prepare(*, cpus: float) -> bool:
    """Set the threads of this process and DeepSpeed's accelerator; return whether there is a GPU. Loads torch."""
    threads = max(1, int(cpus))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else accelerate chooses for itself
    import torch

    on_gpu = bool(torch.cuda.is_available())
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    if not on_gpu:
        torch.set_num_threads(threads)
        _skip_shared_memory_op()
    return on_gpu


def _leave_group() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_initialized():
        distributed.destroy_process_group()


def _skip_shared_memory_op() -> None:
    """Leave CPU collectives to gloo: DeepSpeed would compile an op of its own at first use (35 s, needs a compiler)."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def main(train: Callable[[dict[str, Any]], dict[str, Any]], *, prog: str, does: str) -> int:
    """Command line of an entry point: train(resolved) on the file named by --config; returns the exit code."""
    parser = argparse.ArgumentParser(prog=prog, description=f"{does}, alone or under torchrun / deepspeed.")
    parser.add_argument("--config", type=Path, required=True, help="resolved.json; its keys are in the module's text")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        try:
            resolved = json.loads(arguments.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{arguments.config}: not readable as JSON: {error}") from None
        result = train(resolved)
    except AgentArkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        _leave_group()
    if os.environ["RANK"] == "0":
        print(json.dumps(result))
    return 0
