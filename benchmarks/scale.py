"""The cost of a call with many models registered and with many calls in flight."""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import asyncio
import gc
from time import process_time
from typing import Any

from agentkit import LLMManager
from benchmarks.measure import Figures, each

MODELS = (1, 100, 10_000)
IN_FLIGHT = (1, 1_000, 10_000)


def scale() -> Figures:
    """Microseconds a call: p50 by registered models, and processor time by calls in flight."""
    figures: Figures = {}
    for models in MODELS:
        figures[f"models_{models}_p50_us"] = _with_models(models)
    for in_flight in IN_FLIGHT:
        figures[f"in_flight_{in_flight}_us"], figures[f"bare_{in_flight}_us"] = _in_flight(
            in_flight
        )
    figures["models_ratio"] = _ratio([figures[f"models_{n}_p50_us"] for n in MODELS])
    own = [figures[f"in_flight_{n}_us"] - figures[f"bare_{n}_us"] for n in IN_FLIGHT]
    figures["in_flight_ratio"] = _ratio(own)
    return figures


def _ratio(costs: list[float]) -> float:
    """The highest cost of the larger sizes, relative to the smallest size."""
    return max(costs[1:]) / costs[0]


def _with_models(models: int) -> float:
    with LLMManager(enable_caching=False) as manager:
        for number in range(models):
            manager.register_model(f"model-{number}", _trivial)
        manager.set_active_model(f"model-{models - 1}")
        manager.set_fallback_chain(["model-0"])
        return each(lambda _: manager.generate("hi"), count=200, rounds=15)["p50"]


def _trivial(prompt: str, kwargs: dict[str, Any]) -> str:
    return "ok"


def _in_flight(in_flight: int) -> tuple[float, float]:
    """Processor microseconds per call with `in_flight` waiting calls, with and without agentkit.

    The waiting calls are all inside the manager, while a fixed number of calls runs through it one
    after another. A waiting call also costs a timer of the loop, which the second figure contains.
    """
    return asyncio.run(_measured(in_flight, managed=True)), asyncio.run(
        _measured(in_flight, managed=False)
    )


async def _measured(in_flight: int, *, managed: bool, calls: int = 300, rounds: int = 15) -> float:
    release = asyncio.Event()

    async def waiting(prompt: str, kwargs: dict[str, Any]) -> str:
        if prompt == "wait":
            await release.wait()
        return "ok"

    async with LLMManager(enable_caching=False) as manager:
        manager.register_model("m", waiting)

        async def ask(prompt: str) -> str:
            if managed:
                return await manager.agenerate(prompt)
            return await waiting(prompt, {})

        others = [asyncio.create_task(ask("wait")) for _ in range(in_flight - 1)]
        await asyncio.sleep(0)
        gc.collect()
        costs = []
        for _ in range(rounds):
            began = process_time()
            for _ in range(calls):
                await ask("hi")
            costs.append((process_time() - began) / calls * 1e6)
        release.set()
        await asyncio.gather(*others)
    return min(costs)
