"""Engines of the benchmarks: vLLM's AsyncLLM as in production, with forced lengths or watched slots.

Every token count comes from vLLM's own num_cached_tokens; nothing is simulated.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentark_core import model_files
from agentark_core.config import EngineConfig, ModelConfig
from agentark_core.engines.base import Engine, EngineView, Request
from agentark_core.engines.vllm_engine import VllmEngine
from agentark_core.types import Generation

TEACHER = ModelConfig(path="arkling:teacher", prompts="arkling")


class BenchEngine(VllmEngine):
    """The engine of a run, which can also replay prompts."""

    async def replay(self, requests: list[Request], *, slots: int) -> None:
        """Send prompts in the given order, `slots` of them at a time, with nothing around the engine."""
        from vllm.inputs import TokensPrompt

        waiting = iter(requests)

        async def worker() -> None:
            for request in waiting:
                prompt = TokensPrompt(prompt_token_ids=list(request.prompt.token_ids or ()))
                params = self.sampling_params(request)
                async for _ in self._llm.generate(prompt, params, request.request_id, priority=request.priority):
                    pass

        await asyncio.gather(*(worker() for _ in range(slots)))


class ForcedEngine(BenchEngine):
    """Every generation has the length that `length(request)` says, and is random digits.

    Digits, because each " 7" is one token wherever it stands: a shown solution has as many tokens as were generated,
    an agent's own text is found in the cache, and every solution has an answer.
    """

    def __init__(
        self, model_dir: Path, *, model: ModelConfig, engine: EngineConfig, length: Callable[[Request], int]
    ) -> None:
        super().__init__(model_dir, model=model, engine=engine)
        self._length = length
        self._digits = self._chat.tokenizer.convert_tokens_to_ids([f"Ġ{digit}" for digit in range(10)])

    def sampling_params(self, request: Request) -> Any:
        """As long as told, whatever the model says."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            seed=request.seed if sampling.temperature > 0 else None,
            max_tokens=self._length(request),
            ignore_eos=True,
            allowed_token_ids=self._digits,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    async def generate(self, request: Request) -> Generation:
        """A generation of the forced length counts as finished, so that others see it."""
        return replace(await super().generate(request), finish_reason="stop")


class WholeSetRounds(EngineView):
    """The authors' schedule: no request of a round begins before all requests of the round before have ended.

    For debates without early stop: every question makes `width` requests in each of its rounds.
    """

    def __init__(self, engine: Engine, *, questions: int, width: int) -> None:
        super().__init__(engine)
        self._whole = questions * width
        self._ended: Counter[int] = Counter()
        self._open: dict[int, asyncio.Event] = {}

    async def generate(self, request: Request) -> Generation:
        """Wait for the round, then generate."""
        if request.round > 1 and self._ended[request.round - 1] < self._whole:
            await self._open.setdefault(request.round, asyncio.Event()).wait()
        generation = await self._engine.generate(request)
        self._ended[request.round] += 1
        if self._ended[request.round] == self._whole:
            self._open.setdefault(request.round + 1, asyncio.Event()).set()
        return generation


class Watched(EngineView):
    """An engine whose requests are counted: how many were in it, for how long.

    Attributes: trace (a (seconds, requests in the engine) pair at every change), requests (in the order of sending).
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.running = 0
        self.trace: list[tuple[float, int]] = []
        self.requests: list[Request] = []

    @property
    def tokens_made(self) -> int:
        """See engines.base.Engine."""
        return self._engine.tokens_made

    async def reset_prefix_cache(self) -> None:
        """See engines.base.Engine."""
        await self._engine.reset_prefix_cache()

    async def generate(self, request: Request) -> Generation:
        """Generate, and note start and end."""
        self.requests.append(request)
        self._note(1)
        try:
            return await self._engine.generate(request)
        finally:
            self._note(-1)

    async def close(self) -> None:
        """See engines.base.Engine."""
        await self._engine.close()

    def _note(self, change: int) -> None:
        self.running += change
        self.trace.append((time.monotonic(), self.running))


def teacher(*, slots: int, kv_cache_gib: int = 1) -> BenchEngine:
    """The shipped teacher."""
    config = EngineConfig(max_num_seqs=slots, kv_cache_gib=kv_cache_gib)
    return BenchEngine(model_files.resolve(TEACHER), model=TEACHER, engine=config)


def random_model(folder: Path, *, context: int) -> Path:
    """A Qwen3 of one tiny layer with random weights, the teacher's tokenizer and a context of so many tokens."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    source = model_files.resolve(TEACHER)
    config = Qwen3Config(
        **{
            **json.loads((source / "config.json").read_text()),
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "layer_types": ["full_attention"],
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": context,
        }
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    return folder
