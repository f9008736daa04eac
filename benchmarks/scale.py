"""What a call costs with many models registered and with many calls in flight."""

# ruff: noqa: ARG001 - a model function has its two parameters, read or not

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
    for flying in IN_FLIGHT:
        figures[f"in_flight_{flying}_us"], figures[f"bare_{flying}_us"] = _in_flight(flying)
    figures["models_ratio"] = _ratio([figures[f"models_{n}_p50_us"] for n in MODELS])
    own = [figures[f"in_flight_{n}_us"] - figures[f"bare_{n}_us"] for n in IN_FLIGHT]
    figures["in_flight_ratio"] = _ratio(own)
    return figures


def _ratio(costs: list[float]) -> float:
    """The dearest of the larger sizes over the smallest size."""
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


def _in_flight(flying: int) -> tuple[float, float]:
    """Processor microseconds a call while `flying` others wait for their model, and without us.

    The waiting calls are all inside the manager; a fixed number of calls then runs through it,
    one after another. Waiting calls cost a timer of the loop too, which the second figure holds.
    """
    return asyncio.run(_measured(flying, managed=True)), asyncio.run(
        _measured(flying, managed=False)
    )


async def _measured(flying: int, *, managed: bool, calls: int = 300, rounds: int = 15) -> float:
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

        others = [asyncio.create_task(ask("wait")) for _ in range(flying - 1)]
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
