"""The threads, event loop, clock and shared calls of one manager, for its drivers."""

from __future__ import annotations

from typing import Any, Protocol

from agentkit._fork import on_fork
from agentkit.engine.drivers.workers import LoopThread, Workers
from agentkit.engine.shared_call import SharedCalls
from agentkit.types import Clock, Response


class Cache(Protocol):
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
    """Threads, loops, shared calls and the response cache of one manager."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        cache: Cache | None,
        max_workers: int,
    ) -> None:
        self.clock = clock
        self.cache = cache
        self.shared_calls = SharedCalls()
        self.workers = Workers(max_workers, name)
        self.loop = LoopThread(name)
        self.tasks: set[Any] = set()
        """Strong references to the asyncio tasks that carry shared calls."""
        on_fork(self._forget_tasks)

    def _forget_tasks(self) -> None:
        self.tasks = set()

    def close(self) -> list[str]:
        """End every thread, task and loop; what was still under way, by label."""
        cut = [f"shared call {task.get_name()}" for task in list(self.tasks) if not task.done()]
        for task in list(self.tasks):
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        return cut + self.workers.close() + self.loop.close()
