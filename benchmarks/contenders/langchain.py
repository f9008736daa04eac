"""LangChain's core: `with_retry` and `with_fallbacks` around a chat model, an in-memory cache."""

# mypy: disable-error-code="import-not-found, misc"
# The peer lives in its own environment, where types are not checked.

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from benchmarks import measure
from benchmarks.measure import ATTEMPT_TIMEOUT, SILENCE, UPSTREAM, Figures, ServiceUnavailableError

SEEN: Counter[str] = Counter()


def _result() -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage("ok"))])


class Upstream(BaseChatModel):
    """A provider without a network; like a network client, it enforces its timeout."""

    name: str
    delay: float = 0.0
    failing: bool = False
    timeout: float | None = None

    @property
    def _llm_type(self) -> str:
        return "local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"name": self.name}

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        SEEN[self.name] += 1
        return _result()

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        SEEN[self.name] += 1
        if self.delay:
            async with asyncio.timeout(self.timeout):
                await asyncio.sleep(self.delay)
        if self.failing:
            raise ServiceUnavailableError("down")
        return _result()


class Streaming(Upstream):
    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        SEEN[self.name] += 1
        await asyncio.sleep(self.delay)
        for text in ("o", "k"):
            yield ChatGenerationChunk(message=AIMessageChunk(text))


def backed(primary: Upstream) -> Any:
    backup = Upstream(name="backup", delay=UPSTREAM)
    return primary.with_retry(stop_after_attempt=3).with_fallbacks([backup])


def overhead() -> Figures:
    model = backed(Upstream(name="trivial"))

    async def other() -> Figures:
        return await measure.aeach(lambda _: model.ainvoke("hi"), count=200)

    return measure.sync_and_async(
        measure.each(lambda _: model.invoke("hi"), count=200), asyncio.run(other())
    )


def throughput() -> Figures:
    model = backed(Upstream(name="slow", delay=UPSTREAM))
    return asyncio.run(measure.throughput(lambda _: model.ainvoke("hi")))


def dead_primary() -> Figures:
    model = backed(Upstream(name="dead", delay=UPSTREAM, failing=True))
    return asyncio.run(measure.dead_primary(lambda i: model.ainvoke(str(i)), lambda: SEEN["dead"]))


def silent_primary() -> Figures:
    model = backed(Upstream(name="silent", delay=SILENCE, timeout=ATTEMPT_TIMEOUT))
    return asyncio.run(measure.silent_primary(lambda: model.ainvoke("hi"), lambda: SEEN["silent"]))


def identical() -> Figures:
    async def complete() -> int:
        model = Upstream(name="slow", delay=UPSTREAM, cache=InMemoryCache())
        SEEN.clear()
        await measure.crowd(lambda _: model.ainvoke("hi"), 100, 100)
        return SEEN["slow"]

    async def streaming() -> int:
        model = Streaming(name="slow", delay=UPSTREAM, cache=InMemoryCache())

        async def read(_: int) -> None:
            async for _chunk in model.astream("hi"):
                pass

        SEEN.clear()
        await measure.crowd(read, 100, 100)
        return SEEN["slow"]

    return measure.identical(complete(), streaming())


def memory_hit() -> Figures:
    model = Upstream(name="cached", cache=InMemoryCache())
    for index in range(100):
        model.invoke(str(index))
    SEEN.clear()

    async def other() -> Figures:
        return await measure.aeach(lambda i: model.ainvoke(str(i % 100)), count=200)

    figures = measure.sync_and_async(
        measure.each(lambda i: model.invoke(str(i % 100)), count=200), asyncio.run(other())
    )
    if SEEN["cached"]:
        raise RuntimeError(f"{SEEN['cached']} of the calls were not hits")
    return figures


if __name__ == "__main__":
    measure.report(
        {
            "overhead": overhead,
            "telemetry": "does not record OpenTelemetry itself",
            "throughput": throughput,
            "dead-primary": dead_primary,
            "silent-primary": silent_primary,
            "sdk": "its core does not include providers",
            "identical-calls": identical,
            "memory-hit": memory_hit,
            "disk-hit": "its core has no response cache on disk",
            "weight": lambda: measure.weight(
                "from langchain_core.language_models import BaseChatModel", "langchain-core"
            ),
        },
        "langchain-core",
    )
