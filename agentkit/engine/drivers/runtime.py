"""What the drivers need of the world; one a manager, fresh after a fork."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from agentkit.engine.drivers.workers import LoopThread, Workers
from agentkit.engine.shared_call import Flights
from agentkit.types import Clock, Response


class Answers(Protocol):
    """The response cache, as the drivers use it. Never raises."""

    def load(self, key: str, durable: bool) -> Response[Any] | None:
        """The stored answer, or None."""
        ...

    def save(self, key: str, response: Response[Any], durable: bool) -> None:
        """Store before returning."""
        ...

    def save_later(self, key: str, response: Response[Any], durable: bool) -> None:
        """Store without holding up the caller."""
        ...


class Runtime:
    """Threads, loops, flights and the response cache of one manager."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        answers: Answers | None,
        max_workers: int,
        on_fork: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.answers = answers
        self._on_fork = on_fork
        self.flights = Flights()
        self.workers = Workers(max_workers, name)
        self.loop = LoopThread(name)
        self.tasks: set[Any] = set()
        """Strong references to the asyncio tasks that carry flights."""
        _alive.add(self)

    def renew_after_fork(self) -> None:
        """The child's threads, loops and flights are not its parent's."""
        self.flights.renew()
        self.workers.renew_after_fork()
        self.loop.renew_after_fork()
        self.tasks = set()
        self._on_fork()

    def close(self) -> list[str]:
        """End every thread, task and loop; what was still under way, by label."""
        cut = [f"flight {task.get_name()}" for task in list(self.tasks) if not task.done()]
        for task in list(self.tasks):
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        return cut + self.workers.close() + self.loop.close()


_alive: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _renew_all() -> None:
    for runtime in list(_alive):
        runtime.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
