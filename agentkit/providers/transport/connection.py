"""The connection of the request under way, so that another thread can cancel it.

No SDK offers that: its time limits apply to a single read, so that a provider that sends a byte now
and then keeps a request alive for ever. So connections record which request they carry, and
cancelling a request shuts down its socket, which ends the waiting read.

Sockets are reached through internals of httpx (here) and of botocore (in
`agentkit.providers.bedrock.connection`). A client whose internals are not as expected is not
changed: its own time limits end its requests.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from contextvars import ContextVar, Token
from inspect import iscoroutinefunction
from typing import Any, Protocol, Self

from agentkit._fork import fork_safe_lock

_current: ContextVar[CancelScope | None] = ContextVar("agentkit_cancel_scope", default=None)


class Connection(Protocol):
    """Carries one request at a time."""

    scope: CancelScope | None
    """The scope of its latest request."""

    @property
    def socket(self) -> Any:
        """Its socket; None while it has none."""
        ...


class CancelScope:
    """One request that can be cancelled from any thread, whichever connection carries it.

    A request that is sent inside ``with scope:`` belongs to the scope. Only one thread at a time
    may enter it, any number of times: a stream enters it again for each event.
    """

    __slots__ = ("_connection", "_lock", "_tokens", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self._lock = fork_safe_lock()
        self._connection: Connection | None = None
        self._tokens: list[Token[CancelScope | None]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _current.reset(self._tokens.pop())

    def cancel(self) -> None:
        """End the read that is under way, and send nothing more."""
        with self._lock:
            self.cancelled = True
            connection = self._connection
            if connection is not None and connection.scope is self:
                with suppress(OSError, TypeError):  # TypeError: it has no socket yet
                    # A TLS socket's own shutdown would let another thread continue in plain text.
                    socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)

    def release(self) -> None:
        """The response is complete: from now on, the connection belongs to another request."""
        with self._lock:
            self._connection = None

    def use(self, connection: Connection) -> None:
        """The request goes out on `connection`. Raises `ConnectionAbortedError` if cancelled."""
        with self._lock:
            self.check()
            self._connection, connection.scope = connection, self

    def check(self) -> None:
        """Raises `ConnectionAbortedError` if the request was cancelled."""
        if self.cancelled:
            raise ConnectionAbortedError("the request was cancelled")


def current_scope() -> CancelScope | None:
    """The scope of the request that this context sends."""
    return _current.get()


def make_cancellable(client: Any) -> None:
    """Let the connections of an `httpx.Client`, or of an SDK that has one, obey a `CancelScope`.

    An async client stays as it is, since its tasks can be cancelled.
    """
    client = getattr(client, "_client", client)
    mounted = getattr(client, "_mounts", None) or {}
    for transport in (getattr(client, "_transport", None), *mounted.values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if _is_sync(backend):
            pool._network_backend = _Backend(backend)  # type: ignore[union-attr]


def _is_sync(backend: Any) -> bool:
    connect = getattr(backend, "connect_tcp", None)
    return callable(connect) and not iscoroutinefunction(connect)


class _Backend:
    """A network backend of httpcore, whose streams know the request that they carry."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.sleep = backend.sleep

    def connect_tcp(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._backend.connect_tcp(*args, **kwargs))

    def connect_unix_socket(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._backend.connect_unix_socket(*args, **kwargs))


class _Stream:
    """A network stream of httpcore. Each request begins with a write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.read = stream.read
        self.close = stream.close
        self.get_extra_info = stream.get_extra_info
        self.scope: CancelScope | None = None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        scope = _current.get()
        if scope is not None:
            scope.use(self)
        self._stream.write(buffer, timeout)

    def start_tls(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._stream.start_tls(*args, **kwargs))

    @property
    def socket(self) -> Any:
        return self._stream.get_extra_info("socket")
