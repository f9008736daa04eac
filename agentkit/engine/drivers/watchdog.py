"""Time limits of calls in their caller's own thread, which only another thread can end."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from agentkit._fork import WakeSignal, fork_safe_lock, on_fork

log = logging.getLogger("agentkit.engine")

IDLE_SECONDS = 30.0
"""A thread that watches nothing ends after this time."""


class Watch:
    """The time limit of one wait after another; at its end, `cancel` is called once."""

    __slots__ = ("_cancel", "_watchdog", "due", "expired")

    def __init__(self, watchdog: Watchdog, cancel: Callable[[], None]) -> None:
        self._watchdog = watchdog
        self._cancel = cancel
        self.due = math.inf
        self.expired = False
        """Whether a time limit ran out; final, as what was cancelled cannot be used again."""

    def start(self, seconds: float | None) -> None:
        """Wait from now on, at most `seconds`."""
        if seconds is not None:
            self.due = time.monotonic() + seconds
            self._watchdog.add(self)

    def stop(self) -> None:
        """The wait is over."""
        self._watchdog.remove(self)

    def expire(self) -> None:
        """Cancel, on the watchdog's thread."""
        self.expired = True
        try:
            self._cancel()
        except Exception:
            log.exception("a call that ran out of time could not be cancelled")


class Watchdog:
    """One daemon thread for all the watches of a manager, started when one is needed.

    Callers take no lock and, unless their limit is the next to run out, wake no thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._reset()
        on_fork(self._reset)

    def _reset(self) -> None:
        self._watches: dict[Watch, None] = {}
        self._wakes = WakeSignal()
        self._lock = fork_safe_lock()
        self._running = False
        """Whether there is a thread."""
        self._wakes_at = math.inf
        self._closed = False

    def watch(self, cancel: Callable[[], None]) -> Watch:
        """A watch that calls `cancel` when a time limit runs out."""
        return Watch(self, cancel)

    def add(self, watch: Watch) -> None:
        """Take the time limit of `watch` into account."""
        self._watches[watch] = None
        if watch.due < self._wakes_at:
            self._wakes.set()
        if not self._running:
            self._start()

    def remove(self, watch: Watch) -> None:
        """Forget `watch`."""
        self._watches.pop(watch, None)

    def _start(self) -> None:
        name = f"agentkit-{self.name}-watchdog"
        try:
            if not self._begin():
                return
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except BaseException as error:
            self._running = False
            if not isinstance(error, RuntimeError):
                raise
            # No thread can be started: the call ends by its own limits.

    def _begin(self) -> bool:
        """Whether the caller has to become the thread, or to start it."""
        with self._lock:
            if self._running:
                return False
            self._running = True
        return True

    def _run(self) -> None:
        idle = False
        while not (idle and self._end()):
            self._expire()
            wait = min(self._wakes_at - time.monotonic(), IDLE_SECONDS)
            if not self._wakes.wait(max(wait, 0.0)):
                idle = wait == IDLE_SECONDS
            idle = (idle or self._closed) and not self._watches

    def _expire(self) -> None:
        """Cancel what has run out of time, and note when the next watch does."""
        self._wakes_at = math.inf  # a watch that is added from now on wakes this thread
        now = time.monotonic()
        for watch in list(self._watches):
            if watch.due <= now:
                self.remove(watch)
                watch.expire()
        self._wakes_at = min((watch.due for watch in list(self._watches)), default=math.inf)

    def _end(self) -> bool:
        """Whether the thread may end: it may not if a watch was added meanwhile."""
        self._running = False
        return not self._watches or not self._begin()

    def close(self) -> None:
        """End the thread as soon as it watches nothing."""
        self._closed = True
        self._wakes.set()
