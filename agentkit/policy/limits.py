"""How many calls of one model may be under way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

from agentkit.policy.checks import whole


class Slot:
    """A place in the queue of a `ConcurrencyLimit`; a `Signal` that fires when it is granted."""

    __slots__ = ("_limit", "_wake", "granted", "released")

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self._limit = limit
        self._wake: Callable[[], None] | None = None
        self.granted = False
        self.released = False

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once the slot is granted, at once when it already is."""
        self._wake = wake
        if self.granted:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        self._wake = None

    def release(self) -> None:
        """Give the slot back, or leave the queue. A second release does nothing."""
        self._limit._release(self)


class ConcurrencyLimit:
    """At most `limit` slots out at once, granted first come, first served."""

    __slots__ = ("_lock", "_queue", "in_use", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = whole("max_concurrency", limit)
        self.in_use = 0
        self._queue: deque[Slot] = deque()
        self._lock = Lock()

    def request(self) -> Slot:
        """A slot, granted at once when one is free and nobody waits for it."""
        slot = Slot(self)
        with self._lock:
            if self.in_use < self.limit and not self._queue:
                self.in_use += 1
                slot.granted = True
            else:
                self._queue.append(slot)
        return slot

    def _release(self, slot: Slot) -> None:
        following: Slot | None = None
        with self._lock:
            if slot.released:
                return
            slot.released = True
            if not slot.granted:
                self._queue.remove(slot)
                return
            if self._queue:
                following = self._queue.popleft()
                following.granted = True
            else:
                self.in_use -= 1
        if following is not None and (wake := following._wake) is not None:
            wake()

    def renew_lock(self) -> None:
        """Start empty with a fresh lock, in a forked child: its parent's calls are not its own."""
        self._lock = Lock()
        self._queue.clear()
        self.in_use = 0

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.in_use}/{self.limit}, {len(self._queue)} waiting>"
