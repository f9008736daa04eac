"""Clocks of the drivers: the current time, and waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from agentkit._fork import WakeSignal
from agentkit.types import Clock, Signal


class SystemClock:
    """The system clock, or another function that returns the time, with real waits."""

    __slots__ = ("now",)

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        """Seconds from an arbitrary start, never going back."""

    def sleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Block the calling thread for `seconds`. Returns True if `until` fired first."""
        if until is None:
            time.sleep(seconds)
            return False
        wakeup = ThreadWakeup()
        until.subscribe(wakeup.set)
        try:
            return wakeup.wait(seconds)
        finally:
            until.unsubscribe(wakeup.set)

    async def asleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Like `sleep`, for asyncio."""
        if until is None:
            await asyncio.sleep(seconds)
            return False
        wakeup = Wakeup()
        until.subscribe(wakeup.set)
        try:
            return await wakeup.wait(seconds)
        finally:
            until.unsubscribe(wakeup.set)


def as_clock(clock: Clock | Callable[[], float] | None) -> Clock:
    """Return `clock`, or a clock with real waits for a function such as `time.monotonic`."""
    if clock is None:
        return SystemClock()
    if isinstance(clock, Clock):
        return clock
    return SystemClock(clock)


def finite(seconds: float | None) -> float | None:
    """`seconds` as `threading` accepts them: None for what is longer than it can wait."""
    return None if seconds is None or seconds > threading.TIMEOUT_MAX else seconds


class ThreadWakeup:
    """Wakes one thread, from any thread.

    Its methods may interrupt each other in the same thread: the garbage collector may release what
    this very thread begins to wait for.
    """

    __slots__ = ("_signal", "is_set")

    def __init__(self) -> None:
        self._signal = WakeSignal()
        self.is_set = False

    def set(self) -> None:
        """Wake the thread."""
        self.is_set = True
        self._signal.set()

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is set, at most `seconds`; whether it was set."""
        if not self.is_set:
            self._signal.wait(finite(seconds))
        return self.is_set


class Wakeup:
    """Wakes a coroutine, from any thread."""

    __slots__ = ("_future", "_loop", "_thread", "is_set")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self.is_set = False

    def set(self) -> None:
        """Wake the coroutine. Does nothing if its event loop is closed."""
        self.is_set = True
        try:
            if threading.get_ident() == self._thread:
                self._settle()
            else:
                self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            pass

    def _settle(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None) -> bool:
        """Wait for at most `seconds` until it is set. Returns whether it is."""
        if self.is_set:
            return True
        timer = None if seconds is None else self._loop.call_later(seconds, self._settle)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
        if not self.is_set:
            self._future = self._loop.create_future()
        return self.is_set
