"""Any OpenAI-compatible server (vLLM, SGLang, a provider) behind the `Engine` protocol.

Raw aiohttp and JSON: the client's work per request is what limits thousands of requests in flight
(benchmarks/client_cpu.py compares it with the openai package).

`api: completions` sends token ids made by the local tokenizer, so no text of data can become a special token (F30).
`api: chat` leaves the template to the server, whose tokenizer may read `<|im_end|>` in a text as a special token; such
words are broken up by a zero-width space, which changes nothing but the text that holds them.

A request is repeated for as long as an outage may last. One that fails while others succeed is a prompt that this
server cannot answer: it ends as `engine_poison`, and the run goes on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
import resource
import time
from pathlib import Path
from typing import Any, Literal

from agentark_core import terminal
from agentark_core.config import EndpointConfig, ModelConfig
from agentark_core.engines.base import Prompt, Request
from agentark_core.errors import ConfigError, EngineError
from agentark_core.types import Generation, Message

RETRY_STATUS = {408, 409, 425, 429, 500, 502, 503, 504, 529}
FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
KEEP_ALIVE_S = 4.0
"""Below the 5 s after which uvicorn (vLLM, SGLang) closes an idle connection: a POST could meet a closing one."""

MAX_OPEN_FILES = 65_536

GC_THRESHOLDS = (20_000, 20, 20)
"""Of the actor's process. Requests in flight are live objects, and Python's default thresholds (700, 10, 10) walk
through all of them over and over: at 4,000 in flight half of the client's processor time (benchmarks/client_cpu.py)."""

TEMPLATE_TOKENS = 16
"""Tokens that a chat template adds to a message, at most, where there is no local tokenizer to count them."""


TOO_LONG = (b"context length", b"context window", b"context_length", b"too long", b"too many tokens")
"""How servers say that a prompt does not fit; there is no common code for it."""


SPECIAL = re.compile(r"<(?=[|/a-z_\uff5c][^<>\n]{0,40}>)|\[(?=/?INST\])")
"""Where what looks like a special token begins: <|im_end|>, </think>, <s>, <start_of_turn>, [INST]."""


class _Refused(Exception):
    """The server does not take this prompt; `reason` is the generation's finish_reason."""

    def __init__(self, reason: str, error: ConfigError | None = None) -> None:
        self.reason, self.error = reason, error


def api_of(config: EndpointConfig, *, model_dir: Path | None) -> Literal["chat", "completions"]:
    """The API that is used: completions only with a local tokenizer, if the config leaves it open."""
    if config.api != "auto":
        return config.api
    return "chat" if model_dir is None else "completions"


class EndpointEngine:
    """One model of one server. Create it where an event loop runs."""

    def __init__(self, config: EndpointConfig, *, model: ModelConfig, model_dir: Path | None) -> None:
        """model_dir holds the tokenizer for exact token counts; api completions needs it. Raises ConfigError."""
        import aiohttp

        self._api = api_of(config, model_dir=model_dir)
        if self._api == "completions" and model_dir is None:
            raise ConfigError(
                f"engine.endpoint.api completions needs the tokenizer of the model: {model.path!r} is not a local "
                "directory; download it, or use api chat"
            )
        self._config = config
        self._model = config.model or model.path
        self._chat = _chat_format(model_dir)
        path = "completions" if self._api == "completions" else "chat/completions"
        self._url = f"{config.base_url.rstrip('/')}/{path}"
        self._failure = ""
        self._succeeded = 0
        self._limits = [RateLimit(per_minute) for per_minute in (config.requests_per_minute, config.tokens_per_minute)]
        _allow_connections()
        gc.set_threshold(*GC_THRESHOLDS)
        headers = {"Content-Type": "application/json", **_authorization(config)}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=config.timeout_s),
            headers=headers,
        )

    @property
    def max_model_len(self) -> int:
        """Context in tokens."""
        return self._config.max_model_len

    @property
    def tokens_made(self) -> int:
        """-1: answers come whole, so the watchdog cannot see progress; engine.endpoint.timeout_s bounds a request."""
        return -1

    def prompt(self, messages: list[Message]) -> Prompt:
        """Exact with a local tokenizer; else half a token a byte, which is about twice what English text needs."""
        if self._api == "chat" and messages[-1]["role"] == "assistant":
            raise ConfigError(
                "engine.endpoint.api chat starts a new turn and cannot go on from the middle of one; use api "
                "completions with the model's tokenizer, or engine.kind vllm"
            )
        if self._chat is not None:
            ids = self._chat.prompt_ids(messages)
            return Prompt(messages=tuple(messages), token_ids=tuple(ids), length=len(ids))
        length = sum(self._length(message["content"]) + TEMPLATE_TOKENS for message in messages)
        return Prompt(messages=tuple(messages), token_ids=None, length=length)

    def _length(self, text: str) -> int:
        if self._chat is not None:
            return len(self._chat.tokenizer.encode(text, add_special_tokens=False))
        return -(-len(text.encode("utf-8", "replace")) // 2)

    async def generate(self, request: Request) -> Generation:
        """Complete one prompt. Raises EngineError after engine.endpoint.retry_s, ConfigError if the server has refused
        every request so far."""
        body = json.dumps(self._body(request)).encode()
        tokens = request.prompt.length + request.sampling.max_tokens
        begun, others, attempt = time.monotonic(), self._succeeded, 0
        while True:
            for limit, amount in zip(self._limits, (1, tokens), strict=True):
                await limit.take(amount)
            try:
                answer, wait_s = await self._post(body)
            except _Refused as refused:
                if refused.error is not None and not self._succeeded:
                    raise refused.error from None
                return _unanswered(refused.reason)
            if answer is not None:
                self._succeeded += 1
                return self._generation(answer, request=request)
            # Full jitter: a thousand requests that failed together do not come back together.
            wait_s = max(wait_s, random.uniform(0, min(MAX_DELAY_S, FIRST_DELAY_S * 2**attempt)))
            attempt += 1
            if time.monotonic() - begun + wait_s > self._config.retry_s:
                break
            await asyncio.sleep(wait_s)
        if self._succeeded > others:
            return _unanswered("engine_poison")
        raise EngineError(
            f"{self._url}: no answer in {attempt} attempts over {time.monotonic() - begun:.0f} s ({self._failure}); "
            "what is finished is journaled: check the server and start the run again, or raise engine.endpoint.retry_s"
        )

    async def reset_prefix_cache(self) -> None:
        """Others use the server too: its cache stays."""

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _post(self, body: bytes) -> tuple[dict[str, Any] | None, float]:
        """(the answer, 0), or (None, seconds that the server asks to wait) for a failure that may pass."""
        import aiohttp

        try:
            async with self._session.post(self._url, data=body) as response:
                text = await response.read()
                if response.status == 200:
                    return json.loads(text), 0.0
                self._failure = f"HTTP {response.status}"
                if response.status in RETRY_STATUS:
                    return None, _retry_after(response.headers.get("Retry-After", ""))
                error = ConfigError(
                    f"{self._url}: HTTP {response.status}: {_excerpt(text)}; {_remedy(response.status)}"
                )
                if response.status not in (400, 413, 422):
                    raise error
                if any(words in text.lower() for words in TOO_LONG):
                    raise _Refused("over_context")
                raise _Refused("engine_poison", error)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            self._failure = f"{type(error).__name__}"
            return None, 0.0

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed % 2**31,
        }
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._api == "completions":
            assert self._chat is not None and request.prompt.token_ids is not None
            # stop_token_ids is an extension that vLLM and SGLang share.
            return {**body, "prompt": list(request.prompt.token_ids), "stop_token_ids": self._chat.stop_ids}
        messages = [{**m, "content": SPECIAL.sub("\\g<0>\u200b", m["content"])} for m in request.prompt.messages]
        return {**body, "messages": messages}

    def _generation(self, answer: dict[str, Any], *, request: Request) -> Generation:
        try:
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            message = choice.get("message") or {"content": choice.get("text")}
            text = _plain(message.get("content"))
            thinking = _plain(message.get("reasoning_content") or message.get("reasoning"))
            finish = choice.get("finish_reason") or "stop"
            prompt_tokens = _count(usage.get("prompt_tokens", request.prompt.length))
            cached = min(prompt_tokens, _count((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0))
            # Without usage the caps and the bill need a count all the same.
            completion = _count(usage.get("completion_tokens", self._length(text) + self._length(thinking)))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise EngineError(
                f"{self._url}: the answer is not an OpenAI completion ({type(error).__name__}: "
                f"{str(error)[:80]}); check engine.endpoint.base_url and api"
            ) from None
        prices = self._config
        cost = (
            (prompt_tokens - cached) * prices.price_prompt
            + cached * prices.price_cached
            + completion * prices.price_completion
        ) / 1e6
        return Generation(
            text=text,
            thinking=thinking,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            completion_tokens=completion,
            cost=cost,
            # content_filter and other words mean that the text is not a whole solution.
            finish_reason=finish if finish in ("stop", "length", "repetition") else "length",
        )


class RateLimit:
    """At most `per_minute` units a minute, with no burst above a second's worth; 0 is no limit."""

    def __init__(self, per_minute: float) -> None:
        self._per_s = per_minute / 60
        self._free_at = 0.0

    async def take(self, amount: float) -> None:
        """Wait for the turn of `amount` units; turns are given in the order of asking."""
        if not self._per_s:
            return
        now = time.monotonic()
        start = max(self._free_at, now - 1.0)
        self._free_at = start + amount / self._per_s
        await asyncio.sleep(max(0.0, start - now))


def _unanswered(reason: str) -> Generation:
    return Generation(text="", prompt_tokens=0, cached_tokens=0, completion_tokens=0, finish_reason=reason)


def _plain(text: Any) -> str:
    """Text that UTF-8 can hold: JSON may bring one half of a surrogate pair, which no Parquet column takes."""
    return str(text or "").encode("utf-8", "replace").decode()


def _count(value: Any) -> int:
    """A token count. Raises ValueError outside of what the ledger's columns take."""
    if not 0 <= int(value) < 2**31:
        raise ValueError(f"{value} tokens")
    return int(value)


def _allow_connections() -> None:
    """One connection a request in flight: the usual soft limit of 1,024 open files is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _authorization(config: EndpointConfig) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ConfigError(
            f"engine.endpoint.api_key_env: the environment variable {config.api_key_env} is not set; export it where "
            "the engine actors run"
        )
    return {"Authorization": f"Bearer {key}"}


def _chat_format(model_dir: Path | None) -> Any:
    if model_dir is None:
        return None
    from agentark_core.chat import ChatFormat

    return ChatFormat.load(model_dir)


def _retry_after(header: str) -> float:
    try:
        return min(max(0.0, float(header)), 10 * MAX_DELAY_S)
    except ValueError:  # a date, or nothing: the backoff decides
        return 0.0


def _excerpt(text: bytes) -> str:
    return terminal.safe(" ".join(text[:300].decode("utf-8", "replace").split())[:200])


def _remedy(status: int) -> str:
    return {
        400: "the server refuses the request: check engine.endpoint.max_model_len, model and api",
        401: "check the key in the variable that engine.endpoint.api_key_env names",
        403: "the key may not use this model",
        404: "check engine.endpoint.base_url (it ends in /v1) and model",
        413: "lower debate.sampling.max_tokens or num_agents",
    }.get(status, "check engine.endpoint")
