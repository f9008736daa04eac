"""The connection of each request: with the time limit of its attempt, and closed from any thread.

The SDK offers neither, so its connections get a class that knows which request they carry.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from agentkit._fork import fork_safe_lock

_current: ContextVar[RequestConnection | None] = ContextVar(
    "agentkit_bedrock_connection", default=None
)


class RequestConnection:
    """The connection of one request, whichever of the pool it is.

    Args:
        read_timeout: seconds without data after which its socket times out; None: those of the
            client.
    """

    def __init__(self, read_timeout: float | None = None) -> None:
        self._read_timeout = read_timeout
        self.cancelled = False
        self._lock = fork_safe_lock()
        self._connection: Any = None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use it for what this thread sends in this context."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def release(self) -> None:
        """The response is complete: from now on, the connection belongs to another request."""
        with self._lock:
            self._connection = None

    def cancel(self) -> None:
        """Unblock the reading thread, and send nothing more."""
        with self._lock:
            self.cancelled = True
            connection = self._connection
            if connection is not None and connection.request_connection is self:
                with suppress(OSError, TypeError):  # TypeError: it has no socket yet
                    # A TLS socket's own shutdown would let another thread continue in plain text.
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _take(self, connection: Any) -> None:
        with self._lock:
            self._check()
            self._connection, connection.request_connection = connection, self

    def _check(self) -> None:
        if self.cancelled:
            raise ConnectionAbortedError("the request was cancelled")

    def _limit(self, timeout: Any) -> Any:
        if self._read_timeout is None or not isinstance(timeout, int | float):
            return timeout
        return min(timeout, self._read_timeout)


def control_connections(client: Any) -> None:
    """Give the connections of an SDK client a class that obeys a `RequestConnection`.

    A client with other internals than expected stays as it is; its own time limits end its
    requests.
    """
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    pools = getattr(session, "_pool_classes_by_scheme", None)
    if isinstance(pools, dict):
        pools.update(_pools())


@functools.cache
def _pools() -> dict[str, Any]:
    from botocore import awsrequest

    def of(pool: Any) -> Any:
        connection = type("Connection", (_Controlled, pool.ConnectionCls), {})
        return type("Pool", (pool,), {"ConnectionCls": connection})

    return {
        "http": of(awsrequest.AWSHTTPConnectionPool),
        "https": of(awsrequest.AWSHTTPSConnectionPool),
    }


class _Controlled:
    """A mixin for the SDK's connections."""

    request_connection: RequestConnection | None = None
    timeout: Any

    def request(self, *args: Any, **kwargs: Any) -> Any:
        current = _current.get()
        if current is not None:
            current._take(self)
            self.timeout = current._limit(self.timeout)
        return super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        current = _current.get()
        if current is not None:
            current._check()
            self.timeout = current._limit(self.timeout)
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]
