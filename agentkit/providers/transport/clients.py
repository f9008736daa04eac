"""Clients of vendors' SDKs: made when first used, one for sync calls and one for each event loop.

The connections of an async client belong to the event loop that opened them, and no client
survives a fork. Both are handled here: a transport asks for a client and gets one that works.

Each async client lives in an async generator. When an event loop ends, `asyncio.run` and the like
close every generator that is left in it, and this one closes its client. So even many short-lived
loops leave no connection open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from agentkit._fork import fork_safe_lock, on_fork

S = TypeVar("S")
A = TypeVar("A")

_inherited: list[Any] = []
"""Clients of the parent process, kept so that the child never closes them."""


class _Held(NamedTuple, Generic[A]):
    """An async client, and the generator that closes it at its end."""

    client: A
    life: AsyncGenerator[None, None]


class SdkClients(Generic[S, A]):
    """The clients of one transport; `make_sync` and `make_async` make one each.

    Safe to use from many threads and event loops.
    """

    def __init__(self, make_sync: Callable[[], S], make_async: Callable[[], A]) -> None:
        self._make_sync = make_sync
        self._make_async = make_async
        self._forget()
        on_fork(self._leave_to_parent)

    def _forget(self) -> None:
        self._lock = fork_safe_lock()
        self._sync: S | None = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, _Held[A]] = WeakKeyDictionary()

    def _leave_to_parent(self) -> None:
        """In a forked child: even closing an inherited client could disturb the parent."""
        _inherited.append((self._sync, self._async))
        self._forget()

    def sync(self) -> S:
        """The client for sync calls."""
        client = self._sync
        if client is None:
            with self._lock:
                client = self._sync
                if client is None:
                    client = self._sync = self._make_sync()
        return client

    def of_loop(self) -> A:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        held = self._async.get(loop)
        if held is None:
            client = self._make_async()
            held = _Held(client, self._life(loop, client))
            with suppress(StopIteration):
                held.life.__anext__().send(None)  # enter its body, which registers it with the loop
            with self._lock:
                for other in [each for each in self._async if each.is_closed()]:
                    del self._async[other]
                self._async[loop] = held
        return held.client

    async def _life(self, loop: asyncio.AbstractEventLoop, client: A) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                held = self._async.get(loop)
                if held is not None and held.client is client:  # not its successor
                    del self._async[loop]
            with suppress(Exception):
                await _closer(client)()

    def close(self) -> None:
        """Close the sync client, and those of other event loops; the next call gets new ones.

        A client of a loop that still runs is closed there, soon; one whose loop was closed without
        ending its generators is dropped.
        """
        with self._lock:
            sync, self._sync = self._sync, None
            others, self._async = dict(self._async), WeakKeyDictionary()
        if sync is not None:
            with suppress(Exception):
                _closer(sync)()
        for loop, held in others.items():
            _close_in(loop, held.life)

    async def aclose(self) -> None:
        """Like `close`, waiting for the clients of the running loop."""
        with self._lock:
            own = self._async.pop(asyncio.get_running_loop(), None)
        if own is not None:
            await own.life.aclose()
        self.close()


def _closer(client: Any) -> Callable[[], Any]:
    close: Callable[[], Any] = getattr(client, "aclose", None) or client.close
    return close


def _close_in(loop: asyncio.AbstractEventLoop, life: AsyncGenerator[None, None]) -> None:
    async def close() -> None:
        await life.aclose()

    if loop.is_closed():
        return
    coroutine = close()
    try:
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(coroutine, loop)
        else:
            loop.run_until_complete(coroutine)
    except RuntimeError:
        coroutine.close()
