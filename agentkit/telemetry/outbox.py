"""Telemetry that has to wait, because the locks of an OpenTelemetry SDK are not re-entrant.

The garbage collector may close a stream, and a signal handler may send a request, while the same
thread is inside the SDK: in an instrument that adds up, or an exporter that collects. Recording
their telemetry immediately would wait for a lock that the interrupted code holds. So it is kept,
and recorded with the next telemetry of any thread, or when the process ends.
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
        """Threads that are inside the SDK for agentkit."""
        self.collecting: int | None = None
        """The thread that runs the garbage collector, which may have interrupted the SDK
        anywhere. An end that Ctrl-C hid is made up for by the next collection of any thread."""
        self.waiting: deque[Record] = deque(maxlen=_CAPACITY)
        on_fork(self._leave_to_parent)

    def start(self) -> None:
        """Watch the garbage collector. Has no effect after the first time."""
        if self._watch not in gc.callbacks:
            gc.callbacks.append(self._watch)
            atexit.register(self.empty)

    def is_closed(self) -> bool:
        """Whether the running thread must not enter the SDK."""
        if not self.closed and self.collecting is None:
            return False
        thread = get_ident()
        return thread in self.closed or thread == self.collecting

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
        self.collecting = get_ident() if phase == "start" else None

    def _leave_to_parent(self) -> None:
        """In a forked child: its parent's threads do not exist, and their records are not its."""
        self.closed.clear()
        self.waiting.clear()
        self.collecting = None


OUTBOX: Final = Outbox()
