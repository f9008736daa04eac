"""The runtime of a manager: threads, event loops, shared calls and the response cache."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from agentkit._fork import on_fork
from agentkit.engine.drivers.timer import Timer
from agentkit.engine.drivers.watchdog import Watchdog
from agentkit.engine.drivers.workers import LoopThread, Workers
from agentkit.engine.shared_call import SharedCalls
from agentkit.policy.validation import whole_number
from agentkit.types import Clock, Response
from agentkit.types.fleet import Fleet


class Cache(Protocol):
    """The part of the response cache that the drivers use. It never raises."""

    def load(self, key: str, durable: bool) -> Response[Any] | None:
        """The stored response, or None."""
        ...

    def save(self, key: str, response: Response[Any], durable: bool) -> None:
        """Store the response before returning."""
        ...

    def save_later(self, key: str, response: Response[Any], durable: bool) -> None:
        """Store the response in the background."""
        ...


class Runtime:
    """Threads, event loops, shared calls and the response cache of one manager."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        cache: Cache | None,
        max_workers: int,
        fleet: Fleet | None = None,
    ) -> None:
        self.clock = clock
        self.fleet = fleet
        self.cache = cache
        self.shared_calls = SharedCalls()
        self.workers = Workers(whole_number("max_workers", max_workers), name, clock.now)
        self.leaders = Workers(None, f"{name}-shared")
        """For the flows of shared calls, which may need workers themselves."""
        self.loop = LoopThread(name)
        self.watchdog = Watchdog(name)
        self._timer: Timer | None = None
        self.tasks: set[Any] = set()
        """Strong references to the asyncio tasks of shared calls."""
        on_fork(self._forget_tasks)

    def timer(self) -> Timer:
        """The timer of the running event loop."""
        loop = asyncio.get_running_loop()
        timer = self._timer
        if timer is None or timer.loop is not loop:
            timer = self._timer = Timer(loop)
        return timer

    def _forget_tasks(self) -> None:
        self.tasks = set()

    def close(self) -> list[str]:
        """End every thread, task and event loop. Returns the labels of the calls under way."""
        under_way = [
            f"shared call {task.get_name()}" for task in list(self.tasks) if not task.done()
        ]
        for task in list(self.tasks):
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        self.watchdog.close()
        self._timer = None
        return under_way + self.leaders.close() + self.workers.close() + self.loop.close()
