"""pydantic-ai's FallbackModel over FunctionModels.

A FunctionModel is asked once: retrying is left to the vendor's client, which is not in this run.
"""

# ruff: noqa: ARG001 - a model function has its two parameters, read or not
# mypy: disable-error-code="import-not-found, misc"
# The peer lives in its own environment, where types are not checked.

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import direct
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel

from benchmarks import measure
from benchmarks.measure import ATTEMPT_TIMEOUT, SILENCE, UPSTREAM, Figures

SEEN: Counter[str] = Counter()


def trivial(messages: Any, info: Any) -> ModelResponse:
    return ModelResponse(parts=[TextPart("ok")])


async def atrivial(messages: Any, info: Any) -> ModelResponse:
    return ModelResponse(parts=[TextPart("ok")])


async def slow(messages: Any, info: Any) -> ModelResponse:
    SEEN["slow"] += 1
    await asyncio.sleep(UPSTREAM)
    return ModelResponse(parts=[TextPart("ok")])


async def slow_stream(messages: Any, info: Any) -> AsyncIterator[str]:
    SEEN["slow"] += 1
    await asyncio.sleep(UPSTREAM)
    for text in ("o", "k"):
        yield text


async def dead(messages: Any, info: Any) -> ModelResponse:
    SEEN["dead"] += 1
    await asyncio.sleep(UPSTREAM)
    raise ModelHTTPError(503, "dead", "down")


async def silent(messages: Any, info: Any) -> ModelResponse:
    SEEN["silent"] += 1
    await asyncio.sleep(SILENCE)
    return ModelResponse(parts=[TextPart("late")])


def backed(function: Any) -> FallbackModel:
    return FallbackModel(FunctionModel(function), FunctionModel(slow, stream_function=slow_stream))


def asking(text: str = "hi") -> list[Any]:
    return [ModelRequest.user_text_prompt(text)]


def _overhead(instrument: Any) -> Figures:
    blocking, other = backed(trivial), backed(atrivial)

    async def run() -> Figures:
        return await measure.aeach(
            lambda _: direct.model_request(other, asking(), instrument=instrument)
        )

    return measure.sync_and_async(
        measure.each(
            lambda _: direct.model_request_sync(blocking, asking(), instrument=instrument)
        ),
        asyncio.run(run()),
    )


def overhead() -> Figures:
    return _overhead(instrument=False)


def telemetry() -> Figures:
    from pydantic_ai.models.instrumented import InstrumentationSettings

    from benchmarks.recording import providers

    tracing, metering = providers()
    return _overhead(InstrumentationSettings(tracer_provider=tracing, meter_provider=metering))


def throughput() -> Figures:
    model = backed(slow)
    return asyncio.run(measure.throughput(lambda _: direct.model_request(model, asking())))


def dead_primary() -> Figures:
    model = backed(dead)
    return asyncio.run(
        measure.dead_primary(
            lambda i: direct.model_request(model, asking(str(i))), lambda: SEEN["dead"]
        )
    )


def silent_primary() -> Figures:
    model = backed(silent)
    return asyncio.run(
        measure.silent_primary(
            lambda: direct.model_request(
                model, asking(), model_settings={"request_timeout": ATTEMPT_TIMEOUT}
            ),
            lambda: SEEN["silent"],
        )
    )


def identical() -> Figures:
    model = FunctionModel(slow, stream_function=slow_stream)

    async def complete() -> int:
        SEEN.clear()
        await measure.crowd(lambda _: direct.model_request(model, asking()), 100, 100)
        return SEEN["slow"]

    async def streaming() -> int:
        async def read(_: int) -> None:
            async with direct.model_request_stream(model, asking()) as stream:
                async for _event in stream:
                    pass

        SEEN.clear()
        await measure.crowd(read, 100, 100)
        return SEEN["slow"]

    return measure.identical(complete(), streaming())


def sdk() -> Figures:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from benchmarks.sdk import URL, bare

    async def run() -> Figures:
        provider = OpenAIProvider(base_url=URL, api_key="none")
        model = FallbackModel(OpenAIChatModel("m", provider=provider))

        async def stream() -> object:
            async with direct.model_request_stream(model, asking()) as stream:
                return [event async for event in stream]

        bare_call, bare_stream = bare()
        return await measure.against_sdk(
            lambda: direct.model_request(model, asking()), bare_call, stream, bare_stream
        )

    return asyncio.run(run())


if __name__ == "__main__":
    measure.report(
        {
            "overhead": overhead,
            "telemetry": telemetry,
            "throughput": throughput,
            "dead-primary": dead_primary,
            "silent-primary": silent_primary,
            "sdk": sdk,
            "identical-calls": identical,
            "memory-hit": "has no response cache",
            "disk-hit": "has no response cache",
            "weight": lambda: measure.weight(
                "from pydantic_ai.models.fallback import FallbackModel", "pydantic-ai-slim"
            ),
        },
        "pydantic-ai-slim",
    )
