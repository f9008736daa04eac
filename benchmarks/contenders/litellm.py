"""LiteLLM's Router with its defaults: two retries, then the fallback model."""

# mypy: disable-error-code="import-not-found, misc"
# The peer lives in its own environment, where types are not checked.

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its price list, without asking the network

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import litellm
from litellm import CustomLLM, Router
from litellm.llms.custom_llm import CustomLLMError

from benchmarks import measure
from benchmarks.measure import ATTEMPT_TIMEOUT, SILENCE, UPSTREAM, Figures

DELAYS = {"trivial": 0.0, "slow": UPSTREAM, "dead": UPSTREAM, "silent": SILENCE}
SEEN: Counter[str] = Counter()


class Upstream(CustomLLM):
    """A provider without a network; like a network client, it keeps the timeout it is given."""

    def completion(self, *args: Any, model_response: Any, **kwargs: Any) -> Any:
        model_response.choices[0].message.content = "ok"
        return model_response

    async def acompletion(self, model: str, *args: Any, model_response: Any, **kwargs: Any) -> Any:
        SEEN[model] += 1
        if delay := DELAYS[model]:
            try:
                async with asyncio.timeout(kwargs["timeout"]):
                    await asyncio.sleep(delay)
            except TimeoutError:
                raise CustomLLMError(408, "timed out") from None
        if model == "dead":
            raise CustomLLMError(503, "down")
        model_response.choices[0].message.content = "ok"
        return model_response

    async def astreaming(self, model: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        SEEN[model] += 1
        await asyncio.sleep(DELAYS[model])
        for text, finish in (("o", None), ("k", None), ("", "stop")):
            yield {
                "text": text,
                "is_finished": finish is not None,
                "finish_reason": finish,
                "index": 0,
                "tool_use": None,
                "usage": None,
            }


litellm.custom_provider_map = [{"provider": "local", "custom_handler": Upstream()}]
litellm.suppress_debug_info = True


def router(**options: Any) -> Any:
    models = [{"model_name": m, "litellm_params": {"model": f"local/{m}"}} for m in DELAYS]
    fallbacks = [{"trivial": ["slow"]}, {"dead": ["slow"]}, {"silent": ["slow"]}]
    return Router(model_list=models, fallbacks=fallbacks, **options)


def asking(text: str = "hi") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def overhead() -> Figures:
    routes = router()

    async def other() -> Figures:
        return await measure.aeach(lambda _: routes.acompletion("trivial", asking()), count=100)

    return measure.sync_and_async(
        measure.each(lambda _: routes.completion("trivial", asking()), count=100),
        asyncio.run(other()),
    )


def telemetry() -> Figures:
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

    from benchmarks.recording import providers

    tracing, metering = providers()
    config = OpenTelemetryConfig(exporter="none", enable_metrics=True, skip_set_global=True)
    watcher = OpenTelemetry(config=config, tracer_provider=tracing, meter_provider=metering)
    litellm.callbacks = [watcher]
    return overhead()


def throughput() -> Figures:
    routes = router()
    return asyncio.run(measure.throughput(lambda _: routes.acompletion("slow", asking())))


def dead_primary() -> Figures:
    routes = router()
    return asyncio.run(
        measure.dead_primary(
            lambda i: routes.acompletion("dead", asking(str(i))), lambda: SEEN["dead"]
        )
    )


def silent_primary() -> Figures:
    routes = router(timeout=ATTEMPT_TIMEOUT)
    return asyncio.run(
        measure.silent_primary(
            lambda: routes.acompletion("silent", asking()), lambda: SEEN["silent"]
        )
    )


def identical() -> Figures:
    async def complete() -> int:
        routes = router(cache_responses=True)
        SEEN.clear()
        await measure.crowd(lambda _: routes.acompletion("slow", asking()), 100, 100)
        return SEEN["slow"]

    async def streaming() -> int:
        routes = router(cache_responses=True)
        SEEN.clear()

        async def read(_: int) -> None:
            async for _chunk in await routes.acompletion("slow", asking("stream"), stream=True):
                pass

        await measure.crowd(read, 100, 100)
        return SEEN["slow"]

    return measure.identical(complete(), streaming())


def _hits(prompts: int) -> Figures:
    async def other() -> Figures:
        routes = router(cache_responses=True)
        for index in range(prompts):
            await routes.acompletion("trivial", asking(str(index)))
        await asyncio.sleep(1)  # it stores in the background
        SEEN.clear()
        figures = await measure.aeach(
            lambda i: routes.acompletion("trivial", asking(str(i % prompts))), count=prompts
        )
        if SEEN["trivial"]:
            raise RuntimeError(f"{SEEN['trivial']} of the calls were not hits")
        return figures

    hits = asyncio.run(other())
    return {"async_p50_us": hits["p50"], "async_p99_us": hits["p99"]}


def memory_hit() -> Figures:
    litellm.cache = litellm.Cache(type="local")
    return _hits(100)


def disk_hit() -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        litellm.cache = litellm.Cache(type="disk", disk_cache_dir=directory)
        return _hits(100)


def sdk() -> Figures:
    from benchmarks.sdk import ASKED, URL, bare

    async def run() -> Figures:
        parameters = {"model": "openai/m", "api_base": URL, "api_key": "none"}
        routes = Router(model_list=[{"model_name": "m", "litellm_params": parameters}])

        async def stream() -> object:
            chunks = await routes.acompletion("m", ASKED, stream=True)
            return [chunk async for chunk in chunks]

        bare_call, bare_stream = bare()
        return await measure.against_sdk(
            lambda: routes.acompletion("m", ASKED), bare_call, stream, bare_stream
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
            "memory-hit": memory_hit,
            "disk-hit": disk_hit,
            "weight": lambda: measure.weight("from litellm import Router", "litellm"),
        },
        "litellm",
    )
