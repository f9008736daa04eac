"""Vendor SDK clients: made when first used, one for blocking calls and one for each event loop.

An async client's connections belong to the event loop that made them, and no client survives a
fork; both are seen to here, so that an adapter asks for a client and gets one that works.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

S = TypeVar("S")
A = TypeVar("A")


class Clients(Generic[S, A]):
    """A provider's clients; `make_sync` and `make_async` build one each.

    Safe to use from many threads and event loops.
    """

    def __init__(self, make_sync: Callable[[], S], make_async: Callable[[], A]) -> None:
        self._make_sync = make_sync
        self._make_async = make_async
        self._forget()

    def _forget(self) -> None:
        self._lock = Lock()
        self._process = os.getpid()
        self._sync: S | None = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, A] = WeakKeyDictionary()

    def sync(self) -> S:
        """The client for blocking calls."""
        if self._process != os.getpid():
            self._forget()
        client = self._sync
        if client is None:
            with self._lock:
                client = self._sync
                if client is None:
                    client = self._sync = self._make_sync()
        return client

    def of_loop(self) -> A:
        """The client of the running event loop."""
        if self._process != os.getpid():
            self._forget()
        loop = asyncio.get_running_loop()
        client = self._async.get(loop)
        if client is None:
            with self._lock:
                client = self._async[loop] = self._make_async()
        return client

    def close(self) -> None:
        """Close the blocking client, and those of event loops that run or no longer exist.

        A client of a loop that still runs is closed there, soon; one whose loop is closed is let
        go of. Whatever is asked next gets new ones.
        """
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            sync, self._sync = self._sync, None
            others, self._async = dict(self._async), WeakKeyDictionary()
        if sync is not None:
            with suppress(Exception):
                _closing(sync)()
        for loop, client in others.items():
            _close_in(loop, client)

    async def aclose(self) -> None:
        """Like `close`, waiting for the clients of the running loop."""
        with self._lock:
            mine = self._async.pop(asyncio.get_running_loop(), None)
        if mine is not None:
            with suppress(Exception):
                await _closing(mine)()
        self.close()


def _closing(client: Any) -> Callable[[], Any]:
    found: Callable[[], Any] = getattr(client, "aclose", None) or client.close
    return found


def _close_in(loop: asyncio.AbstractEventLoop, client: Any) -> None:
    async def close() -> None:
        with suppress(Exception):
            await _closing(client)()

    if loop.is_closed():
        return
    closing = close()
    try:
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(closing, loop)
        else:
            loop.run_until_complete(closing)
    except RuntimeError:
        closing.close()
