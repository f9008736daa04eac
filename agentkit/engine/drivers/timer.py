"""Time limits of asyncio tasks: one timer for an event loop, however many of its tasks wait."""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

_TURNS: Final = 7
"""Turns of the event loop before a task whose time is up is cancelled: one to notice what arrived
while the loop was busy with others, up to five to wake the task, because a transport may spread
that, and one for the task itself. Otherwise thousands of tasks that start together could all exceed
a limit, although their responses have arrived."""


class Wait(Protocol):
    """A wait with a time limit."""

    due: float
    """The time of the event loop when it is up."""

    def ring(self) -> None:
        """End the wait: its time is up."""
        ...


class Timer:
    """Ends the waits of one event loop whose time is up.

    A limit is only a number, and one timer is set to the earliest. It stays set if that wait ends
    early. `asyncio.timeout` would set a timer for each wait, which takes longer than everything
    else that the driver does.
    """

    __slots__ = ("_due", "_handle", "_waits", "loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time
        self._waits: dict[Wait, None] = {}
        self._handle: asyncio.Handle | None = None
        self._due = math.inf

    def add(self, wait: Wait) -> None:
        """End `wait` when its time is up."""
        self._waits[wait] = None
        if wait.due < self._due:
            self._set(wait.due)

    def remove(self, wait: Wait) -> None:
        """Forget `wait`."""
        self._waits.pop(wait, None)

    def _set(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = due
        self._handle = self.loop.call_at(due, self._ring)

    def _ring(self, turns: int = _TURNS) -> None:
        if turns:
            self._handle = self.loop.call_soon(self._ring, turns - 1)
            return
        now = self.loop.time()
        for wait in [each for each in self._waits if each.due <= now]:
            self.remove(wait)
            wait.ring()
        self._handle, self._due = None, math.inf
        if self._waits:
            self._set(min(wait.due for wait in self._waits))


class TaskLimit:
    """The time limit of one wait after another, each of the task that starts it."""

    __slots__ = ("_before", "_rang", "_task", "_timer", "due")

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._rang = False
        self.due = math.inf

    def start(self, seconds: float | None) -> None:
        """Wait from now on, at most `seconds`."""
        self._rang = False
        timer = self._timer
        if seconds is None or (task := asyncio.current_task(timer.loop)) is None:
            return
        self._task = task
        self._before = task.cancelling()
        self.due = timer.now() + seconds
        timer.add(self)

    def ring(self) -> None:
        """Cancel the task, whose time is up."""
        self._rang = True
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """End the wait."""
        self._timer.remove(self)
        if self._rang:
            self.expired()
        self._task = None

    def expired(self) -> bool:
        """Whether only this limit cancelled the task. Its cancellation is undone."""
        rang, self._rang = self._rang, False
        return rang and self._task is not None and self._task.uncancel() <= self._before
