"""vLLM's `AsyncLLM` behind the `Engine` protocol, on CPU and GPU alike.

vLLM runs its EngineCore in a child process. That child must not outlive a killed owner (F03), so this package
registers `die_with_owner` as a vLLM plugin: vLLM calls it in every process it starts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from agentark_core import heavy
from agentark_core.chat import ChatFormat
from agentark_core.config import EngineConfig, ModelConfig
from agentark_core.engines.base import Prompt, Request
from agentark_core.errors import EngineDied, EngineError
from agentark_core.types import Generation, Message

OWNER_ENV = "AGENTARK_ENGINE_OWNER"

STREAM_INTERVAL = 32
"""Tokens between two signs of life of a request; each costs a message between processes."""

MAX_LOOP, MIN_LOOPS = 32, 8
"""A generation ends as `repetition` once a pattern of up to 32 tokens stands 8 times in a row."""


class VllmEngine:
    """One model in one engine. Create it where an event loop runs; `close` ends the child process."""

    def __init__(self, model_dir: Path, *, model: ModelConfig, engine: EngineConfig) -> None:
        _check_architecture(model_dir)
        _set_environment(engine)
        with heavy.imports():
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

        args: dict[str, Any] = {
            "model": str(model_dir),
            "dtype": model.dtype,
            "max_model_len": model.max_model_len or None,
            "max_num_seqs": engine.max_num_seqs,
            "tensor_parallel_size": engine.tensor_parallel_size,
            "enforce_eager": engine.enforce_eager,
            "enable_prefix_caching": True,
            "load_format": "safetensors",
            "trust_remote_code": False,
            # The sampling of a run is its config's alone: a model's generation_config.json would change it in silence.
            "generation_config": "vllm",
            "disable_log_stats": True,
            # Requests of questions that were admitted first go first (admission.py).
            "scheduling_policy": "priority",
            "stream_interval": STREAM_INTERVAL,
            # A schema lets a model write blanks without end; without them its JSON is always whole within max_tokens.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        if engine.num_gpus:
            args["gpu_memory_utilization"] = engine.gpu_memory_utilization
        else:
            args["kv_cache_memory_bytes"] = int(engine.kv_cache_gib * 2**30)
            # The CPU backend's default of 128 tokens is too coarse for short debates; its kernels want multiples of 32.
            args["block_size"] = 32
            # vLLM 0.31 rewinds a seeded request's generator after a partial prefill, which a CPU generator cannot do:
            # the engine dies ("CPU Generator does not use offset"). Whole prefills never rewind.
            args["enable_chunked_prefill"] = False
        try:
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**args))
        except Exception as error:
            raise EngineError(
                f"{model_dir}: the engine did not start: {str(error).strip().splitlines()[-1][:300]}"
            ) from error
        self._chat = ChatFormat.load(model_dir)
        self._tokens_made = 0
        self._max_model_len = int(self._llm.model_config.max_model_len)

    @property
    def max_model_len(self) -> int:
        """Context in tokens."""
        return self._max_model_len

    @property
    def tokens_made(self) -> int:
        """Completion tokens so far, of unfinished requests too (in steps of STREAM_INTERVAL)."""
        return self._tokens_made

    def prompt(self, messages: list[Message]) -> Prompt:
        """Token ids of the chat prompt; text of data never becomes a special token."""
        ids = self._chat.prompt_ids(messages)
        return Prompt(messages=tuple(messages), token_ids=tuple(ids), length=len(ids))

    def sampling_params(self, request: Request) -> Any:
        """vLLM's SamplingParams of a request (benchmarks force lengths here)."""
        from vllm import SamplingParams
        from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind, StructuredOutputsParams

        sampling = request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=request.seed if sampling.temperature > 0 else None,
            stop_token_ids=self._chat.stop_ids,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            repetition_detection=RepetitionDetectionParams(max_pattern_size=MAX_LOOP, min_count=MIN_LOOPS),
            structured_outputs=StructuredOutputsParams(json=request.json_schema) if request.json_schema else None,
        )

    async def generate(self, request: Request) -> Generation:
        """Complete one prompt; special tokens are left out of the text. Raises EngineDied."""
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError

        assert request.prompt.token_ids is not None
        tokens: list[int] = []
        output, begun, ttft_s = None, time.monotonic(), None
        try:
            async for output in self._llm.generate(
                TokensPrompt(prompt_token_ids=list(request.prompt.token_ids)),
                self.sampling_params(request),
                request.request_id,
                priority=request.priority,
            ):
                new = output.outputs[0].token_ids
                if ttft_s is None and new:
                    ttft_s = time.monotonic() - begun  # the first token is sent at once, whatever STREAM_INTERVAL
                tokens += new
                self._tokens_made += len(new)
        except EngineDeadError as error:
            raise EngineDied(f"vLLM's EngineCore is gone: {str(error)[:200]}") from error
        assert output is not None
        thinking, text = self._chat.decode(tokens)
        return Generation(
            text=text,
            thinking=thinking,
            prompt_tokens=request.prompt.length,
            cached_tokens=output.num_cached_tokens or 0,
            completion_tokens=len(tokens),
            finish_reason=str(output.outputs[0].finish_reason),
            ttft_s=ttft_s,
        )

    async def reset_prefix_cache(self) -> None:
        """Forget all prompts. Raises EngineError while something is generated."""
        if not await self._llm.reset_prefix_cache():
            raise EngineError("the prefix cache is in use: wait for what is being generated")

    async def close(self) -> None:
        """Kill the engine's child process: it holds nothing to save, and its orderly end takes 3 s of a core."""
        self._llm.shutdown(timeout=0)


def die_with_owner() -> None:
    """vLLM plugin: in a child of an engine owner, kill this process once the owner is gone.

    A no-op everywhere else. The parent's pid is polled because PR_SET_PDEATHSIG fires on the death of the *thread*
    that started the child.
    """
    owner = os.environ.get(OWNER_ENV, "")
    if not owner or owner == str(os.getpid()) or str(os.getppid()) != owner:
        return

    def watch() -> None:
        while str(os.getppid()) == owner:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-owner", daemon=True).start()


def _check_architecture(model_dir: Path) -> None:
    """Raise EngineError for a model that vLLM would refuse after a minute, without naming what it lacks."""
    described = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    if "vision_config" in described and importlib.util.find_spec("torchvision") is None:
        raise EngineError(
            f"{model_dir}: vLLM imports torchvision for {described.get('model_type')}, which has an image encoder, and "
            "the CPU environment has none; serve it on a GPU (AGENTARK_EXTRA=cuda make setup) or through an endpoint"
        )


def _set_environment(engine: EngineConfig) -> None:
    """vLLM reads these when it is first imported."""
    os.environ[OWNER_ENV] = str(os.getpid())
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_PLUGINS"] = "agentark"
    if not engine.num_gpus:
        # Ray places actors on fractions of a CPU; vLLM's own binding would pin every actor to the same cores.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        # The worker inside EngineCore instead of a third process: 12.9k against 5.6k tok/s (0.1M parameters, 2 cores).
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
