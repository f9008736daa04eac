"""100,000 calls through faults of every kind, from threads and tasks, and what they leave."""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from agentkit import BreakerPolicy, LLMError, LLMManager, RetryPolicy
from benchmarks.measure import Figures, ServiceUnavailableError

CALLS = 100_000
WARM_UP = 40_000
THREADS = 8
TASKS = 32
PERMITS = 6  # max_concurrency of each model
MODELS = ("blocking", "asyncio", "chunks", "backup")
SICK = threading.Event()

_FAULTS = (
    ServiceUnavailableError("down"),
    ConnectionResetError("reset"),
    TimeoutError("slow"),
    ValueError("neutral"),
    TypeError("a bug"),
)


def _misbehave() -> str | None:
    """During the outage, one call in ten fails: it raises, or returns None."""
    if SICK.is_set() and random.random() < 0.1:
        fault = random.choice((*_FAULTS, None))
        if fault is not None:
            raise type(fault)(*fault.args)
        return None
    return "answer " * 8


def blocking(prompt: str, kwargs: dict[str, Any]) -> str | None:
    if SICK.is_set() and random.random() < 0.002:
        time.sleep(0.06)  # longer than its timeout: abandoned
    return _misbehave()


async def on_the_loop(prompt: str, kwargs: dict[str, Any]) -> str | None:
    if SICK.is_set() and random.random() < 0.005:
        await asyncio.sleep(5)  # cancelled at its timeout
    await asyncio.sleep(0)
    return _misbehave()


async def chunks(prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
    for _ in range(5):
        if SICK.is_set() and random.random() < 0.02:
            raise ServiceUnavailableError("broken off")
        yield "chunk "


def backup(prompt: str, kwargs: dict[str, Any]) -> str:
    return "backup"


def _manager(directory: str) -> LLMManager:
    quick = RetryPolicy(base_delay=0.0005, max_delay=0.002)
    manager = LLMManager(
        retry=quick,
        breaker=BreakerPolicy(recovery_timeout=0.02),
        cache_dir=directory,
        cache_ttl=0.5,
        deadline=30.0,
    )
    for name, function in zip(MODELS, (blocking, on_the_loop, chunks, backup), strict=True):
        manager.register_model(
            name, function, {"version": "1"}, timeout=0.05, max_concurrency=PERMITS
        )
    manager.set_fallback_chain(["backup"])
    return manager


def _prompt() -> str:
    return f"prompt {random.randrange(500)}" if random.random() < 0.5 else f"{random.random()}"


def _in_a_thread(manager: LLMManager, calls: int) -> None:
    for _ in range(calls):
        try:
            if random.random() < 0.1:
                _leave_early(manager.stream(_prompt(), model=["chunks", "backup"]))
            else:
                name = random.choice(MODELS[:3])
                manager.complete(_prompt(), model=[name, "backup"])
        except LLMError:
            pass


def _leave_early(stream: Any) -> None:
    with stream:
        parts: Iterator[str] = iter(stream)
        for _ in range(random.randrange(1, 8)):
            if next(parts, None) is None:
                break


async def _in_a_task(manager: LLMManager, calls: int) -> None:
    for _ in range(calls):
        dice = random.random()
        name = random.choice(MODELS[:3])
        try:
            if dice < 0.1:
                async with manager.astream(_prompt(), model=["chunks", "backup"]) as stream:
                    async for _text in stream:
                        if random.random() < 0.2:
                            break
            elif dice < 0.15:
                task = asyncio.create_task(manager.acomplete(_prompt(), model=[name, "backup"]))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                await manager.acomplete(_prompt(), model=[name, "backup"])
        except LLMError:
            pass


def _round(manager: LLMManager, calls: int) -> int:
    """Make the calls, half from threads and half from tasks; return the number of tasks left."""
    threads = [
        threading.Thread(target=_in_a_thread, args=(manager, calls // 2 // THREADS))
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()

    async def tasks() -> int:
        await asyncio.gather(*(_in_a_task(manager, calls // 2 // TASKS) for _ in range(TASKS)))
        await asyncio.sleep(0.2)
        return len(asyncio.all_tasks()) - 1

    left = asyncio.run(tasks())
    for thread in threads:
        thread.join()
    return left


def _resident() -> float:
    """Resident memory in MB after all free memory was returned to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _not_recovered(manager: LLMManager) -> int:
    """The number of models whose breaker is not closed after the outage."""
    sick = 0
    for name in MODELS:
        for _ in range(20):
            try:
                manager.complete(f"after {random.random()}", model=name)
            except LLMError:
                time.sleep(0.02)
            else:
                break
        sick += manager.get_model_info(name)["circuit_breaker_state"] != "closed"
    return sick


def soak() -> Figures:
    """Growth of resident memory after a warm-up, in MB, and counts that should be zero."""
    logging.getLogger("agentkit").setLevel(logging.CRITICAL)  # outages are many and intended
    random.seed(20)
    threads, descriptors = threading.active_count(), _descriptors()
    with tempfile.TemporaryDirectory() as directory:
        manager = _manager(directory)
        SICK.set()
        _round(manager, WARM_UP)
        before = _resident()
        began = time.perf_counter()
        tasks = _round(manager, CALLS)
        seconds = time.perf_counter() - began
        growth = _resident() - before
        SICK.clear()
        sick = _not_recovered(manager)
        targets = manager.registry.targets.values()
        permits = sum(target.pool.in_use for target in targets if target.pool is not None)
        metrics = manager.get_metrics()
        manager.close()
    gc.collect()
    deadline = time.perf_counter() + 5
    while threading.active_count() > threads and time.perf_counter() < deadline:
        time.sleep(0.01)
    return {
        "growth_mb": growth,
        "threads_left": threading.active_count() - threads,
        "tasks_left": tasks,
        "descriptors_left": _descriptors() - descriptors,
        "permits_left": permits,
        "models_not_healed": sick,
        "stuck_calls": metrics["stuck_calls"],
        "failed_share": metrics["failed_requests"] / metrics["total_requests"],
        "retries": metrics["total_retries"],
        "seconds": seconds,
    }
