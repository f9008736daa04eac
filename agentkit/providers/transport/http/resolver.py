"""The addresses of a host, looked up on a thread, so that the wait for them has a time limit.

The system's resolver takes no time limit and cannot be interrupted: where no name server answers,
it blocks for up to half a minute. asyncio calls it on the few threads of the loop's own pool, which
lookups that hang would occupy, and for which the end of the loop would wait.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeAlias

from agentkit._fork import fork_safe_lock, on_fork

AddressInfo: TypeAlias = tuple[int, int, int, str, Any]
"""What ``getaddrinfo`` finds."""
Place: TypeAlias = tuple[str, int]
"""A host and a port."""
_JOINED_SECONDS: Final = 5.0
"""Seconds for which a lookup under way is joined; then another one is worth its thread."""


class Resolver:
    """Looks up hosts, once for all callers that ask at the same time.

    Safe to use from many threads and event loops. A lookup without a waiting caller ends with
    the system's own limits.
    """

    def __init__(self) -> None:
        self._reset()
        on_fork(self._reset)

    def _reset(self) -> None:
        self._lock = fork_safe_lock()
        self._lookups: dict[Place, tuple[float, Future[Sequence[AddressInfo]]]] = {}
        """Those under way, and when they began."""

    def find(self, place: Place, seconds: float) -> Sequence[AddressInfo]:
        """The addresses of `place`.

        Raises:
            TimeoutError: they were not found within `seconds`.
            OSError: there are none, or they cannot be looked up.
        """
        known = _numeric(place)
        if known is not None:
            return known
        return self._lookup(place).result(seconds)

    async def afind(self, place: Place) -> Sequence[AddressInfo]:
        """Like `find`, for asyncio, where the caller has the time limit."""
        known = _numeric(place)
        if known is not None:
            return known
        return await asyncio.wrap_future(self._lookup(place))

    def _lookup(self, place: Place) -> Future[Sequence[AddressInfo]]:
        """A lookup: one under way that is not too old, or a new one."""
        now = time.monotonic()
        with self._lock:
            under_way = self._lookups.get(place)
            if under_way is not None and now - under_way[0] < _JOINED_SECONDS:
                return under_way[1]
            found: Future[Sequence[AddressInfo]] = Future()
            found.set_running_or_notify_cancel()  # a caller that is cancelled leaves it to others
            self._lookups[place] = now, found
        thread = threading.Thread(
            target=self._run, args=(place, found), name="agentkit-dns", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._forget(place, found)
            found.set_exception(OSError(f"no thread to look up a host: {error}"))
        return found

    def _run(self, place: Place, found: Future[Sequence[AddressInfo]]) -> None:
        try:
            addresses = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
        except BaseException as error:  # noqa: BLE001 - raised in the threads that wait
            self._forget(place, found)
            found.set_exception(error)
        else:
            self._forget(place, found)
            found.set_result(addresses)

    def _forget(self, place: Place, found: Future[Sequence[AddressInfo]]) -> None:
        with self._lock:
            under_way = self._lookups.get(place)
            if under_way is not None and under_way[1] is found:
                del self._lookups[place]


def _numeric(place: Place) -> Sequence[AddressInfo] | None:
    """The address of a host that is one, which needs no lookup."""
    try:
        return socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None


resolver = Resolver()
