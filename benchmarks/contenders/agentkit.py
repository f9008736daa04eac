"""agentkit with its defaults: retries, breakers, a fallback chain, deadlines, telemetry."""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from agentkit import LLMManager
from benchmarks import measure
from benchmarks.measure import ATTEMPT_TIMEOUT, SILENCE, UPSTREAM, Figures, ServiceUnavailableError

SEEN: Counter[str] = Counter()
Options = dict[str, Any]


def trivial(prompt: str, kwargs: Options) -> str:
    SEEN["trivial"] += 1
    return "ok"


async def atrivial(prompt: str, kwargs: Options) -> str:
    SEEN["trivial"] += 1
    return "ok"


async def slow(prompt: str, kwargs: Options) -> str:
    SEEN["slow"] += 1
    await asyncio.sleep(UPSTREAM)
    return "ok"


async def slow_stream(prompt: str, kwargs: Options) -> AsyncIterator[str]:
    SEEN["slow"] += 1
    await asyncio.sleep(UPSTREAM)
    for text in ("o", "k"):
        yield text


async def dead(prompt: str, kwargs: Options) -> str:
    SEEN["dead"] += 1
    await asyncio.sleep(UPSTREAM)
    raise ServiceUnavailableError("down")


async def silent(prompt: str, kwargs: Options) -> str:
    SEEN["silent"] += 1
    await asyncio.sleep(SILENCE)
    return "late"


def backed(primary: Callable[..., Any], timeout: float | None = None, **options: Any) -> LLMManager:
    """A manager that calls `primary`, then a healthy model that takes 50 ms."""
    manager = LLMManager(**options)
    manager.register_model("primary", primary, timeout=timeout)
    manager.register_model("backup", slow)
    manager.set_active_model("primary")
    manager.set_fallback_chain(["backup"])
    return manager


def _overhead(**options: Any) -> Figures:
    async def other() -> Figures:
        async with backed(atrivial, enable_caching=False, **options) as manager:
            return await measure.aeach(lambda _: manager.agenerate("hi"))

    with backed(trivial, enable_caching=False, **options) as manager:
        blocking = measure.each(lambda _: manager.generate("hi"))
    return measure.sync_and_async(blocking, asyncio.run(other()))


def telemetry() -> Figures:
    from agentkit import Telemetry
    from benchmarks.recording import providers

    tracing, metering = providers()
    return _overhead(telemetry=Telemetry(tracer_provider=tracing, meter_provider=metering))


def throughput() -> Figures:
    async def run() -> Figures:
        async with backed(slow, enable_caching=False) as manager:
            return await measure.throughput(lambda _: manager.agenerate("hi"))

    return asyncio.run(run())


def dead_primary() -> Figures:
    async def run() -> Figures:
        async with backed(dead, enable_caching=False) as manager:
            return await measure.dead_primary(
                lambda i: manager.agenerate(str(i)), lambda: SEEN["dead"]
            )

    return asyncio.run(run())


def silent_primary() -> Figures:
    async def run() -> Figures:
        async with backed(silent, timeout=ATTEMPT_TIMEOUT, enable_caching=False) as manager:
            return await measure.silent_primary(
                lambda: manager.agenerate("hi"), lambda: SEEN["silent"]
            )

    return asyncio.run(run())


def identical() -> Figures:
    async def complete() -> int:
        SEEN.clear()
        async with backed(slow, cache="memory") as manager:
            await measure.crowd(lambda _: manager.agenerate("hi"), 100, 100)
        return SEEN["slow"]

    async def streaming() -> int:
        SEEN.clear()
        async with backed(slow_stream, cache="memory") as manager:

            async def read(_: int) -> None:
                async with manager.astream("hi") as stream:
                    if "".join([text async for text in stream]) != "ok":
                        raise RuntimeError("a stream came out wrong")

            await measure.crowd(read, 100, 100)
        return SEEN["slow"]

    return measure.identical(complete(), streaming())


def _only_hits(figures: Figures) -> Figures:
    if SEEN["trivial"]:
        raise RuntimeError(f"{SEEN['trivial']} of the calls were not hits")
    return figures


def memory_hit() -> Figures:
    async def other() -> Figures:
        async with backed(atrivial, cache="memory") as manager:
            for index in range(100):
                await manager.agenerate(str(index))
            SEEN.clear()
            return _only_hits(await measure.aeach(lambda i: manager.agenerate(str(i % 100))))

    with backed(trivial, cache="memory") as manager:
        for index in range(100):
            manager.generate(str(index))
        SEEN.clear()
        blocking = _only_hits(measure.each(lambda i: manager.generate(str(i % 100))))
    return measure.sync_and_async(blocking, asyncio.run(other()))


def disk_hit() -> Figures:
    """Each prompt is sent once to a new manager, whose memory tier holds no answer yet."""
    count, rounds = 400, 7

    async def other(directory: str) -> Figures:
        async with backed(atrivial, cache_dir=directory) as manager:
            for index in range(count * (rounds + 1)):
                await manager.agenerate(str(index))
                if index % 200 == 199:
                    await asyncio.sleep(0.2)  # in asyncio a thread behind a bounded queue writes
        SEEN.clear()
        async with backed(atrivial, cache_dir=directory) as manager:
            return _only_hits(
                await measure.aeach(lambda i: manager.agenerate(str(i)), count, rounds)
            )

    with tempfile.TemporaryDirectory() as directory:
        with backed(trivial, cache_dir=directory) as manager:
            for index in range(count * (rounds + 1)):
                manager.generate(str(index))
        SEEN.clear()
        with backed(trivial, cache_dir=directory) as manager:
            blocking = _only_hits(measure.each(lambda i: manager.generate(str(i)), count, rounds))
        return measure.sync_and_async(blocking, asyncio.run(other(directory)))


def sdk() -> Figures:
    from agentkit.providers.openai import OpenAIChat
    from benchmarks.sdk import URL, bare

    async def run() -> Figures:
        model = OpenAIChat("m", api_key="none", base_url=URL)
        async with LLMManager(enable_caching=False) as manager:
            manager.register_model("m", model)

            async def stream() -> object:
                async with manager.astream("hi") as stream:
                    return [text async for text in stream]

            bare_call, bare_stream = bare()
            figures = await measure.against_sdk(
                lambda: manager.agenerate("hi"), bare_call, stream, bare_stream
            )
            await model.aclose()
        return figures

    return asyncio.run(run())


if __name__ == "__main__":
    from benchmarks import bedrock, limits, scale, soak

    measure.report(
        {
            "overhead": _overhead,
            "telemetry": telemetry,
            "throughput": throughput,
            "dead-primary": dead_primary,
            "silent-primary": silent_primary,
            "sdk": sdk,
            "identical-calls": identical,
            "memory-hit": memory_hit,
            "disk-hit": disk_hit,
            "weight": lambda: measure.weight("from agentkit import LLMManager", "agentkit-llms"),
            "limits": limits.limits,
            "bedrock": bedrock.bedrock,
            "soak": soak.soak,
            "scale": scale.scale,
        },
        "agentkit-llms",
    )
