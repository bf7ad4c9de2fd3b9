"""`grpo_engine_run.py CONFIG SKIPPED`: GRPO that samples with a real vLLM on the CPU; one weight sync is left out.

SKIPPED: which, from 1. TRL writes into vLLM's layers, which on a CPU are packed when they are loaded; so the sync
goes through vLLM's own reload instead.
"""

from __future__ import annotations

import os
import sys
from functools import partial

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}

from agentark_core.training import group, grpo

group.prepare(cpus=1)

from trl.generation import vllm_generation  # noqa: E402


def main(config: str, skipped: int) -> int:
    syncs = 0

    def sync(engine: vllm_generation.VLLMGeneration) -> None:
        nonlocal syncs
        syncs += 1
        if syncs != skipped:
            weights = list(engine._iter_named_params())
            engine.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
            engine.llm.reset_prefix_cache()

    vllm_generation.VLLMGeneration.sync_weights = sync
    vllm_generation.LLM = partial(vllm_generation.LLM, enforce_eager=True)  # nothing to compile
    return grpo.main(["--config", config])


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # not held up by the engine's threads
