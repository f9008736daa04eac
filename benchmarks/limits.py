"""The cost of the limiter, and whether 500 concurrent callers can exceed a limit.

Run as `python -m benchmarks.limits`. The targets are at most 5 microseconds to admit a call, and
no request over the limit.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from timeit import repeat
from typing import Any

from agentkit import LLMManager
from agentkit.policy.limits import WINDOW, Admission, Member, Need, Pool, RateLimits, RateWindow
from benchmarks.measure import Figures
from tests.clocks import FastClock

ADMIT_US = 5.0
THREADS, TASKS = 100, 400
PER_MINUTE = 100
SPEED = 200.0  # a minute takes 0.3 s

_NUMBER = 5_000


class Noted(RateWindow):
    """A window that records the time of each admission."""

    def __init__(self, limits: RateLimits) -> None:
        super().__init__(limits)
        self.times: list[float] = []

    def admit(self, need: Need, now: float) -> Admission | None:
        admission = super().admit(need, now)
        if admission is not None:
            self.times.append(admission.at)
        return admission


def limits() -> Figures:
    """Microseconds to admit and release a call, and the most admissions in any minute."""
    fullest = _fullest_minute()
    return {
        "free_us": _microseconds(Member(max_concurrency=5)),
        "limited_us": _microseconds(Member(max_concurrency=5, limits=RateLimits(*[10**9] * 4))),
        "three_keys_us": _microseconds(
            *(Member(max_concurrency=5, limits=RateLimits(*[10**9] * 4)) for _ in range(3))
        ),
        "callers": THREADS + TASKS,
        "limit_per_minute": PER_MINUTE,
        "fullest_minute": fullest,
        "overshoot": max(fullest - PER_MINUTE, 0),
    }


def _microseconds(*members: Member) -> float:
    """`request` and `release` of a pool with capacity and a thousand recent admissions."""
    pool, need, now = Pool(members), Need(100, 100), 0.0

    def once() -> None:
        nonlocal now
        now += WINDOW / 1_000
        pool.request(need, now).release(now)

    return min(repeat(once, number=_NUMBER, repeat=20)) / _NUMBER * 1e6


def _fullest_minute() -> int:
    """The most admissions in any 60 seconds, with 500 concurrent callers."""
    window = Noted(RateLimits(requests_per_minute=PER_MINUTE))
    with LLMManager(cache=None, clock=FastClock(SPEED), deadline=86_400.0, breaker=False) as llm:
        llm.register_model("model", _model, limits=RateLimits(requests_per_minute=PER_MINUTE))
        pool = llm.registry.get("model").pool
        if pool is None:
            raise RuntimeError("a model with limits has a pool")
        pool.members[0].window = window
        _ask_from_all_sides(llm.generate, llm)
    times = window.times
    if len(times) != THREADS + TASKS:
        raise RuntimeError(f"{len(times)} calls were admitted")
    return max(sum(at <= each < at + WINDOW for each in times) for at in times)


async def _model(prompt: str, kwargs: dict[str, Any]) -> str:  # noqa: ARG001 - a model function takes two parameters
    return "ok"


def _ask_from_all_sides(ask: Callable[[str], str], llm: LLMManager) -> None:
    start = threading.Barrier(THREADS + 1)

    def from_thread(number: int) -> str:
        start.wait()
        return ask(f"thread {number}")

    async def from_tasks() -> None:
        start.wait()
        await asyncio.gather(*(llm.agenerate(f"task {number}") for number in range(TASKS)))

    with ThreadPoolExecutor(THREADS) as executor:
        waiting = [executor.submit(from_thread, number) for number in range(THREADS)]
        asyncio.run(from_tasks())
        for each in waiting:
            each.result()


def main() -> None:
    """Measure, print one JSON line, and fail if a target is missed."""
    figures = limits()
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))
    if figures["overshoot"] or figures["limited_us"] > ADMIT_US:
        sys.exit("the limiter misses its target")


if __name__ == "__main__":
    main()
