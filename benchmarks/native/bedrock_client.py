"""One contender at one work with Bedrock, in a process of its own; prints its figures as JSON.

Usage: ``python -m benchmarks.native.bedrock_client CONTENDER WORK URL``
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from agentkit.bedrock import AuthConfig, AuthenticationType
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.bedrock.routes import ModelAccessMethod, ModelRoute
from benchmarks.native.bedrock_server import EVENTS

PROMPT = "Tell me something. " * 12
MODEL, REGION = "anthropic.claude-3-haiku-20240307-v1:0", "us-east-1"
CALLS, AT_ONCE, STREAMS = 1600, 16, 200
KEYS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "made-up"}


class Contender(Protocol):
    """The ways to call a model from a coroutine."""

    async def call(self) -> None: ...

    async def stream(self) -> None: ...


class _Boto3:
    """boto3 alone, without its retries, on a pool of threads."""

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=STREAMS)
        self._client = boto3.client(
            "bedrock-runtime", region_name=REGION, endpoint_url=url, config=config, **KEYS
        )
        self._pool = ThreadPoolExecutor(STREAMS)
        self._asked: Any = [{"role": "user", "content": [{"text": PROMPT}]}]

    async def call(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._call)

    async def stream(self) -> None:
        """Each event reaches the event loop, as it must for an asyncio caller."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()

        def put(event: Any) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        self._pool.submit(self._stream, put)
        count = 0
        while await queue.get() is not None:
            count += 1
        _check(count == EVENTS)

    def _call(self) -> None:
        answer = self._client.converse(modelId=MODEL, messages=self._asked)
        _check(len(answer["output"]["message"]["content"][0]["text"]) == 1024)

    def _stream(self, put: Callable[[Any], None]) -> None:
        for event in self._client.converse_stream(modelId=MODEL, messages=self._asked)["stream"]:
            put(event)
        put(None)


class _Agentkit:
    """agentkit with retries, breaker, deadline, ledger and telemetry, over a transport."""

    def __init__(self, url: str, transport: Any) -> None:
        from agentkit import LLMManager

        auth = AuthConfig(
            AuthenticationType.CREDENTIALS,
            access_key_id=KEYS["aws_access_key_id"],
            secret_access_key=KEYS["aws_secret_access_key"],
        )
        clients = Clients(auth, concurrency=STREAMS, endpoint_url=url)
        route = ModelRoute(ModelAccessMethod.DIRECT, MODEL)
        target = ConverseTarget("m", REGION, [route], clients, transport=transport)
        self._llm = LLMManager(enable_caching=False)
        self._llm.register_model("m", target)

    async def call(self) -> None:
        _check(len((await self._llm.acomplete(PROMPT, model="m")).text) == 1024)

    async def stream(self) -> None:
        count = 0
        async with self._llm.astream(PROMPT, model="m") as stream:
            async for _ in stream.events():  # none is kept, as with boto3
                count += 1
        _check(count >= EVENTS - 3)


CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "boto3": _Boto3,
    "through": lambda url: _Agentkit(url, "sdk"),
    "native": lambda url: _Agentkit(url, "native"),
}


def _check(complete: bool) -> None:
    if not complete:
        raise SystemExit("the answer is not complete")


async def _calls(contender: Contender) -> dict[str, float]:
    """Microseconds of CPU and of time for a call, 16 at once."""

    async def some(count: int) -> None:
        for _ in range(count):
            await contender.call()

    await asyncio.gather(*(some(5) for _ in range(AT_ONCE)))
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(some(CALLS // AT_ONCE) for _ in range(AT_ONCE)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"cpu": cpu / CALLS * 1e6, "wall": wall / CALLS * 1e6}


async def _streams(contender: Contender) -> dict[str, float]:
    """200 streams at once: their time, CPU an event, threads, memory, and the event loop's lag."""
    lags: list[float] = []
    threads = 0

    async def watch() -> None:
        nonlocal threads
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - began - 0.005)
            threads = max(threads, threading.active_count())

    await contender.stream()
    watching = asyncio.create_task(watch())
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(contender.stream() for _ in range(STREAMS)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    watching.cancel()
    lags.sort()
    return {
        "seconds": wall,
        "cpu": cpu / (STREAMS * EVENTS) * 1e6,
        "threads": threads,
        "mebibytes": _resident() / 2**20,
        "lag": 1000.0 * lags[int(0.99 * len(lags))],
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


WORKS: dict[str, Callable[[Contender], Coroutine[Any, Any, dict[str, float]]]] = {
    "calls": _calls,
    "streams": _streams,
}


if __name__ == "__main__":
    import os

    name, work, url = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # the server has the first processor
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.stdout.write(json.dumps(asyncio.run(WORKS[work](CONTENDERS[name](url)))))
    sys.stdout.flush()
    os._exit(0)  # the threads of the pool
