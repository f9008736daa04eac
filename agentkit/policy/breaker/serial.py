"""A queue that one thread at a time works off, without holding a lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from agentkit._fork import fork_safe_lock, on_fork

T = TypeVar("T")


class SerialQueue(Generic[T]):
    """Passes items to `handle` in the order in which they were added.

    No thread waits for another one: whoever finds a thread at work leaves its items to it. An item
    that `handle` adds itself comes after `handle` has returned.
    """

    __slots__ = ("__weakref__", "_busy", "_handle", "_items", "_lock")

    def __init__(self, handle: Callable[[T], object]) -> None:
        self._handle = handle
        self._items: deque[T] = deque()
        self._lock = fork_safe_lock()
        self._busy = False
        on_fork(self._leave_to_parent)

    def add(self, item: T) -> None:
        """Remember an item for `run`. Calls nothing, so it may be called under a lock."""
        self._items.append(item)

    def run(self) -> None:
        """Handle what was added, unless another thread (or a caller) is doing so."""
        while self._items and self._run_in_turn():
            pass

    def _run_in_turn(self) -> bool:
        """False if it is done already, in this thread or another."""
        mine = False
        try:
            with self._lock:
                if self._busy:
                    return False
                self._busy = mine = True
            while self._items:
                self._handle(self._items.popleft())
        finally:
            if mine:
                self._busy = False
        return True

    def _leave_to_parent(self) -> None:
        """In a forked child: what was to be handled is the parent's, and so is its thread."""
        self._items.clear()
        self._busy = False
