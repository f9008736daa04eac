"""HTTP for threads: blocking sockets around an `HttpExchange`."""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress

from agentkit.providers.transport.base import CONNECT_TIMEOUT
from agentkit.providers.transport.connection import CancelScope, current_scope
from agentkit.providers.transport.http.address import IDLE_SECONDS, Address, tls_context
from agentkit.providers.transport.http.exchange import HttpExchange
from agentkit.providers.transport.http.failures import connection_error

_MOST_AT_ONCE = 65_536


class SyncHttpClient:
    """The connections to one address; safe to use from many threads."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: deque[_Connection] = deque()
        self._closed = False

    def post(self, request: bytes, read_timeout: float) -> SyncHttpReply:
        """Send a request and receive the head of its response.

        Raises:
            HttpConnectionError: there is no connection, or it broke.
            HttpTimeoutError: no byte came within `read_timeout` seconds.
            MalformedResponseError: the response is not HTTP.
        """
        connection = None
        scope = current_scope()
        try:
            connection = self._take() or _Connection(self._address)
            if scope is not None:
                scope.use(connection)
            connection.socket.settimeout(read_timeout)
            connection.exchange = exchange = HttpExchange()
            connection.socket.sendall(request)
            while not exchange.has_head:
                connection.receive()
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, OSError):
                raise connection_error(error, self._address) from error
            raise
        return SyncHttpReply(self, connection, exchange)

    def receive(self, connection: _Connection) -> None:
        """Wait for the next bytes of a response."""
        try:
            connection.receive()
        except OSError as error:
            raise connection_error(error, self._address) from error

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _take(self) -> _Connection | None:
        """The connection that was used last and proves to be alive."""
        oldest = time.monotonic() - IDLE_SECONDS
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle_since >= oldest and connection.is_usable():
                return connection
            connection.close()

    def close(self) -> None:
        """Close the idle connections; one in use is closed after its response."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


class SyncHttpReply:
    """A response whose head has arrived."""

    __slots__ = ("_client", "_connection", "_exchange", "headers", "status")

    def __init__(
        self, client: SyncHttpClient, connection: _Connection, exchange: HttpExchange
    ) -> None:
        self._client = client
        self._connection = connection
        self._exchange = exchange
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.headers

    def chunks(self) -> Iterator[bytes]:
        """The pieces of the body, each with everything that arrived together."""
        exchange = self._exchange
        while True:
            if exchange.unread:
                yield exchange.take()
            elif exchange.complete:
                return
            else:
                self._client.receive(self._connection)

    def release(self, *, finished: bool) -> None:
        """Keep the connection for the next request, or close it.

        `finished`: nothing that matters is left of the response, which may yet have to end.
        """
        connection = self._connection
        if connection.scope is not None:
            connection.scope.release()
        if finished and (self._exchange.reusable or not self._exchange.complete):
            self._client.give_back(connection)
        else:
            connection.close()


class _Connection:
    """One connection: carries one request at a time."""

    __slots__ = ("exchange", "idle_since", "scope", "socket")

    def __init__(self, address: Address) -> None:
        self.scope: CancelScope | None = None
        self.exchange = HttpExchange()
        self.idle_since = 0.0
        self.socket = _connect(address)

    def receive(self) -> None:
        """Wait for the next bytes, and parse them."""
        data = self.socket.recv(_MOST_AT_ONCE)
        if data:
            self.exchange.feed(data)
        else:
            self.exchange.feed_end()

    def is_usable(self) -> bool:
        """Whether it is open, and its last response has ended, with nothing after it."""
        self.socket.settimeout(0.0)
        try:
            while True:
                self.receive()
                if self.exchange.complete and not self.exchange.reusable:
                    return False
        except (BlockingIOError, ssl.SSLWantReadError):
            return self.exchange.reusable
        except Exception:  # noqa: BLE001 - the rest of the response was not as expected
            return False

    def close(self) -> None:
        """Close it."""
        with suppress(OSError):
            self.socket.close()


def _connect(address: Address) -> socket.socket:
    """A socket that is connected to `address`, through its proxy and over TLS where it has them."""
    connected = socket.create_connection(address.first_address, timeout=CONNECT_TIMEOUT)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tunnel is not None:
            connected.sendall(address.tunnel)
            exchange = HttpExchange()
            while not exchange.has_head:
                data = connected.recv(_MOST_AT_ONCE)
                exchange.feed(data) if data else exchange.feed_end()
            address.check_tunnel(exchange.status)
        if address.secure:
            return tls_context().wrap_socket(connected, server_hostname=address.host)
    except BaseException:
        connected.close()
        raise
    return connected
