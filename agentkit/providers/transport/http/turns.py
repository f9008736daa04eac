"""Turns of an event loop that do not take long, however many connections there are.

asyncio looks at its timers once a turn, after everything that was ready. Work that hundreds of
tasks have at the same moment would hold up all others for as long as it takes together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

_BEGINNING: Final = 4
"""Requests that begin within one turn: each takes as long as ten events."""
_WOKEN: Final = 16
"""Tasks that are woken at once where something arrived for them."""
_LATER_TURNS: Final = 4
"""Turns over which all others are woken. The timers of `agentkit.engine.drivers.timer` wait for as
many before they cancel a task."""

Waiter = asyncio.Future[None]


class Turns:
    """Spreads the work of many tasks over several turns of one event loop."""

    __slots__ = ("_arrived", "_begun", "_loop", "_queue", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = 0
        self._queue: deque[Waiter] = deque()
        """Of tasks that are to begin."""
        self._woken = 0
        self._arrived: deque[Waiter] = deque()
        """Of tasks that something arrived for."""

    def next_one(self) -> Waiter | None:
        """When to begin what takes long, such as a request. None: now."""
        if self._begun < _BEGINNING and not self._queue:
            self._begun += 1
            if self._begun == 1:
                self._loop.call_soon(self._begin_next)
            return None
        waiter = self._loop.create_future()
        self._queue.append(waiter)
        return waiter

    def _begin_next(self) -> None:
        self._begun = 0
        while self._queue and self._begun < _BEGINNING:
            self._begun += _wake(self._queue.popleft())
        if self._begun:
            self._loop.call_soon(self._begin_next)

    def wake(self, waiter: Waiter) -> None:
        """Wake a task for which something arrived: now, or a few turns later.

        `waiter`: what it waits for, and is not done.
        """
        if self._woken < _WOKEN:
            self._woken += 1
            waiter.set_result(None)
            return
        if not self._arrived:
            self._loop.call_soon(self._wake_next, _LATER_TURNS)
        self._arrived.append(waiter)

    def _wake_next(self, turns: int) -> None:
        self._woken = 0
        left = len(self._arrived)
        for _ in range(min(left, max(_WOKEN, -(-left // turns)))):
            self._woken += _wake(self._arrived.popleft())
        if self._arrived:
            self._loop.call_soon(self._wake_next, turns - 1)


def _wake(waiter: Waiter) -> bool:
    """Whether its task was still waiting."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
