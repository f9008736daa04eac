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

_line: ContextVar[Line | None] = ContextVar("agentkit_bedrock_line", default=None)


class Line:
    """One request, whichever connection carries it.

    Args:
        silence: seconds without data after which its socket times out; None: as the client says.
    """

    def __init__(self, silence: float | None = None) -> None:
        self.silence = silence
        self.gone = False
        self._lock = fork_safe_lock()
        self._connection: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Requests that this thread sends in this context belong to this line."""
        token = _line.set(self)
        try:
            yield
        finally:
            _line.reset(token)

    def release(self) -> None:
        """The response is complete: from now on, the connection belongs to another request."""
        with self._lock:
            self._connection = None

    def cut(self) -> None:
        """Cancel: unblock the reading thread, and send nothing more."""
        with self._lock:
            self.gone = True
            connection = self._connection
            if connection is not None and connection.line is self:
                with suppress(OSError, TypeError):  # TypeError: it has no socket yet
                    # A TLS socket's own shutdown would let another thread continue in plain text.
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _take(self, connection: Any) -> None:
        with self._lock:
            self._check()
            self._connection, connection.line = connection, self

    def _check(self) -> None:
        if self.gone:
            raise ConnectionAbortedError("the request was cancelled")

    def _limit(self, timeout: Any) -> Any:
        if self.silence is None or not isinstance(timeout, int | float):
            return timeout
        return min(timeout, self.silence)


def reachable(client: Any) -> None:
    """Give the connections of an SDK client the class that obeys a `Line`.

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
        connection = type("Connection", (_OnLine, pool.ConnectionCls), {})
        return type("Pool", (pool,), {"ConnectionCls": connection})

    return {
        "http": of(awsrequest.AWSHTTPConnectionPool),
        "https": of(awsrequest.AWSHTTPSConnectionPool),
    }


class _OnLine:
    """A mixin for the SDK's connections."""

    line: Line | None = None
    timeout: Any

    def request(self, *args: Any, **kwargs: Any) -> Any:
        line = _line.get()
        if line is not None:
            line._take(self)
            self.timeout = line._limit(self.timeout)
        return super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        line = _line.get()
        if line is not None:
            line._check()
            self.timeout = line._limit(self.timeout)
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]
