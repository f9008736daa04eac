"""Clocks for tests and benchmarks in which real threads wait."""

from __future__ import annotations

import asyncio
import threading
import time

from agentkit.types import Signal


class FastClock:
    """A clock that runs `speed` times as fast as the real one. A wait just looks again."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began = time.monotonic()

    def __call__(self) -> float:
        return (time.monotonic() - self._began) * self._speed

    now = __call__

    def sleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Time passes anyway; a signal is waited for a moment."""
        if until is None:
            return False
        fired = threading.Event()
        until.subscribe(fired.set)
        try:
            return fired.wait(0.02)
        finally:
            until.unsubscribe(fired.set)

    async def asleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Time passes anyway."""
        await asyncio.sleep(0)
        return False
