"""Telemetry that has to wait, because the locks of an OpenTelemetry SDK are not re-entrant.

The garbage collector may close a stream, and a signal handler may send a request, while the very
same thread is inside the SDK: an instrument that adds up, an exporter that collects. To record
their telemetry there and then would wait for a lock that the interrupted code holds. It is kept
instead, and recorded with the next telemetry of any thread, at the latest when the process ends.
"""

from __future__ import annotations

import atexit
import gc
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any, Final

from agentkit._fork import on_fork

_CAPACITY: Final = 10_000
"""Records that may wait; beyond them, the oldest are dropped."""

Record = Callable[[], None]


class Outbox:
    """Knows which threads must not enter the SDK, and keeps their records."""

    def __init__(self) -> None:
        self.closed: set[int] = set()
        """Threads that must not enter the SDK: they are inside it for agentkit, or the garbage
        collector runs in them, which may have interrupted the SDK anywhere."""
        self.waiting: deque[Record] = deque(maxlen=_CAPACITY)
        self._collecting: int | None = None
        """The thread that the running collection has closed."""
        on_fork(self._leave_to_parent)

    def start(self) -> None:
        """Watch the garbage collector. Has no effect after the first time."""
        if self._watch not in gc.callbacks:
            gc.callbacks.append(self._watch)
            atexit.register(self.empty)

    def is_closed(self) -> bool:
        """Whether the running thread must not enter the SDK."""
        return get_ident() in self.closed

    def empty(self) -> None:
        """Send what waits; none of it raises."""
        thread = get_ident()
        while self.waiting:
            try:
                self.closed.add(thread)
                with suppress(IndexError):  # another thread was faster
                    self.waiting.popleft()()
            finally:
                self.closed.discard(thread)

    def _watch(self, phase: str, _info: dict[str, Any]) -> None:
        thread = get_ident()
        if phase == "start":
            if thread not in self.closed:
                self._collecting = thread
                self.closed.add(thread)
        elif thread == self._collecting:
            self._collecting = None
            self.closed.discard(thread)

    def _leave_to_parent(self) -> None:
        """In a forked child: its parent's threads do not exist, and their records are not its."""
        self.closed.clear()
        self.waiting.clear()
        self._collecting = None


OUTBOX: Final = Outbox()
