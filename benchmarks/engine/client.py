"""One work of the engine, run by its path against the tree that is on the path of Python.

python -P benchmarks/engine/client.py WORK CALLS prints the processor time and the elapsed time of
a call in microseconds. Only names that the earlier release has too are used.
"""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agentkit import LLMManager, Telemetry

WARM_UP = 50
PAUSE = 0.05
"""Seconds that a model of the crowd takes."""
WIDTH = 500

Took = tuple[float, float]


def _answer(prompt: str, kwargs: dict[str, Any]) -> str:
    return "ok"


async def _aanswer(prompt: str, kwargs: dict[str, Any]) -> str:
    return "ok"


async def _slow_answer(prompt: str, kwargs: dict[str, Any]) -> str:
    await asyncio.sleep(PAUSE)
    return "ok"


def _manager(function: Any, **options: Any) -> LLMManager:
    options.setdefault("enable_caching", "cache" in options)
    manager = LLMManager(**options)
    manager.register_model("primary", function, {"version": "1"})
    manager.register_model("backup", function, {"version": "1"})
    manager.set_active_model("primary")
    manager.set_fallback_chain(["backup"])
    return manager


def _with_sdk(run: Callable[..., Took], calls: int, **options: Any) -> Took:
    """`run` with the SDK as an application has it: spans in batches, and a reader of metrics.

    The processor time includes what is sent and collected afterwards, the elapsed time does not.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    exporter.shutdown()  # keeps nothing
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters, **options)

    def collect() -> None:
        tracers.force_flush()
        reader.get_metrics_data()

    cpu, wall = run(calls, telemetry=telemetry)
    later, _ = _timed(collect, calls)
    return cpu + later, wall


def _timed(work: Callable[[], object], calls: int) -> Took:
    # A full collection passes over all that imports left, for 20 ms. Which run it falls into is
    # chance: it comes after a number of objects that depends on how many the tree has.
    gc.collect()
    gc.freeze()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return (time.process_time() - cpu) * 1e6 / calls, (time.perf_counter() - wall) * 1e6 / calls


def _sync(calls: int, **options: Any) -> Took:
    with _manager(_answer, **options) as manager:

        def work(count: int) -> None:
            for _ in range(count):
                manager.generate("hi")

        work(WARM_UP)
        return _timed(lambda: work(calls), calls)


def _async(calls: int, **options: Any) -> Took:
    with asyncio.Runner() as runner:
        manager = _manager(_aanswer, **options)

        async def work(count: int) -> None:
            for _ in range(count):
                await manager.agenerate("hi")

        runner.run(work(WARM_UP))
        took = _timed(lambda: runner.run(work(calls)), calls)
        runner.run(manager.aclose())
    return took


def _disk(calls: int) -> Took:
    """Each response is read from the disk once, by a manager that did not store it."""
    with tempfile.TemporaryDirectory() as directory:
        options: dict[str, Any] = {"cache": "disk", "cache_dir": directory}
        with _manager(_answer, **options) as manager:
            for number in range(calls):
                manager.generate(f"prompt {number}")
        with _manager(_answer, **options) as manager:
            return _timed(lambda: [manager.generate(f"prompt {i}") for i in range(calls)], calls)


def _crowd(calls: int, ask: Callable[[], Awaitable[object]]) -> Took:
    async def worker() -> None:
        for _ in range(calls // WIDTH):
            await ask()

    async def work() -> None:
        await asyncio.gather(*(worker() for _ in range(WIDTH)))

    return _timed(lambda: asyncio.run(work()), calls)


def _crowd_of_manager(calls: int) -> Took:
    with _manager(_slow_answer) as manager:
        return _crowd(calls, lambda: manager.agenerate("hi"))


_ONE_SPAN = {"spans": "attempt", "defer_metrics": True}

WORKS: dict[str, Callable[[int], Took]] = {
    "sync": _sync,
    "async": _async,
    "hit": lambda calls: _sync(calls, cache="memory"),
    "ahit": lambda calls: _async(calls, cache="memory"),
    "disk": _disk,
    "otel": lambda calls: _with_sdk(_sync, calls),
    "aotel": lambda calls: _with_sdk(_async, calls),
    "otel-deferred": lambda calls: _with_sdk(_sync, calls, defer_metrics=True),
    "otel-one-span": lambda calls: _with_sdk(_sync, calls, **_ONE_SPAN),
    "crowd": _crowd_of_manager,
    "crowd-bare": lambda calls: _crowd(calls, lambda: _slow_answer("hi", {})),
}


if __name__ == "__main__":
    cpu, wall = WORKS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({"cpu": cpu, "wall": wall}))
