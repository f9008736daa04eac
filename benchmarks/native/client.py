"""One contender at one work, in a process of its own; prints its figures as JSON.

Usage: ``python -m benchmarks.native.client CONTENDER WORK CONCURRENCY COUNT URL``
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

PROMPT = "Tell me something. " * 12


class Contender(Protocol):
    """The four ways to call a model."""

    def call(self, model: str) -> None: ...

    def stream(self, model: str) -> None: ...

    async def acall(self, model: str) -> None: ...

    async def astream(self, model: str) -> None: ...

    async def open(self, model: str) -> object:
        """A stream of which one chunk was read."""
        ...


class _Sdk:
    """The SDK alone, without its retries."""

    def __init__(self, url: str) -> None:
        import openai

        self._sync = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
        self._async = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
        self._asked: Any = [{"role": "user", "content": PROMPT}]

    def call(self, model: str) -> None:
        answer = self._sync.chat.completions.create(model=model, messages=self._asked)
        _check(len(answer.choices[0].message.content or ""))

    def stream(self, model: str) -> None:
        chunks = self._sync.chat.completions.create(model=model, messages=self._asked, stream=True)
        _check(sum(bool(chunk.choices) for chunk in chunks))

    async def acall(self, model: str) -> None:
        answer = await self._async.chat.completions.create(model=model, messages=self._asked)
        _check(len(answer.choices[0].message.content or ""))

    async def astream(self, model: str) -> None:
        chunks: Any = await self.open(model)
        _check(sum([bool(chunk.choices) async for chunk in chunks]))

    async def open(self, model: str) -> object:
        chunks = await self._async.chat.completions.create(
            model=model, messages=self._asked, stream=True
        )
        if model == "open":
            await anext(aiter(chunks))
        return chunks


class _Agentkit:
    """agentkit with retries, breaker, deadline, ledger and telemetry, over a transport."""

    def __init__(self, url: str, transport: Any, telemetry: Any = None) -> None:
        from agentkit import LLMManager, provider_for

        self._llm = LLMManager(enable_caching=False, telemetry=telemetry)
        for model in ("m", "s61", "s400", "open"):
            provider = provider_for(
                f"openai:{model}", api_key="none", base_url=url, transport=transport
            )
            self._llm.register_model(model, provider)

    def call(self, model: str) -> None:
        _check(len(self._llm.complete(PROMPT, model=model).text))

    def stream(self, model: str) -> None:
        with self._llm.stream(PROMPT, model=model) as stream:
            _check(sum(1 for _ in stream))

    async def acall(self, model: str) -> None:
        _check(len((await self._llm.acomplete(PROMPT, model=model)).text))

    async def astream(self, model: str) -> None:
        async with self._llm.astream(PROMPT, model=model) as stream:
            _check(sum([1 async for _ in stream]))

    async def open(self, model: str) -> object:
        stream = self._llm.astream(PROMPT, model=model)
        await anext(stream)
        return stream


def _check(count: int) -> None:
    if count < 50:
        raise RuntimeError(f"an answer came out wrong: {count}")


def _observed(url: str) -> Contender:
    from agentkit import Telemetry
    from benchmarks.recording import providers

    tracing, metering = providers()
    telemetry = Telemetry(tracer_provider=tracing, meter_provider=metering)
    return _Agentkit(url, "native", telemetry)


CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "sdk": _Sdk,
    "through": lambda url: _Agentkit(url, "sdk"),
    "native": lambda url: _Agentkit(url, "native"),
    "observed": _observed,
}


class Work(NamedTuple):
    """What is done: with which method, and which model of the server."""

    method: str
    model: str


WORKS = {
    "calls": Work("acall", "m"),
    "streams of 61": Work("astream", "s61"),
    "streams of 400": Work("astream", "s400"),
    "sync calls": Work("call", "m"),
    "sync streams of 61": Work("stream", "s61"),
}


async def _all_at_once(do: Callable[[], Awaitable[None]], concurrency: int, count: int) -> None:
    async def some() -> None:
        for _ in range(count // concurrency):
            await do()

    await asyncio.gather(*(some() for _ in range(concurrency)))


def _in_threads(do: Callable[[], None], concurrency: int, count: int) -> None:
    def some() -> None:
        for _ in range(count // concurrency):
            do()

    threads = [threading.Thread(target=some) for _ in range(concurrency)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def _measured(contender: Contender, work: Work, concurrency: int, count: int) -> dict[str, float]:
    """Microseconds of CPU and of time for each piece of work, after a warm-up."""
    method = getattr(contender, work.method)

    if work.method.startswith("a"):

        async def run() -> tuple[float, float]:
            await _all_at_once(lambda: method(work.model), concurrency, 2 * concurrency)
            began = time.perf_counter(), time.process_time()
            await _all_at_once(lambda: method(work.model), concurrency, count)
            return time.perf_counter() - began[0], time.process_time() - began[1]

        wall, cpu = asyncio.run(run())
    else:
        _in_threads(lambda: method(work.model), concurrency, 2 * concurrency)
        began = time.perf_counter(), time.process_time()
        _in_threads(lambda: method(work.model), concurrency, count)
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return {"cpu": cpu / count * 1e6, "wall": wall / count * 1e6}


def _memory(contender: Contender, count: int) -> dict[str, float]:
    """The mebibytes that `count` open streams take."""

    async def run() -> float:
        kept = [await contender.open("open") for _ in range(10)]
        before = _resident()
        for _ in range(count // 50):
            kept += await asyncio.gather(*(contender.open("open") for _ in range(50)))
        taken = _resident() - before
        sys.stdout.write(json.dumps({"mebibytes": taken / 2**20}))
        sys.stdout.flush()
        import os

        os._exit(0)  # a thousand streams take long to close

    asyncio.run(run())
    return {}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    name, work, concurrency, count, url = sys.argv[1:]
    made = CONTENDERS[name](url)
    if work == "memory":
        _memory(made, int(count))
    figures = _measured(made, WORKS[work], int(concurrency), int(count))
    sys.stdout.write(json.dumps(figures))
