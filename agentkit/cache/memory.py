"""The memory tier: entries with a time to live; the least recently used are evicted first."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import suppress
from typing import Final, Generic, TypeVar

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.policy.validation import whole_number
from agentkit.types import Now

V = TypeVar("V")

SHARE: Final = 100
"""A value may take at most 1/100 of a store, so that a single one cannot evict all others."""


class RecentTable(Generic[V]):
    """A bounded table of values in this process. Safe to use from many threads.

    Args:
        max_entries: the most entries to keep (default 10,000).
        max_bytes: the most bytes to keep (default 64 MiB). A value larger than 1 % of it is not
            kept, and counted as ``too_large``.
        clock: seconds from an arbitrary start, never going back (default `time.monotonic`).

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1.
    """

    def __init__(
        self,
        max_entries: int = 10_000,
        max_bytes: int = 64 * 2**20,
        clock: Now = time.monotonic,
    ) -> None:
        self.max_entries = whole_number("max_entries", max_entries)
        self.max_bytes = whole_number("max_bytes", max_bytes)
        self._clock = clock
        self._lock = fork_safe_lock()
        self._entries: OrderedDict[str, tuple[V, float, int]] = OrderedDict()
        self._bytes = 0
        self._hits = self._misses = self._evicted = self._too_large = 0
        on_fork(self._recount)

    def get(self, key: str) -> V | None:
        """The value of `key`, or None if it is absent or expired."""
        now = self._clock()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry[1] > now:
                try:  # noqa: SIM105 - `suppress` takes as long as the rest of a hit
                    self._entries.move_to_end(key)
                except KeyError:  # a signal handler has cleared it
                    pass
                self._hits += 1
                return entry[0]
            if entry is not None:
                self._drop(key)
            self._misses += 1
            return None

    def put(self, key: str, value: V, ttl: float, size: int) -> None:
        """Keep `value`, which takes `size` bytes, for `ttl` seconds."""
        expires = self._clock() + ttl
        with self._lock:
            if key in self._entries:
                self._drop(key)
            if size > self.max_bytes // SHARE:
                self._too_large += 1
                return
            self._entries[key] = (value, expires, size)
            self._bytes += size
            while len(self._entries) > self.max_entries or self._bytes > self.max_bytes:
                with suppress(KeyError):  # a signal handler may have cleared it
                    _, (_, _, freed) = self._entries.popitem(last=False)
                    self._bytes -= freed
                    self._evicted += 1

    def clear(self, prefix: str = "") -> None:
        """Delete every key that starts with `prefix` (default: all)."""
        with self._lock:
            for key in list(self._entries):  # a copy: a signal handler may change it meanwhile
                if key.startswith(prefix):
                    self._drop(key)

    def statistics(self) -> dict[str, int]:
        """Counters so far: hits, misses, evicted, too_large; and the current entries and bytes."""
        with self._lock:
            return {
                "hits": self._hits,
                "misses": self._misses,
                "evicted": self._evicted,
                "too_large": self._too_large,
                "entries": len(self._entries),
                "bytes": self._bytes,
            }

    def _recount(self) -> None:
        """In a forked child: a thread of the parent may have been in the middle of a change."""
        self._bytes = sum(size for _, _, size in self._entries.values())

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[2]


class MemoryStore(RecentTable[bytes]):
    """A `Store` in the memory of this process, which several managers may share."""

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` for `ttl` seconds, unless it exceeds 1 % of `max_bytes`."""
        self.put(key, value, ttl, len(value))
