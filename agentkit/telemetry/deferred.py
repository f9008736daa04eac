"""Measurements that wait for the next collection of their provider.

Recording a measurement takes an OpenTelemetry SDK as long as a complete call takes agentkit. With
``Telemetry(defer_metrics=True)``, the caller only stores the measurement. The thread that collects
the metrics records it, just before it collects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from agentkit._fork import on_fork
from agentkit.telemetry.safe import FailureLog, recorded

CAPACITY: Final = 4096
"""Measurements that may wait. The caller that adds one more records them all, and loses none."""


class Deferred:
    """The measurements of one provider, in the order in which they were made."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._failures = FailureLog("recording a measurement")
        on_fork(self._leave_to_parent)

    def add(self, record: Callable[..., None], measured: tuple[Any, ...]) -> None:
        """Call ``record(*measured)`` at the next collection. Enters the SDK only when full."""
        self._waiting.append((record, measured))
        if len(self._waiting) >= CAPACITY:
            self.record()

    def _leave_to_parent(self) -> None:
        """In a forked child: the parent records what it measured."""
        self._waiting.clear()

    @recorded
    def record(self) -> None:
        """Record all that waits."""
        while self._waiting:
            try:
                record, measured = self._waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                record(*measured)
            except Exception as error:  # noqa: BLE001 - a view of the user may raise
                self._failures.note(error)
