"""HTTP for asyncio: a protocol around an `HttpExchange`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

from agentkit.engine.drivers.timer import TaskLimit, Timer
from agentkit.providers.transport.base import CONNECT_TIMEOUT
from agentkit.providers.transport.http.address import IDLE_SECONDS, Address, tls_context
from agentkit.providers.transport.http.exchange import MOST_UNREAD, HttpExchange
from agentkit.providers.transport.http.failures import HttpTimeoutError, connection_error


class AsyncHttpClient:
    """The connections of one event loop to one address."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self.timer = Timer(self._loop)
        self._idle: deque[_Connection] = deque()
        self._closed = False

    async def post(self, request: bytes, read_timeout: float) -> AsyncHttpReply:
        """Send a request and receive the head of its response.

        Raises:
            HttpConnectionError: there is no connection, or it broke.
            HttpTimeoutError: no byte came within `read_timeout` seconds.
            MalformedResponseError: the response is not HTTP.
        """
        connection = self._take()
        if connection is None:
            connection = await self._connect()
        exchange = connection.begin()
        try:
            connection.transport.write(request)
            while not exchange.has_head:
                await self.receive(connection, read_timeout)
        except BaseException:
            connection.close()
            raise
        return AsyncHttpReply(self, connection, exchange, read_timeout)

    async def receive(self, connection: _Connection, read_timeout: float) -> None:
        """Wait for the next bytes of a response."""
        limit = connection.limit
        limit.start(read_timeout)
        try:
            await connection.receive()
        except asyncio.CancelledError as error:
            if limit.expired():
                raise HttpTimeoutError("no response in time") from error
            raise
        except OSError as error:
            raise connection_error(error, self._address) from error
        finally:
            limit.stop()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        if self._closed:
            connection.close()
            return
        now = connection.idle_since = self._loop.time()
        self._idle.append(connection)
        while self._idle[0].idle_since < now - IDLE_SECONDS:
            self._idle.popleft().close()

    def _take(self) -> _Connection | None:
        """The connection that was used last and is alive."""
        oldest = self._loop.time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and connection.is_usable():
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        limit = TaskLimit(self.timer)
        limit.start(CONNECT_TIMEOUT)
        connection = _Connection(self.timer)
        try:
            await _open(self._loop, connection, self._address)
        except BaseException as error:
            connection.close()
            if isinstance(error, asyncio.CancelledError) and limit.expired():
                raise HttpTimeoutError("no connection in time") from error
            if isinstance(error, OSError):
                raise connection_error(error, self._address) from error
            raise
        finally:
            limit.stop()
        return connection

    async def aclose(self) -> None:
        """Close the idle connections; one in use is closed after its response."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class AsyncHttpReply:
    """A response whose head has arrived."""

    __slots__ = ("_client", "_connection", "_exchange", "_read_timeout", "headers", "status")

    def __init__(
        self,
        client: AsyncHttpClient,
        connection: _Connection,
        exchange: HttpExchange,
        read_timeout: float,
    ) -> None:
        self._client = client
        self._connection = connection
        self._exchange = exchange
        self._read_timeout = read_timeout
        self.status = exchange.status
        self.headers: Mapping[str, str] = exchange.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of the body, each with everything that arrived together."""
        exchange, connection = self._exchange, self._connection
        while True:
            if exchange.unread:
                yield exchange.take()
                connection.resume()
            elif exchange.complete:
                return
            else:
                await self._client.receive(connection, self._read_timeout)

    def release(self, *, finished: bool) -> None:
        """Keep the connection for the next request, or close it.

        `finished`: nothing that matters is left of the response, which may yet have to end.
        """
        if finished and (self._exchange.reusable or not self._exchange.complete):
            self._client.give_back(self._connection)
        else:
            self._connection.close()


class _Connection(asyncio.Protocol):
    """One connection: carries one request at a time."""

    def __init__(self, timer: Timer) -> None:
        self.transport: asyncio.Transport
        self.limit = TaskLimit(timer)
        self.idle_since = 0.0
        self._exchange = HttpExchange()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._ended = False
        self._paused = False

    def begin(self) -> HttpExchange:
        """Begin an exchange."""
        self._exchange = HttpExchange()
        return self._exchange

    async def receive(self) -> None:
        """Wait until something arrives, or the connection ends."""
        exchange = self._exchange
        if self._error is None and not self._ended and not exchange.unread:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if exchange.unread or exchange.complete:
            return
        if self._error is not None:
            raise self._error
        if self._ended:
            exchange.feed_end()

    def resume(self) -> None:
        """Continue reading, if it was paused."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def is_usable(self) -> bool:
        """Whether it is open, and its last response has ended, with nothing after it."""
        return not self._ended and self._error is None and self._exchange.reusable

    def close(self) -> None:
        """Close it at once."""
        self._ended = True
        transport = getattr(self, "transport", None)
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        try:
            self._exchange.feed(data)
        except Exception as error:  # noqa: BLE001 - raised in the task that waits
            self._error = error
        if self._exchange.unread > MOST_UNREAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Called by the event loop."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._ended = True
        self._error = self._error or exc
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def _open(loop: asyncio.AbstractEventLoop, connection: _Connection, address: Address) -> None:
    """Connect to `address`, through its proxy and over TLS where it has them."""
    context = tls_context() if address.secure else None
    name = address.host if address.secure else None
    host, port = address.first_address
    if address.tunnel is None:
        await loop.create_connection(
            lambda: connection,
            host,
            port,
            ssl=context,
            server_hostname=name,
            happy_eyeballs_delay=0.25,
        )
        return
    await loop.create_connection(lambda: connection, host, port, happy_eyeballs_delay=0.25)
    exchange = connection.begin()
    connection.transport.write(address.tunnel)
    while not exchange.has_head:
        await connection.receive()
    address.check_tunnel(exchange.status)
    if context is not None:
        transport = await loop.start_tls(
            connection.transport, connection, context, server_hostname=name
        )
        connection.transport = transport  # type: ignore[assignment]
