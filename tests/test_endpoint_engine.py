"""An OpenAI-compatible server that is slow, busy, broken or away; and a real `vllm serve`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import free_port

from agentark_core import model_files
from agentark_core.config import EndpointConfig, EngineConfig, ModelConfig, SamplingConfig
from agentark_core.engines import endpoint_engine
from agentark_core.engines.base import Prompt, Request
from agentark_core.engines.endpoint_engine import EndpointEngine, RateLimit
from agentark_core.errors import ConfigError, EngineError
from agentark_core.stored import debate_runs, read_debates
from agentark_core.types import Generation

MODEL = ModelConfig(path="some-model")
ANSWER = {
    "choices": [{"message": {"content": "It is 42.", "reasoning_content": "hm"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}},
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A stub server on loopback that can go away and come back at the same port."""

    def __init__(self, handler: Handler) -> None:
        self.handler, self.port = handler, free_port()

    async def __aenter__(self) -> Server:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self.handler)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    def engine(self, **settings: Any) -> EndpointEngine:
        config = EndpointConfig(base_url=f"http://127.0.0.1:{self.port}/v1", **settings)
        return EndpointEngine(config, model=MODEL, model_dir=None)


def request(number: int = 1) -> Request:
    prompt = Prompt(messages=({"role": "user", "content": "6 * 7?"},), token_ids=None, length=10)
    sampling = SamplingConfig(temperature=0.5, max_tokens=30)
    return Request(prompt=prompt, sampling=sampling, seed=2**40 + 5, work_id="w", problem_id="p", round=1, agent=number)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_engine, "FIRST_DELAY_S", 0.02)


def ask(handler: Handler, *, number: int = 1, **settings: Any) -> list[Generation]:
    async def main() -> list[Generation]:
        async with Server(handler) as server:
            engine = server.engine(**settings)
            try:
                return list(await asyncio.gather(*(engine.generate(request(n)) for n in range(1, number + 1))))
            finally:
                await engine.close()

    return asyncio.run(main())


def test_text_thinking_tokens_and_cost_are_read_and_the_request_is_complete() -> None:
    seen: list[dict[str, Any]] = []

    async def handler(incoming: web.Request) -> web.Response:
        seen.append(await incoming.json())
        return web.json_response(ANSWER)

    (generation,) = ask(handler, price_prompt=2.0, price_cached=0.5, price_completion=8.0)
    assert (generation.text, generation.thinking, generation.finish_reason) == ("It is 42.", "hm", "stop")
    assert (generation.prompt_tokens, generation.cached_tokens, generation.completion_tokens) == (100, 60, 10)
    assert generation.cost == pytest.approx((40 * 2.0 + 60 * 0.5 + 10 * 8.0) / 1e6)
    assert seen[0]["messages"] == [{"role": "user", "content": "6 * 7?"}]
    assert {key: seen[0][key] for key in ("model", "temperature", "top_p", "max_tokens", "seed")} == {
        "model": "some-model",
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 30,
        "seed": 5,
    }


def test_a_schema_is_asked_for_only_where_there_is_one() -> None:
    seen: list[dict[str, Any]] = []
    schema = {"type": "object", "properties": {"verdict": {"enum": ["a", "b"]}}}

    async def handler(incoming: web.Request) -> web.Response:
        seen.append(await incoming.json())
        return web.json_response(ANSWER)

    async def main() -> None:
        async with Server(handler) as server:
            engine = server.engine()
            await engine.generate(request())
            await engine.generate(replace(request(), json_schema=schema))
            await engine.close()

    asyncio.run(main())
    assert "response_format" not in seen[0]
    assert seen[1]["response_format"]["type"] == "json_schema"
    assert seen[1]["response_format"]["json_schema"]["schema"] == schema


def test_half_a_surrogate_pair_and_control_characters_do_no_harm() -> None:
    message = {"content": "42 \ud83d", "reasoning_content": "\udc00"}
    answer = {**ANSWER, "choices": [{"message": message, "finish_reason": "length"}]}

    async def handler(incoming: web.Request) -> web.Response:
        return web.Response(body=json.dumps(answer).encode(), content_type="application/json")

    (generation,) = ask(handler)
    assert (generation.text, generation.thinking) == ("42 ?", "?")

    async def refuse(incoming: web.Request) -> web.Response:
        return web.Response(status=400, text="\x1b]0;owned\x07 no")

    with pytest.raises(ConfigError) as raised:
        ask(refuse)
    assert "\x1b" not in str(raised.value) and "owned" in str(raised.value)


def test_without_usage_tokens_are_counted_here() -> None:
    answer = {"choices": ANSWER["choices"]}

    async def handler(incoming: web.Request) -> web.Response:
        return web.json_response(answer)

    (generation,) = ask(handler)
    assert (generation.prompt_tokens, generation.completion_tokens) == (10, 5 + 1), "half a token a byte"


def test_a_prompt_that_alone_is_refused_or_fails_ends_as_poison_and_the_others_go_on() -> None:
    def handler(status: int) -> Handler:
        async def answer(incoming: web.Request) -> web.Response:
            body = await incoming.json()
            return web.Response(status=status, text="filtered") if body["seed"] == 2 else web.json_response(ANSWER)

        return answer

    async def main(status: int) -> list[str]:
        async with Server(handler(status)) as server:
            engine = server.engine(retry_s=0.3)
            try:
                first = await engine.generate(replace(request(), seed=1))
                bad = asyncio.create_task(engine.generate(replace(request(), seed=2)))
                later = []
                while not bad.done():
                    later.append(await engine.generate(replace(request(), seed=3)))
                return [first.finish_reason, bad.result().finish_reason, later[-1].finish_reason]
            finally:
                await engine.close()

    for status in (400, 500):
        assert asyncio.run(main(status)) == ["stop", "engine_poison", "stop"]


def test_a_server_that_refuses_the_first_request_is_a_mistake_in_the_config() -> None:
    async def handler(incoming: web.Request) -> web.Response:
        return web.Response(status=400, text="no such parameter")

    with pytest.raises(ConfigError, match="no such parameter"):
        ask(handler)


def test_an_outage_of_a_minute_is_waited_out_by_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is scaled: sleeps take no time and count as if they did."""
    now, sleep = [0.0], asyncio.sleep

    async def skip(seconds: float) -> None:
        now[0] += seconds
        await sleep(0)

    monkeypatch.setattr(endpoint_engine, "FIRST_DELAY_S", 0.5)
    monkeypatch.setattr(endpoint_engine.asyncio, "sleep", skip)
    monkeypatch.setattr(endpoint_engine.time, "monotonic", lambda: now[0])

    async def handler(incoming: web.Request) -> web.Response:
        return web.json_response(ANSWER) if now[0] > 60 else web.Response(status=503)

    for _ in range(20):
        now[0] = 0.0
        assert ask(handler)[0].text == "It is 42."


@pytest.mark.parametrize("word", ["<|im_end|>", "</think>", "<s>", "[INST]", "<start_of_turn>", "<\uff5cUser\uff5c>"])
def test_special_tokens_in_data_are_broken_up_for_a_server_s_template(word: str) -> None:
    seen: list[dict[str, Any]] = []

    async def handler(incoming: web.Request) -> web.Response:
        seen.append(await incoming.json())
        return web.json_response(ANSWER)

    async def main() -> None:
        async with Server(handler) as server:
            engine = server.engine()
            prompt = engine.prompt([{"role": "user", "content": f"if 1 < 2 and 3 > 2: {word} x"}])
            await engine.generate(replace(request(), prompt=prompt))
            await engine.close()

    asyncio.run(main())
    text = seen[0]["messages"][0]["content"]
    assert word not in text and text.replace("\u200b", "") == f"if 1 < 2 and 3 > 2: {word} x"


@pytest.mark.parametrize("tokens", [-1, 2**31, 1e400, "many"])
def test_impossible_token_counts_are_an_error(tokens: object) -> None:
    answer = {**ANSWER, "usage": {"prompt_tokens": tokens}}

    async def handler(incoming: web.Request) -> web.Response:
        return web.Response(body=json.dumps(answer).encode(), content_type="application/json")

    with pytest.raises(EngineError, match="not an OpenAI completion"):
        ask(handler)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failures_that_may_pass_are_retried(status: int) -> None:
    calls = 0

    async def handler(incoming: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response(ANSWER) if calls > 2 else web.Response(status=status)

    assert ask(handler)[0].text == "It is 42."
    assert calls == 3


def test_the_server_s_own_wait_is_kept() -> None:
    times: list[float] = []

    async def handler(incoming: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.json_response(ANSWER) if len(times) > 1 else web.Response(status=429, headers={"Retry-After": "0.7"})

    ask(handler)
    assert times[1] - times[0] >= 0.69


def test_retries_end_with_a_remedy_and_never_show_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-very-secret")
    seen: list[str] = []

    async def handler(incoming: web.Request) -> web.Response:
        seen.append(incoming.headers["Authorization"])
        return web.Response(status=503, text="sk-very-secret")

    with pytest.raises(EngineError, match="no answer in .* attempts .*HTTP 503.*start the run again") as raised:
        ask(handler, api_key_env="SECRET_KEY", retry_s=0.1)
    assert len(seen) > 1 and set(seen) == {"Bearer sk-very-secret"}
    assert "very-secret" not in str(raised.value)


@pytest.mark.parametrize(("status", "remedy"), [(401, "api_key_env"), (404, "ends in /v1"), (400, "max_model_len")])
def test_a_refused_request_is_the_user_s_to_mend_and_is_not_repeated(status: int, remedy: str) -> None:
    calls = 0

    async def handler(incoming: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=status, text="no such thing\n" * 100)

    with pytest.raises(ConfigError, match=remedy):
        ask(handler)
    assert calls == 1


def test_a_prompt_that_the_server_finds_too_long_is_over_context() -> None:
    async def handler(incoming: web.Request) -> web.Response:
        message = "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens."
        return web.json_response({"error": {"message": message}}, status=400)

    assert ask(handler)[0].finish_reason == "over_context"


def test_answers_that_are_none_are_an_error_and_half_ones_are_truncated() -> None:
    async def nonsense(incoming: web.Request) -> web.Response:
        return web.json_response({"choices": []})

    with pytest.raises(EngineError, match="not an OpenAI completion"):
        ask(nonsense)

    async def filtered(incoming: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": "It"}, "finish_reason": "content_filter"}]})

    assert ask(filtered)[0].finish_reason == "length"


def test_a_cut_network_costs_no_answer_and_doubles_none() -> None:
    served: list[int] = []

    async def handler(incoming: web.Request) -> web.Response:
        served.append(1)
        await asyncio.sleep(0.02)
        return web.json_response(ANSWER)

    async def main() -> list[Generation]:
        server = Server(handler)
        await server.__aenter__()
        engine = server.engine()
        working = [asyncio.create_task(engine.generate(request(n))) for n in range(20)]
        await asyncio.sleep(0.01)
        await server.__aexit__()
        later = [asyncio.create_task(engine.generate(request(n))) for n in range(20, 40)]
        await asyncio.sleep(0.5)
        await server.__aenter__()
        results = await asyncio.gather(*working, *later)
        await engine.close()
        await server.__aexit__()
        return list(results)

    assert [generation.text for generation in asyncio.run(main())] == ["It is 42."] * 40
    assert len(served) >= 40


def test_rate_limits_spread_requests_without_a_burst() -> None:
    async def main() -> list[float]:
        limit, times = RateLimit(60 * 50), []

        async def one() -> None:
            await limit.take(1)
            times.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(100)))
        return times

    times = asyncio.run(main())
    assert 0.9 < times[-1] - times[0] < 2.5, "50 of the 100 are the burst of a second, 50 take another second"


def test_a_missing_key_or_tokenizer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    url = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        EndpointEngine(EndpointConfig(base_url=url, api_key_env="NO_SUCH_KEY"), model=MODEL, model_dir=None)
    with pytest.raises(ConfigError, match="some-model.*use api chat"):
        EndpointEngine(EndpointConfig(base_url=url, api="completions"), model=MODEL, model_dir=None)


def test_a_served_model_is_known_by_its_names_and_how_it_is_asked_not_by_its_address(tmp_path: Path) -> None:
    def revision(url: str = "http://a/v1", *, endpoint: dict[str, Any] | None = None, **model: str) -> str:
        engine = EngineConfig(kind="openai", endpoint=EndpointConfig(base_url=url, **(endpoint or {})))
        return model_files.source(ModelConfig(**{"path": "gpt-x", **model}), engine)[1]

    assert revision("http://a/v1") == revision("http://b/v1")
    others = [{"model": "y"}, {"api": "chat"}, {"max_model_len": 99}]
    for known in ({"path": "gpt-x"}, {"path": "arkling:teacher"}):
        different = [revision(**known), revision(revision="2", **known)]  # type: ignore[arg-type]
        different += [revision(endpoint=other, **known) for other in others]  # type: ignore[arg-type]
        assert len(set(different)) == 5, "a run never mixes the turns of two models (F20)"


@pytest.mark.slow
def test_debates_through_a_real_vllm_server(
    agentark: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    teacher = model_files.resolve(ModelConfig(path="arkling:teacher"))
    port = free_port()
    # `vllm serve` without its command line, which asks for a distribution called vllm (the CPU build has another name).
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(teacher)]
    command += ["--served-model-name", "arkling", "--host", "127.0.0.1", "--port", str(port), "--block-size", "32"]
    command += ["--no-enable-chunked-prefill", "--enforce-eager", "--max-num-seqs", "64"]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_PLUGINS": "",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "serve.log").read_text()[
                    -3000:
                ]
                time.sleep(0.5)
        home = tmp_path / "home"
        agentark(
            "run",
            "build-traces",
            {
                "run": {"name": "served", "home": str(home)},
                "problems": {"source": "arkling", "split": "distil", "limit": 20},
                "teacher": {"path": "arkling:teacher", "prompts": "arkling"},
                "debate": {"num_agents": 3, "num_rounds": 2, "sampling": {"temperature": 0.9, "max_tokens": 128}},
                "engine": {
                    "kind": "openai",
                    "num_engines": 2,
                    "num_cpus": 0.1,
                    "shard_size": 5,
                    "max_num_seqs": 64,
                    "endpoint": {
                        "base_url": f"http://127.0.0.1:{port}/v1",
                        "model": "arkling",
                        "api": "completions",
                        "max_model_len": 2048,
                        "price_completion": 1.0,
                    },
                },
            },
        )
    finally:
        server.terminate()
        server.wait(timeout=60)
    (run,) = debate_runs(home)
    shares = [json.loads(path.read_text()) for path in home.glob(f"ledger/debates-{run}/usage/*.json")]
    assert len(shares) == 2 and all(share["questions"] > 0 and share["cost"] > 0 for share in shares)
    assert sum(share["questions"] for share in shares) == 20, "two engines pull shards from one queue"
    debates = list(read_debates(home, fingerprint=run))
    turns = [turn for debate in debates for turn in debate.turns]
    assert len(debates) == 20 and len({(t.work_id, t.round, t.agent) for t in turns}) == len(turns)
    assert sum(turn.status == "ok" for turn in turns) >= 0.9 * len(turns)
    assert sum(debate.answer is not None for debate in debates) >= 18
    assert all(turn.prompt_tokens > 0 for turn in turns)
