"""Deletes the keys with a prefix from a store, a few at a time."""

from __future__ import annotations

from collections import deque
from typing import Final

from agentkit._fork import fork_safe_lock
from agentkit.state.line import Node, Pending
from agentkit.state.store import Store

_KEYS_A_STEP: Final = 1_000
"""The keys that the server looks at in one step, about."""


class _Search:
    """The prefix, the servers that may have such keys, and how far the first has looked."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Node] | None = None
        self.cursor = 0


class Purge:
    """The prefixes of the keys to delete, and what waits until that has been done."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._searches: dict[str, _Search] = {}
        self._held: deque[Pending] = deque()

    def __bool__(self) -> bool:
        return bool(self._searches)

    def add(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`."""
        with self._lock:
            self._searches[prefix] = _Search(prefix)

    def hold(self, pending: Pending) -> bool:
        """Keep a question until its keys have been deleted. False: they need not be."""
        if not self._searches or pending.question is None:
            return False
        with self._lock:
            prefixes = tuple(self._searches)
            if not any(key.startswith(prefixes) for key in pending.question.keys):
                return False
            self._held.append(pending)
        return True

    def release(self) -> list[Pending]:
        """What it kept, which nothing keeps any more."""
        held: list[Pending] = []
        while self._held:
            held.append(self._held.popleft())
        return held

    def step(self, store: Store) -> None:
        """Delete some of the keys.

        Raises:
            ReplyError, OSError: the store is lost.
        """
        with self._lock:
            search = next(iter(self._searches.values()), None)
        if search is None:
            return
        if search.nodes is None:
            search.nodes = store.nodes
        node = search.nodes[0]
        found = store.scan(node, search.cursor, f"{search.prefix}*", _KEYS_A_STEP)
        search.cursor, keys = found
        store.execute(node, *(("UNLINK", key) for key in keys))
        if search.cursor == 0:
            search.nodes = search.nodes[1:]
        with self._lock:
            if not search.nodes and self._searches.get(search.prefix) is search:
                del self._searches[search.prefix]

    def stop(self) -> None:
        """Delete no more keys."""
        with self._lock:
            self._searches.clear()

    def leave_to_parent(self) -> None:
        """In a forked child: the parent deletes them."""
        self._searches, self._held = {}, deque()
