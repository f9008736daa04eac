"""A clock that moves when a test moves it."""

from __future__ import annotations

import asyncio
import math

from agentkit._fork import fork_safe_lock
from agentkit.engine.drivers.clock import ThreadWakeup, Wakeup
from agentkit.types import Signal

_GRACE = 0.05
"""Real seconds that other threads and tasks have to end a wait before its time is skipped."""


class FakeClock:
    """A clock that moves only when it is advanced. Safe to use from many threads.

    Pass it to a manager or a breaker as `clock=`. Waits use `sleep` and `asleep`, which return
    immediately::

        clock = FakeClock()
        llm = LLMManager(clock=clock)
        ...
        assert clock.sleeps == [1.0, 2.0]

    The time limit of a call that is in progress, such as a sync callable with a timeout, passes in
    real time.

    Args:
        start: the first reading, in seconds (default 1000.0).

    Attributes:
        sleeps: every wait in order, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._start = start
        self._lock = fork_safe_lock()
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        """The present reading, in seconds."""
        return self._now

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now - self._start

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            ValueError: negative or not finite; time does not go back.
        """
        seconds = _checked(seconds)
        with self._lock:
            self._now += seconds

    now = __call__

    def sleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Let `seconds` pass and note them in `sleeps`; True when `until` fired first.

        Raises `ValueError` as `advance` does.
        """
        if until is None:
            self._skip(seconds)
            return False
        wakeup = ThreadWakeup()
        until.subscribe(wakeup.set)
        try:
            if not wakeup.wait(_GRACE):
                self._skip(seconds)
            return wakeup.is_set
        finally:
            until.unsubscribe(wakeup.set)

    async def asleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Like `sleep`, for asyncio; other tasks run before it returns."""
        if until is None:
            self._skip(seconds)
            await asyncio.sleep(0)
            return False
        wakeup = Wakeup()
        until.subscribe(wakeup.set)
        try:
            if not await wakeup.wait(_GRACE):
                self._skip(seconds)
                await asyncio.sleep(0)
            return wakeup.is_set
        finally:
            until.unsubscribe(wakeup.set)

    def _skip(self, seconds: float) -> None:
        seconds = _checked(seconds)
        with self._lock:
            self._now += seconds
            self.sleeps.append(seconds)

    def __repr__(self) -> str:
        return f"<FakeClock {self._now:g} s, {self.elapsed:g} s after its start>"


def _checked(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        msg = f"a clock moves forward by a finite number of seconds, not {seconds!r}"
        raise ValueError(msg)
    return seconds
