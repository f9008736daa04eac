"""The cache that the engine uses: memory over a store. It never raises and never waits for long."""

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
from agentkit.cache.record import copy_as_cached, decode, encode, size_of
from agentkit.cache.writer import Writer
from agentkit.errors import ConfigurationError
from agentkit.policy.validation import number
from agentkit.types import Now, Response, Store

MAX_FAULTS: Final = 3
"""Consecutive faults after which a store is not used for a while."""
SUSPENSION: Final = 30.0
"""Seconds for which it is not used."""

_FAULTS_OF_ONE_ENTRY: Final = frozenset(
    {"foreign", "newer", "corrupt", "too_large", "unserialisable"}
)
_Pending: TypeAlias = tuple[str, Response[Any], float]


class ResponseCache:
    """Responses by key: decoded in memory, and as bytes in a store behind it.

    A fault in the store is a miss. It is counted by reason in `statistics` and logged to
    ``agentkit.cache``, with at most one warning per reason and minute. After three consecutive
    faults the store is not used for 30 s; an unusable directory is not used again. Every response
    that is returned is marked as ``cached``, and has arguments of tool calls of its own. Its ledger
    is empty, and may be that of other hits: give it another one.

    Args:
        store: keeps the bytes; None: responses are kept in memory only.
        namespace: separates the entries of this cache from others in a shared store (default
            ``""``).
        ttl: seconds for which a response is valid, also one that another process stored
            (default 3600).
        clock: seconds from an arbitrary start for the memory tier, never going back (default
            `time.monotonic`).
        wall: seconds since 1970, for the age of stored responses (default `time.time`).
        memory: the memory tier (default 10,000 responses, 64 MiB).

    Raises:
        ConfigurationError: `ttl` is not a finite number above 0, or `namespace` is not a string.
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
        self.ttl = number("cache_ttl", ttl, above=True, hint="pass seconds, such as 3600")
        """Seconds for which a response is valid."""
        given: Any = namespace
        if not isinstance(given, str):
            raise ConfigurationError(
                f"cache_namespace must be a str, got {namespace!r}",
                hint="pass the name of an application or a tenant",
            )
        self.group = blake2b(given.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        """The digest of the namespace, which begins each address in a store."""
        self._stem = f"{self.group}:"
        self._store = store
        # A store of our own deletes the entries of a group. In any other, clearing starts a new
        # generation, whose mark in the store is read before the first access.
        self._prefix = self._stem if isinstance(store, DiskStore | MemoryStore) else None
        self._clock = clock
        self._wall = wall
        self._memory = RecentTable[Response[Any]](clock=clock) if memory is None else memory
        self._faults = FaultLog(clock)
        ended = store.release if isinstance(store, DiskStore) else _do_nothing
        self._writer = Writer[_Pending](lambda item: self._save_to_store(*item), ended)
        self._lock = fork_safe_lock()
        self._store_hits = self._dropped = self._cleared = 0
        self._not_before = float("-inf")
        self._consecutive_faults = 0
        self._suspended_until = float("-inf")
        _open_caches.add(self)

    def load(self, key: str, durable: bool) -> Response[Any] | None:
        """The response under `key`, or None. The store has `durable` keys only."""
        found = self._memory.get(key)
        if found is not None:  # frozen, but for the arguments of tool calls
            return copy_as_cached(found) if found.tool_calls else found
        return self._load_from_store(key) if durable else None

    def save(self, key: str, response: Response[Any], durable: bool) -> None:
        """Keep `response` in memory and, if the key is `durable`, in the store."""
        kept = self._save_to_memory(key, response)
        if kept is not None and durable:
            self._save_to_store(key, kept, self._wall())

    def save_later(self, key: str, response: Response[Any], durable: bool) -> None:
        """Keep `response` in memory now, and let the writer thread store it.

        If 1,000 responses or 64 MiB are waiting already, it is not stored but counted as dropped.
        """
        kept = self._save_to_memory(key, response)
        if kept is None or not durable or self._usable_store() is None:
            return
        if not self._writer.submit((key, kept, self._wall()), size_of(kept)):
            with self._lock:
                self._dropped += 1

    def export(self, address: str, response: Response[Any], secret: bytes) -> bytes | None:
        """`response` as bytes for a place outside of this cache; None if it has none."""
        try:
            return encode(address, response, self._wall(), secret=secret)
        except (TypeError, ValueError, RecursionError):  # `save` has counted it
            return None

    def adopt(self, key: str, address: str, data: bytes, secret: bytes) -> Response[Any] | None:
        """Keep the response that another process exported to `address` in memory.

        Returns a copy, or None if it cannot be used: it is damaged, was made with another secret,
        is too old, or was made before this cache was cleared.
        """
        cleared = self._cleared
        try:
            response, stored = decode(address, data, secret=secret)
            size = size_of(response)
        except Exception as error:  # noqa: BLE001  (whatever is in a store is a miss at worst)
            self._note_fault("read", error)
            return None
        remaining = self._remaining(stored)
        if not remaining > 0 or stored <= self._not_before:
            return None
        if cleared == self._cleared:
            self._memory.put(key, response, remaining, size)
        return copy_as_cached(response) if response.tool_calls else response

    def _remaining(self, stored: float) -> float:
        """Seconds for which a response from the time `stored` is still valid.

        A time in the future comes from a clock that was set back: the true age is unknown, and
        taken to be as large as the difference.
        """
        return self.ttl - abs(self._wall() - stored)

    def clear(self) -> None:
        """Delete every response of this namespace, including those that wait to be written.

        Other caches of this process that share the store forget theirs, too.

        In a store of your own, which has only `get` and `set`, nothing is deleted. A new mark
        becomes part of every address instead, so that this cache and later processes no longer
        find the older responses, which expire as usual.
        """
        self._forget(self._clear_store)
        for each in list(_open_caches):
            if each is not self and each.group == self.group and each._shares(self._store):
                each._forget(each._read_prefix_again)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait up to `timeout` seconds until every response is written. Returns whether it is."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds, then end the thread and close the files.

        A closed cache finds nothing. Closing twice does nothing.
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
        """Counters since the start, and the current content.

        Keys: ``hits``, ``misses``, ``store_hits`` (the hits that came from the store), ``dropped``
        (responses that were never written), ``faults`` (by reason); ``entries`` and ``bytes`` in
        memory; ``store_entries`` and ``store_bytes`` (0 for a store of your own, and before the
        first use); ``waiting`` (responses that wait to be written).
        """
        memory = self._memory.statistics()
        stored = {"entries": 0, "bytes": 0}
        store = self._store
        if isinstance(store, DiskStore | MemoryStore):
            try:
                stored = store.statistics()
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
            "store_entries": stored["entries"],
            "store_bytes": stored["bytes"],
            "waiting": len(self._writer),
        }

    def _shares(self, store: Store | None) -> bool:
        """Whether `store` is where this cache keeps its responses."""
        own = self._store
        if isinstance(own, DiskStore) and isinstance(store, DiskStore):
            return own.path == store.path
        return own is not None and own is store

    def _forget(self, then: Callable[[], None]) -> None:
        """Drop what is in memory, waits or is being read; call `then` while nothing is written."""
        with self._lock:
            self._cleared += 1
            self._not_before = self._wall()
        self._memory.clear()
        self._writer.discard(then)

    def _read_prefix_again(self) -> None:
        if not isinstance(self._store, DiskStore | MemoryStore):
            self._prefix = None

    def _usable_store(self) -> Store | None:
        """The store, unless it is suspended."""
        return None if self._clock() < self._suspended_until else self._store

    def _load_from_store(self, key: str) -> Response[Any] | None:
        store, cleared = self._usable_store(), self._cleared
        if store is None:
            return None
        try:
            address = (self._prefix or self._read_prefix(store)) + key
            data = store.get(address)
            self._consecutive_faults = 0
            if data is None:
                return None
            response, stored = decode(address, data)
            size = size_of(response)
        except Exception as error:  # noqa: BLE001  (whatever a store raises is a miss)
            self._note_fault("read", error)
            return None
        remaining = self._remaining(stored)
        if not remaining > 0:
            return None
        with self._lock:
            self._store_hits += 1
        if cleared == self._cleared:
            self._memory.put(key, response, remaining, size)
        return copy_as_cached(response) if response.tool_calls else response

    def _save_to_memory(self, key: str, response: Response[Any]) -> Response[Any] | None:
        """Keep a copy of `response` in memory. Returns the copy, or None if it cannot be kept."""
        try:
            kept = copy_as_cached(response)
            size = size_of(kept)
        except (TypeError, ValueError, RecursionError):
            message = "did not cache a response whose tool calls have arguments that are not JSON"
            self._faults.note("unserialisable", message)
            return None
        self._memory.put(key, kept, self.ttl, size)
        return kept

    def _save_to_store(self, key: str, response: Response[Any], stored: float) -> None:
        store = self._usable_store()
        if store is None:
            return
        try:
            address = (self._prefix or self._read_prefix(store)) + key
            store.set(address, encode(address, response, stored), self.ttl)
            self._consecutive_faults = 0
        except Exception as error:  # noqa: BLE001  (whatever a store raises is counted)
            self._note_fault("write", error)

    def _read_prefix(self, store: Store) -> str:
        """The prefix of every address: the group, and the mark of its generation if it has one."""
        mark = store.get(f"{self._stem}generation")
        valid = isinstance(mark, bytes) and mark.isalnum()
        self._prefix = f"{self._stem}{mark.decode('ascii')}." if mark and valid else self._stem
        return self._prefix

    def _clear_store(self) -> None:
        store = self._store
        if store is None:
            return
        try:
            if isinstance(store, DiskStore | MemoryStore):
                store.clear(self._stem)
            else:
                mark = secrets.token_hex(8)
                self._prefix = f"{self._stem}{mark}."
                store.set(f"{self._stem}generation", mark.encode("ascii"), self.ttl)
        except Exception as error:  # noqa: BLE001  (whatever a store raises is counted)
            self._note_fault("clear", error)

    def _note_fault(self, operation: str, error: Exception) -> None:
        """Count and log a fault, and suspend the store if it is one too many."""
        if isinstance(error, CacheFault):
            self._faults.note(error.reason, str(error))
            if error.permanent:
                self._suspended_until = float("inf")
            if error.reason in _FAULTS_OF_ONE_ENTRY:
                return
        else:
            # Only the type: the message of a foreign exception may quote a key or a response.
            self._faults.note(operation, f"the store failed to {operation}: {type(error).__name__}")
        self._consecutive_faults += 1
        if self._consecutive_faults >= MAX_FAULTS:
            self._consecutive_faults = 0
            self._suspended_until = max(self._suspended_until, self._clock() + SUSPENSION)


def build_response_cache(
    spec: Store | str | None,
    *,
    directory: str | os.PathLike[str] | None = None,
    ttl: float = 3600.0,
    namespace: str = "",
    clock: Now | None = None,
) -> ResponseCache | None:
    """The response cache that a manager's settings describe, or None if it is off.

    Args:
        spec: ``"disk"`` (memory and disk), ``"memory"``, a `Store` (memory and this store), or
            None (off). The environment variable ``AGENTKIT_CACHE``, set to ``memory`` or ``off``,
            overrides it.
        directory: the directory of the disk tier (default ``AGENTKIT_CACHE_DIR``, or else the
            user's cache directory).
        ttl: seconds for which a response is valid (default 3600).
        namespace: separates the entries of this cache from others in a shared store.
        clock: seconds for the memory tier (default `time.monotonic`).

    Raises:
        ConfigurationError: a setting is invalid, also one that the environment overrides.
    """
    override = os.environ.get("AGENTKIT_CACHE", "").strip().lower()
    if override not in ("", "memory", "off"):
        raise ConfigurationError(
            f"AGENTKIT_CACHE must be memory or off, got {override!r}", hint="change it, or unset it"
        )
    steady = time.monotonic if clock is None else clock
    store = _store_of(spec, directory)
    cache = ResponseCache(
        None if override == "memory" else store, namespace=namespace, ttl=ttl, clock=steady
    )
    return None if spec is None or override == "off" else cache


def _store_of(spec: Any, directory: str | os.PathLike[str] | None) -> Store | None:
    if spec is None or (isinstance(spec, str) and spec == "memory"):
        return None
    if isinstance(spec, str) and spec == "disk":
        return DiskStore(directory)
    methods = [getattr(spec, name, None) for name in ("get", "set")]
    if isinstance(spec, str | type) or not all(map(callable, methods)):
        is_url = isinstance(spec, str) and "://" in spec
        given = "a URL" if is_url else repr(spec)  # a URL may contain a password
        raise ConfigurationError(
            f"cache must be 'disk', 'memory', None or a store, got {given}",
            hint="pass the URL of a Valkey or Redis server as fleet="
            if is_url
            else "a store is an object with get(key) and set(key, value, ttl)",
        )
    if any(map(inspect.iscoroutinefunction, methods)):
        raise ConfigurationError(
            f"the store {type(spec).__name__} has async methods",
            hint="use a store whose get and set are plain functions",
        )
    return spec  # type: ignore[no-any-return]


def _do_nothing() -> None:
    pass


_open_caches: weakref.WeakSet[ResponseCache] = weakref.WeakSet()


def _close_all() -> None:
    """Let the writers finish, also in a script that ends right after its last call."""
    for cache in list(_open_caches):
        cache.close()


atexit.register(_close_all)
