"""What the engine talks to: answers in memory, over a store. Never raises, never waits long."""

from __future__ import annotations

import atexit
import inspect
import os
import secrets
import time
import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from agentkit._fork import fork_safe_lock
from agentkit.cache.disk import DiskStore
from agentkit.cache.faults import CacheFault, FaultLog
from agentkit.cache.memory import MemoryStore, RecentTable
from agentkit.cache.record import decode, encode, own, weight
from agentkit.cache.writer import Writer
from agentkit.errors import ConfigurationError
from agentkit.policy.validation import number
from agentkit.types import Now, Response, Store

PATIENCE: Final = 3
"""Faults in a row after which a store is left alone …"""
REST: Final = 30.0
"""… for so many seconds."""

_OF_ONE_ENTRY: Final = frozenset({"foreign", "newer", "corrupt", "too_large", "unserialisable"})
_Pending: TypeAlias = tuple[str, Response[Any], float]


class ResponseCache:
    """Answers by key: decoded in memory, as bytes in a store behind it.

    Whatever goes wrong in a store is a miss, counted by reason in `statistics`, with one warning a
    reason and minute on the logger ``agentkit.cache``. After three faults in a row the store is
    left alone for 30 s; a directory that cannot be used is left alone for good. Every answer that
    is returned is the caller's own copy, marked ``cached``.

    Args:
        store: keeps the bytes; None keeps answers in memory only. Any `Store` will do.
        namespace: separates this cache's entries in a shared store (default ``""``).
        ttl: seconds an answer may be old (default 3600), whoever stored it.
        clock: seconds for the memory tier, never going back (default `time.monotonic`).
        wall: seconds since 1970, for the ages of stored answers (default `time.time`).
        memory: the memory tier (default 10,000 answers, 64 MiB).

    Raises:
        ConfigurationError: `ttl` is not a finite number above 0, or `namespace` no text.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        namespace: str = "",
        ttl: float = 3600.0,
        clock: Now = time.monotonic,
        wall: Callable[[], float] = time.time,
        memory: RecentTable[Response[Any]] | None = None,
    ) -> None:
        self._ttl = number("cache_ttl", ttl, above=True, hint="give seconds, 3600 for an hour")
        given: Any = namespace
        if not isinstance(given, str):
            raise ConfigurationError(f"cache_namespace must be a text, got {namespace!r}")
        self._group = blake2b(given.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        self._store = store
        self._clears_itself = isinstance(store, DiskStore | MemoryStore)
        self._generation = "" if self._clears_itself else None
        self._clock = clock
        self._wall = wall
        self._memory = RecentTable[Response[Any]](clock=clock) if memory is None else memory
        self._faults = FaultLog(clock)
        ended = store.release if isinstance(store, DiskStore) else _nothing
        self._writer = Writer[_Pending](lambda item: self._write(*item), ended)
        self._lock = fork_safe_lock()
        self._store_hits = self._dropped = self._cleared = 0
        self._faults_in_a_row = 0
        self._rests_until = float("-inf")
        _alive.add(self)

    def load(self, key: str, durable: bool) -> Response[Any] | None:
        """The answer under `key`, or None. Only a `durable` key is looked up in the store."""
        found = self._memory.get(key)
        if found is not None:
            return own(found)
        return self._read(key) if durable else None

    def save(self, key: str, response: Response[Any], durable: bool) -> None:
        """Keep `response` in memory and, where `durable`, in the store before returning."""
        mine = self._remember(key, response)
        if mine is not None and durable:
            self._write(key, mine, self._wall())

    def save_later(self, key: str, response: Response[Any], durable: bool) -> None:
        """Keep `response` in memory at once, and have the writer thread store it.

        When 1,000 answers or 64 MiB are waiting already, it is dropped and counted.
        """
        mine = self._remember(key, response)
        if mine is None or not durable or self._usable() is None:
            return
        if not self._writer.submit((key, mine, self._wall()), weight(mine)):
            with self._lock:
                self._dropped += 1

    def clear(self) -> None:
        """Forget every answer of this namespace, those that wait to be written included.

        Our stores delete them. A foreign store, which has only `get` and `set`, gets a new
        generation mark that enters every address: the older answers are not found any more here
        and in every process that starts later, and expire in their time.
        """
        with self._lock:
            self._cleared += 1
        self._memory.clear()
        self._writer.discard(self._clear_store)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to `timeout` seconds until everything is written; whether it is."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, at most `timeout` seconds long; end the thread, close the files.

        A closed cache finds nothing any more. Closing twice does nothing.
        """
        lost = self._writer.close(timeout)
        with self._lock:
            self._dropped += lost
            self._cleared += 1
            store, self._store = self._store, None
        self._memory.clear()
        if isinstance(store, DiskStore):
            store.close()

    def statistics(self) -> dict[str, Any]:
        """Counters since the start, and what is kept now.

        Keys: hits, misses, store_hits (of the hits, those the store gave), dropped (writes given
        up), faults (by reason); entries and bytes in memory; store_entries and store_bytes (0 for
        foreign stores and before the first use); waiting (to be written).
        """
        memory = self._memory.statistics()
        kept = {"entries": 0, "bytes": 0}
        store = self._store
        if isinstance(store, DiskStore | MemoryStore):
            try:
                kept = store.statistics()
            except CacheFault as fault:
                self._faults.note(fault.reason, str(fault))
        with self._lock:
            store_hits, dropped = self._store_hits, self._dropped
        faults = self._faults.counts()
        if memory["too_large"]:
            faults["too_large_for_memory"] = memory["too_large"]
        return {
            "hits": memory["hits"] + store_hits,
            "misses": memory["misses"] - store_hits,
            "store_hits": store_hits,
            "dropped": dropped,
            "faults": faults,
            "entries": memory["entries"],
            "bytes": memory["bytes"],
            "store_entries": kept["entries"],
            "store_bytes": kept["bytes"],
            "waiting": len(self._writer),
        }

    def _remember(self, key: str, response: Response[Any]) -> Response[Any] | None:
        try:
            mine = own(response)
            size = weight(mine)
        except (TypeError, ValueError, RecursionError):
            self._faults.note("unserialisable", "a tool call's arguments are no JSON; not kept")
            return None
        self._memory.put(key, mine, self._ttl, size)
        return mine

    def _usable(self) -> Store | None:
        return None if self._clock() < self._rests_until else self._store

    def _read(self, key: str) -> Response[Any] | None:
        store, cleared = self._usable(), self._cleared
        if store is None:
            return None
        try:
            address = self._address(store, key)
            data = store.get(address)
            self._faults_in_a_row = 0
            if data is None:
                return None
            response, stored = decode(address, data)
            size = weight(response)
        except Exception as error:  # noqa: BLE001  (whatever a store raises is a miss)
            self._failed("read", error)
            return None
        # A time in the future comes from a clock set back: as doubtful as the same time ago.
        left = self._ttl - abs(self._wall() - stored)
        if not left > 0:
            return None
        with self._lock:
            self._store_hits += 1
        if cleared == self._cleared:
            self._memory.put(key, response, left, size)
        return own(response)

    def _write(self, key: str, response: Response[Any], stored: float) -> None:
        store = self._usable()
        if store is None:
            return
        try:
            address = self._address(store, key)
            store.set(address, encode(address, response, stored), self._ttl)
            self._faults_in_a_row = 0
        except Exception as error:  # noqa: BLE001  (whatever a store raises is counted)
            self._failed("write", error)

    def _address(self, store: Store, key: str) -> str:
        if self._generation is None:
            mark = store.get(f"{self._group}:generation")
            known = isinstance(mark, bytes) and mark.isalnum()
            self._generation = mark.decode("ascii") + "." if mark and known else ""
        return f"{self._group}:{self._generation}{key}"

    def _clear_store(self) -> None:
        store = self._store
        if store is None:
            return
        try:
            if isinstance(store, DiskStore | MemoryStore):
                store.clear(f"{self._group}:")
            else:
                mark = secrets.token_hex(8)
                self._generation = f"{mark}."
                store.set(f"{self._group}:generation", mark.encode("ascii"), self._ttl)
        except Exception as error:  # noqa: BLE001  (whatever a store raises is counted)
            self._failed("clear", error)

    def _failed(self, operation: str, error: Exception) -> None:
        if isinstance(error, CacheFault):
            self._faults.note(error.reason, str(error))
            if error.permanent:
                self._rests_until = float("inf")
            if error.reason in _OF_ONE_ENTRY:
                return
        else:
            # The type only: a foreign store's message may quote what it was given.
            self._faults.note(operation, f"the store failed to {operation}: {type(error).__name__}")
        self._faults_in_a_row += 1
        if self._faults_in_a_row >= PATIENCE:
            self._faults_in_a_row = 0
            self._rests_until = max(self._rests_until, self._clock() + REST)


def build_response_cache(
    spec: Store | str | None,
    *,
    directory: str | os.PathLike[str] | None = None,
    ttl: float = 3600.0,
    namespace: str = "",
    clock: Now | None = None,
) -> ResponseCache | None:
    """The response cache that a manager's settings describe; None when it is off.

    Args:
        spec: ``"disk"`` (memory over disk), ``"memory"``, a `Store` (memory over it), or None.
            ``AGENTKIT_CACHE=memory`` or ``off`` in the environment overrides all but None.
        directory: of the disk tier (default ``AGENTKIT_CACHE_DIR``, else the user's cache
            directory).
        ttl: seconds an answer may be old (default 3600).
        namespace: enters the address of every entry.
        clock: seconds for the memory tier (default `time.monotonic`).

    Raises:
        ConfigurationError: a value that cannot work.
    """
    store = _store(spec, directory)
    steady = time.monotonic if clock is None else clock
    cache = ResponseCache(store, namespace=namespace, ttl=ttl, clock=steady)
    override = os.environ.get("AGENTKIT_CACHE", "").strip().lower()
    if override not in ("", "memory", "off"):
        raise ConfigurationError(
            f"AGENTKIT_CACHE is {override!r}", hint="set it to memory or off, or unset it"
        )
    if spec is None or override == "off":
        return None
    if override == "memory":
        return ResponseCache(None, namespace=namespace, ttl=ttl, clock=steady)
    return cache


def _store(spec: Any, directory: str | os.PathLike[str] | None) -> Store | None:
    if spec is None or (isinstance(spec, str) and spec == "memory"):
        return None
    if isinstance(spec, str) and spec == "disk":
        return DiskStore(directory)
    methods = [getattr(spec, name, None) for name in ("get", "set")]
    if isinstance(spec, str | type) or not all(map(callable, methods)):
        raise ConfigurationError(
            f"cache must be 'disk', 'memory', None or a store, got {spec!r}",
            hint="a store is an object with get(key) and set(key, value, ttl)",
        )
    if any(map(inspect.iscoroutinefunction, methods)):
        raise ConfigurationError(
            f"the store {type(spec).__name__} has async methods",
            hint="give a store whose get and set are plain functions",
        )
    return spec  # type: ignore[no-any-return]


def _nothing() -> None:
    pass


_alive: weakref.WeakSet[ResponseCache] = weakref.WeakSet()


def _close_all() -> None:
    """Short scripts end before the writer has: let it finish."""
    for cache in list(_alive):
        cache.close()


atexit.register(_close_all)
