"""One contender at one work, in a process of its own; prints its figures as JSON.

Usage: ``python -m benchmarks.native.client CONTENDER WORK CONCURRENCY COUNT URL``
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sized
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from benchmarks.native.raw import Floor, Libraries

PROMPT = "Tell me something. " * 12


class Contender(Protocol):
    """The four ways to call a model: each gives text, in one piece or in many."""

    def call(self, model: str) -> str: ...

    def stream(self, model: str) -> Iterator[str]: ...

    async def acall(self, model: str) -> str: ...

    def astream(self, model: str) -> AsyncIterator[str]: ...


class _Sdk:
    """The SDK alone, without its retries."""

    def __init__(self, url: str) -> None:
        import openai

        self._sync = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
        self._async = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
        self._asked: Any = [{"role": "user", "content": PROMPT}]

    def call(self, model: str) -> str:
        answer = self._sync.chat.completions.create(model=model, messages=self._asked)
        return answer.choices[0].message.content or ""

    def stream(self, model: str) -> Iterator[str]:
        for chunk in self._sync.chat.completions.create(
            model=model, messages=self._asked, stream=True
        ):
            if text := chunk.choices[0].delta.content:
                yield text

    async def acall(self, model: str) -> str:
        answer = await self._async.chat.completions.create(model=model, messages=self._asked)
        return answer.choices[0].message.content or ""

    async def astream(self, model: str) -> AsyncIterator[str]:
        async for chunk in await self._async.chat.completions.create(
            model=model, messages=self._asked, stream=True
        ):
            if text := chunk.choices[0].delta.content:
                yield text


class _Agentkit:
    """agentkit with retries, breaker, deadline, ledger and telemetry, over a transport."""

    def __init__(self, url: str, transport: Any, telemetry: Any = None) -> None:
        from agentkit import LLMManager, provider_for

        self._llm = LLMManager(enable_caching=False, telemetry=telemetry)
        for model in ("m", "s61", "s400", "paced", "open"):
            provider = provider_for(
                f"openai:{model}", api_key="none", base_url=url, transport=transport
            )
            self._llm.register_model(model, provider)

    def call(self, model: str) -> str:
        return self._llm.complete(PROMPT, model=model).text

    def stream(self, model: str) -> Iterator[str]:
        return self._llm.stream(PROMPT, model=model)

    async def acall(self, model: str) -> str:
        return (await self._llm.acomplete(PROMPT, model=model)).text

    def astream(self, model: str) -> AsyncIterator[str]:
        return self._llm.astream(PROMPT, model=model)


def _check(answer: Sized) -> None:
    if len(answer) < 50:
        raise RuntimeError(f"an answer came out wrong: {answer!r}")


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
    "library": lambda url: Libraries(url, PROMPT),
    "floor": lambda url: Floor(url, PROMPT),
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

        async def ado() -> None:
            answer = method(work.model)
            _check([each async for each in answer] if "stream" in work.method else await answer)

        async def run() -> tuple[float, float]:
            await _all_at_once(ado, concurrency, 2 * concurrency)
            began = time.perf_counter(), time.process_time()
            await _all_at_once(ado, concurrency, count)
            return time.perf_counter() - began[0], time.process_time() - began[1]

        wall, cpu = asyncio.run(run())
    else:

        def do() -> None:
            answer = method(work.model)
            _check(list(answer) if "stream" in work.method else answer)

        _in_threads(do, concurrency, 2 * concurrency)
        began = time.perf_counter(), time.process_time()
        _in_threads(do, concurrency, count)
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return {"cpu": cpu / count * 1e6, "wall": wall / count * 1e6}


def _lag(contender: Contender, concurrency: int) -> dict[str, float]:
    """Milliseconds from a chunk's departure to its arrival at the caller, and CPU for each."""
    lags: list[float] = []

    async def read() -> None:
        lags.extend(
            [
                time.monotonic() - float(text)
                async for text in contender.astream("paced")
                if text[-1].isdigit()  # the server's clock
            ]
        )

    async def run() -> None:
        await asyncio.gather(*(read() for _ in range(concurrency)))

    began = time.process_time()
    asyncio.run(run())
    cpu = time.process_time() - began
    lags.sort()
    return {
        "p50": 1000 * lags[len(lags) // 2],
        "p99": 1000 * lags[int(len(lags) * 0.99)],
        "cpu": cpu / len(lags) * 1e6,
    }


def _memory(contender: Contender, count: int) -> dict[str, float]:
    """The mebibytes that `count` open streams take."""

    async def run() -> float:
        async def opened() -> AsyncIterator[str]:
            """A stream of which one piece was read."""
            stream = contender.astream("open")
            await anext(stream)
            return stream

        kept = [await opened() for _ in range(10)]
        before = _resident()
        for _ in range(count // 50):
            kept += await asyncio.gather(*(opened() for _ in range(50)))
        taken = _resident() - before
        sys.stdout.write(json.dumps({"mebibytes": taken / 2**20}))
        sys.stdout.flush()
        os._exit(0)  # a thousand streams take long to close

    asyncio.run(run())
    return {}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    name, work, concurrency, count, url = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # the server has the first processor
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    made = CONTENDERS[name](url)
    if work == "memory":
        _memory(made, int(count))
    if work == "paced":
        figures = _lag(made, int(concurrency))
    else:
        figures = _measured(made, WORKS[work], int(concurrency), int(count))
    sys.stdout.write(json.dumps(figures))
