"""Writes in the background: one daemon thread behind a bounded queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Final, Generic, TypeVar

from agentkit._fork import fork_safe_lock, on_fork

Item = TypeVar("Item")

CAPACITY: Final = 1_000
CAPACITY_BYTES: Final = 64 * 2**20
IDLE: Final = 5.0
"""Seconds without work after which the thread ends. The next write starts a new one."""


class Writer(Generic[Item]):
    """Calls `write` for each submitted item, in order, on a thread of its own.

    Args:
        write: writes one item. It must not raise.
        ended: called on the thread when it ends, to release what belongs to the thread.
        capacity: the most items that may wait (default 1,000).
        capacity_bytes: the most bytes that may wait (default 64 MiB). An item that does not fit is
            dropped.
    """

    def __init__(
        self,
        write: Callable[[Item], None],
        ended: Callable[[], None] = lambda: None,
        *,
        capacity: int = CAPACITY,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> None:
        self._write = write
        self._ended = ended
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._closed = False
        self._reset()
        on_fork(self._reset)

    def _reset(self) -> None:
        """Start empty. In a forked child, waiting items are left to the parent."""
        self._changed = Condition(fork_safe_lock())
        self._writing = fork_safe_lock()
        self._queue: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._busy = False
        self._thread: Thread | None = None

    def submit(self, item: Item, size: int) -> bool:
        """Write `item` soon. Returns False if it was dropped: the queue is full or closed."""
        with self._changed:
            fits = len(self._queue) < self._capacity and self._bytes + size <= self._capacity_bytes
            if self._closed or not fits:
                return False
            if self._thread is None and not self._start_thread():
                return False
            self._queue.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def _start_thread(self) -> bool:
        thread = Thread(target=self._run, name="agentkit-response-cache", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit on threads is reached, or the interpreter is shutting down
            return False
        self._thread = thread
        return True

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every item is written. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    def close(self, timeout: float) -> int:
        """Write the items that wait and end the thread. Returns how many items were dropped."""
        until = time.monotonic() + timeout
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        self.flush(timeout)
        with self._changed:
            lost = len(self._queue)
            self._empty()
        if thread is not None:
            thread.join(max(0.0, until - time.monotonic()))
        return lost

    def discard(self, then: Callable[[], None]) -> None:
        """Drop the items that wait, and call `then` while nothing is being written."""
        with self._changed:
            self._empty()
        with self._writing:
            then()

    def __len__(self) -> int:
        return len(self._queue)

    def _empty(self) -> None:
        self._queue.clear()
        self._bytes = 0
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed, IDLE)
                if not self._queue:
                    self._thread = None
                    break
            with self._writing:
                self._write_next()
        self._ended()

    def _write_next(self) -> None:
        with self._changed:
            if not self._queue:
                return
            item, size = self._queue.popleft()
            self._bytes -= size
            self._busy = True
        try:
            self._write(item)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
