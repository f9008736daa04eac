"""100,000 calls through faults of every kind, and what they leave.

    python -m benchmarks.soak [--calls 100000] [--warm-up 100000]

Threads, tasks, signal handlers and forked children call models that fail, while models are replaced
and the garbage collector closes forgotten streams.
"""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import gc
import logging
import os
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from agentkit import BreakerPolicy, LLMError, LLMManager, RetryPolicy
from benchmarks.disturbances import ON_SIGNAL, Outage, disturb
from benchmarks.leftovers import CountedBudget, Leftovers
from benchmarks.measure import Figures, ServiceUnavailableError
from benchmarks.server import served
from benchmarks.tally import Tally

CALLS = 100_000
WARM_UP = 100_000
THREADS = 8
TASKS = 32
PERMITS = 6  # max_concurrency of each model
MODELS = ("blocking", "asyncio", "cancelling", "replaced", "chunks", "backup")
ASKED = MODELS[:4]
WIRE = "wire"

_FAULTS = (
    ServiceUnavailableError("down"),
    ConnectionResetError("reset"),
    TimeoutError("slow"),
    ValueError("neutral"),
    TypeError("a bug"),
)
TALLY = Tally()


def _misbehave() -> str | None:
    """During the outage, one call in ten fails: it raises, or returns None."""
    if Outage.on and random.random() < 0.1:
        fault = random.choice((*_FAULTS, None))
        if fault is not None:
            raise type(fault)(*fault.args)
        return None
    return "answer " * 8


def blocking(prompt: str, kwargs: dict[str, Any]) -> str | None:
    if Outage.on and random.random() < 0.002:
        time.sleep(0.06)  # longer than its timeout: abandoned
    return _misbehave()


async def on_the_loop(prompt: str, kwargs: dict[str, Any]) -> str | None:
    if Outage.on and random.random() < 0.005:
        await asyncio.sleep(5)  # cancelled at its timeout
    await asyncio.sleep(0)
    return _misbehave()


async def cancelling(prompt: str, kwargs: dict[str, Any]) -> str | None:
    """During the outage, one call in ten is cancelled from within."""
    if Outage.on and (dice := random.random()) < 0.1:
        TALLY.count("cancelled from within")
        if dice < 0.03:
            raise asyncio.CancelledError
        if dice < 0.06:
            raise concurrent.futures.CancelledError
        helper = asyncio.ensure_future(asyncio.sleep(5))
        asyncio.get_running_loop().call_soon(helper.cancel)
        await helper
    return _misbehave()


async def chunks(prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
    for _ in range(5):
        if Outage.on and (dice := random.random()) < 0.025:
            if dice < 0.005:
                TALLY.count("cancelled from within")
                raise asyncio.CancelledError
            raise ServiceUnavailableError("broken off")
        yield "chunk "


def backup(prompt: str, kwargs: dict[str, Any]) -> str:
    return "backup"


def _manager(directory: str, budget: CountedBudget) -> LLMManager:
    quick = RetryPolicy(base_delay=0.0005, max_delay=0.002)
    manager = LLMManager(
        retry=quick,
        breaker=BreakerPolicy(recovery_timeout=0.02),
        cache_dir=directory,
        cache_ttl=0.5,
        deadline=30.0,
        budget=budget,
    )
    functions = (blocking, on_the_loop, cancelling, blocking, chunks, backup)
    for name, function in zip(MODELS, functions, strict=True):
        manager.register_model(
            name, function, {"version": "1"}, timeout=0.05, max_concurrency=PERMITS
        )
    manager.register_model(ON_SIGNAL, backup, {"version": "1"})
    manager.register_model(WIRE, "openai:model", max_concurrency=PERMITS)
    manager.set_fallback_chain(["backup"])
    return manager


def _replace(manager: LLMManager, turn: int) -> None:
    """Replace a model beside the calls that use it, now and then one with open connections."""
    if turn % 20:
        function = random.choice((blocking, on_the_loop, cancelling))
        limit = PERMITS if turn % 2 else None
        manager.register_model(
            "replaced",
            function,
            {"version": "1"},
            timeout=0.05,
            max_concurrency=limit,
            replace=True,
        )
    else:
        manager.register_model(WIRE, "openai:model", max_concurrency=PERMITS, replace=True)
    TALLY.count("models replaced")


def _prompt() -> str:
    return f"prompt {random.randrange(500)}" if random.random() < 0.5 else f"{random.random()}"


def _route() -> list[str]:
    first = WIRE if random.random() < 0.01 else random.choice(ASKED)
    return [first, "backup"]


def _in_a_thread(manager: LLMManager, calls: int) -> None:
    for _ in range(calls):
        TALLY.count("calls from threads")
        dice = random.random()
        try:
            if dice < 0.08:
                _leave_early(manager.stream(_prompt(), model=["chunks", "backup"]))
            elif dice < 0.1:
                _forget(manager.stream(_prompt(), model=["chunks", "backup"]))
            else:
                manager.complete(_prompt(), model=_route())
        except LLMError:
            TALLY.count("calls failed")


def _leave_early(stream: Any) -> None:
    with stream:
        parts: Iterator[str] = iter(stream)
        for _ in range(random.randrange(1, 8)):
            if next(parts, None) is None:
                return
    TALLY.count("streams left early")


def _forget(stream: Any) -> None:
    """Begin a stream and leave it to the garbage collector, as a part of a cycle."""
    parts = iter(stream)
    _knot(stream, parts)
    next(parts, None)
    TALLY.count("streams collected")


def _knot(*parts: Any) -> None:
    knot: list[Any] = [*parts]
    knot.append(knot)


async def _in_a_task(manager: LLMManager, calls: int) -> None:
    for _ in range(calls):
        TALLY.count("calls from tasks")
        dice = random.random()
        try:
            if dice < 0.08:
                async with manager.astream(_prompt(), model=["chunks", "backup"]) as stream:
                    async for _text in stream:
                        if random.random() < 0.2:
                            TALLY.count("streams left early")
                            break
            elif dice < 0.1:
                stream = manager.astream(_prompt(), model=["chunks", "backup"])
                parts = aiter(stream)
                _knot(stream, parts)
                await anext(parts, None)
                del stream, parts
                TALLY.count("streams collected")
            elif dice < 0.15:
                task = asyncio.create_task(manager.acomplete(_prompt(), model=_route()))
                await asyncio.sleep(0)
                task.cancel()
                TALLY.count("calls cancelled")
                await asyncio.gather(task, return_exceptions=True)
            else:
                await manager.acomplete(_prompt(), model=_route())
        except LLMError:
            TALLY.count("calls failed")


def _round(manager: LLMManager, calls: int) -> int:
    """Make the calls, half from threads and half from tasks; return the number of tasks left.

    The tasks run in the main thread, where the signal handlers interrupt them. One call in ten is
    a sync call of that thread.
    """
    threads = [
        threading.Thread(target=_in_a_thread, args=(manager, calls // 2 // THREADS))
        for _ in range(THREADS)
    ]

    async def tasks() -> int:
        share = calls * 2 // 5 // TASKS
        await asyncio.gather(*(_in_a_task(manager, share) for _ in range(TASKS)))
        gc.collect()
        await asyncio.sleep(0.2)
        return len(asyncio.all_tasks()) - 1

    with disturb(manager, _replace, ("blocking", "asyncio", "replaced", WIRE), TALLY):
        for thread in threads:
            thread.start()
        left = asyncio.run(tasks())
        _in_a_thread(manager, calls // 10)
        for thread in threads:
            thread.join()
    return left


def _not_recovered(manager: LLMManager) -> int:
    """The number of models whose breaker is not closed after the outage."""
    sick = 0
    for name in (*MODELS, WIRE):
        for _ in range(20):
            try:
                manager.complete(f"after {random.random()}", model=name)
            except LLMError:
                time.sleep(0.02)
            else:
                break
        sick += manager.get_model_info(name)["circuit_breaker_state"] != "closed"
    return sick


def soak(calls: int = CALLS, warm_up: int = WARM_UP) -> Figures:
    """Growth of memory after a warm-up, and counts that should be zero."""
    logging.getLogger("agentkit").setLevel(logging.CRITICAL)  # outages are many and intended
    random.seed(20)
    with served() as url, tempfile.TemporaryDirectory() as directory:
        os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        budget = CountedBudget(tokens=10**12)
        leftovers = Leftovers()
        manager = _manager(directory, budget)
        Outage.on = True
        _round(manager, warm_up)
        leftovers.warmed_up()
        TALLY.take()
        began = time.perf_counter()
        tasks = _round(manager, calls)
        seconds = time.perf_counter() - began
        done = TALLY.take()
        growth = leftovers.growth()
        Outage.on = False
        sick = _not_recovered(manager)
        left = leftovers.inside(manager, budget)
        metrics = manager.get_metrics()
        manager.close()
        left |= leftovers.outside()
    return {
        **growth,
        "tasks_left": tasks,
        **left,
        "models_not_healed": sick,
        "stuck_calls": metrics["stuck_calls"],
        "children_failed": done.pop("children that failed", 0),
        "handlers_failed": done.pop("signal handlers that failed", 0),
        **{what.replace(" ", "_"): times for what, times in done.items()},
        "failed_share": metrics["failed_requests"] / metrics["total_requests"],
        "retries": metrics["total_retries"],
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    options = parser.parse_args()
    figures = soak(options.calls, options.warm_up)
    print("| done or left | figure |\n|---|---|")
    for key, figure in figures.items():
        print(f"| {key.replace('_', ' ')} | {figure:,.6g} |")


if __name__ == "__main__":
    main()
