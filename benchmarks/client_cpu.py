"""Processor time of the client per 1,000 requests to an OpenAI-compatible server: ours against AsyncOpenAI.

    python benchmarks/client_cpu.py

A server in its own process answers every chat completion after a fixed delay. Ours is EndpointEngine.generate, theirs
AsyncOpenAI (`openai`, max_retries 0, as many connections as requests in flight, reply as its own pydantic model). Both
send the same body with the same number of requests in flight, in one process, on the same event loop; the sides take
turns and change the order from pair to pair. Counted is the processor time of this process, all threads, once the
connections are open, under the garbage collector's thresholds that EndpointEngine sets; AsyncOpenAI gains by them too.
Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agentark_core.config import EndpointConfig, ModelConfig, SamplingConfig
from agentark_core.engines.base import Request
from agentark_core.engines.endpoint_engine import GC_THRESHOLDS, EndpointEngine

Send = Callable[[int], Awaitable[object]]

SERVER = """
import asyncio, sys
from aiohttp import web
body = {BODY!r}
async def answer(request):
    await request.read()
    await asyncio.sleep({DELAY_S})
    return web.Response(body=body, content_type="application/json")
async def main():
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=8192)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
asyncio.run(main())
"""


def question(number: int) -> str:
    """About 2 kB, a usual prompt of a debate's second round."""
    return f"Question {number}: what is the sum of the first {number} odd numbers? " + "One solution says so. " * 90


def completion() -> bytes:
    """About 1.5 kB of text in the form of vLLM's reply."""
    text = "Adding them step by step gives a square. " * 35 + "The answer is 42."
    reply = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, "tool_calls": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 500,
            "total_tokens": 900,
            "completion_tokens": 400,
            "prompt_tokens_details": {"cached_tokens": 320},
        },
    }
    return json.dumps(reply).encode()


async def cpu_seconds(send: Send, *, requests: int, in_flight: int) -> tuple[float, float]:
    """(processor seconds, seconds) of `requests` requests by in_flight workers."""
    left = iter(range(requests))

    async def worker() -> None:
        for number in left:
            await send(number)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return time.process_time() - cpu, time.perf_counter() - wall


def ours(url: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """EndpointEngine.generate, prompt included."""
    engine = EndpointEngine(
        EndpointConfig(base_url=url, retry_s=0),
        model=ModelConfig(path="served"),
        model_dir=None,
    )
    sampling = SamplingConfig()

    def send(number: int) -> Awaitable[object]:
        prompt = engine.prompt([{"role": "user", "content": question(number)}])
        return engine.generate(
            Request(prompt=prompt, sampling=sampling, seed=number, work_id="w", problem_id="p", round=1, agent=number)
        )

    return send, engine.close


def theirs(url: str, *, in_flight: int) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """AsyncOpenAI on httpx."""
    import openai
    from httpx2 import Limits  # openai's own

    limits = Limits(max_connections=in_flight, max_keepalive_connections=in_flight, keepalive_expiry=4.0)
    client = openai.AsyncOpenAI(
        base_url=url,
        api_key="none",
        max_retries=0,
        timeout=600,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=600),
    )

    def send(number: int) -> Awaitable[object]:
        return client.chat.completions.create(
            model="served",
            messages=[{"role": "user", "content": question(number)}],
            max_tokens=1024,
            temperature=0.9,
            top_p=1.0,
            seed=number,
        )

    return send, client.close


async def measure(url: str, *, in_flight: int, requests: int, pairs: int) -> dict[str, Any]:
    """CPU seconds per 1,000 requests of each side and their ratio, pair by pair."""
    sides = {"ours": lambda: ours(url), "openai": lambda: theirs(url, in_flight=in_flight)}
    gc.set_threshold(*GC_THRESHOLDS)
    requests = max(requests, 2 * in_flight)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for pair in range(pairs):
        for name in sorted(sides, reverse=bool(pair % 2)):
            send, close = sides[name]()
            # Connections are opened outside the count: a run of hours opens them once.
            await cpu_seconds(send, requests=in_flight, in_flight=in_flight)
            cpu, wall = await cpu_seconds(send, requests=requests, in_flight=in_flight)
            seconds[name].append(1000 * cpu / requests)
            rates[name].append(requests / wall)
            await close()
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["openai"], strict=True)]
    return {
        "in_flight": in_flight,
        "requests": requests,
        **{name: summary(values) for name, values in seconds.items()},
        "ratio": summary(ratios),
        **{f"{name}_requests_per_s": summary(values) for name, values in rates.items()},
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}


def main() -> None:
    """Start the server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--requests", type=int, default=2000, help="at least; and two for each in flight")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--delay-s", type=float, default=0.2)
    arguments = parser.parse_args()
    code = SERVER.format(BODY=completion(), DELAY_S=arguments.delay_s)
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        rows = [
            asyncio.run(measure(url, in_flight=n, requests=arguments.requests, pairs=arguments.pairs))
            for n in arguments.in_flight
        ]
    finally:
        server.terminate()
        server.wait()
    print(f"client CPU s per 1,000 requests, median [range] of {arguments.pairs} pairs")
    print(f"{'in flight':>9}  {'ours':>24}  {'AsyncOpenAI':>24}  {'ratio':>24}")
    for row in rows:
        cells = [
            f"{row[k]['median']:.3f} [{row[k]['low']:.3f}, {row[k]['high']:.3f}]" for k in ("ours", "openai", "ratio")
        ]
        print(f"{row['in_flight']:>9}  " + "  ".join(f"{cell:>24}" for cell in cells))
    print(json.dumps({"pairs": arguments.pairs, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
