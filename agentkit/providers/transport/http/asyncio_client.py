"""HTTP for asyncio: a protocol around an `HttpExchange`."""

from __future__ import annotations

import asyncio
import math
import select
import socket
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from agentkit.engine.drivers.timer import TaskLimit, Timer
from agentkit.providers.transport.http.address import (
    END_SECONDS,
    NEXT_ADDRESS_SECONDS,
    Address,
    set_options,
    tls_context,
)
from agentkit.providers.transport.http.exchange import MOST_UNREAD, HttpExchange
from agentkit.providers.transport.http.failures import HttpTimeoutError, connection_error
from agentkit.providers.transport.http.limits import ConnectSteps, Step
from agentkit.providers.transport.http.resolver import AddressInfo, resolver
from agentkit.providers.transport.http.turns import Turns
from agentkit.providers.transport.options import ConnectionOptions


class AsyncHttpClient:
    """The connections of one event loop to one address.

    `end_timeout` are the seconds for the end of the last response, before another connection is
    opened; `clock` returns the time of day.
    """

    def __init__(
        self,
        address: Address,
        *,
        options: ConnectionOptions = ConnectionOptions(),  # noqa: B008 - immutable
        end_timeout: float = END_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = address
        self._connect_timeout = options.connect_timeout
        self._expiry = options.keepalive_expiry
        self._most_idle = options.max_keepalive_connections
        self._end_timeout = end_timeout
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.timer = Timer(self._loop)
        self.turns = Turns(self._loop)
        self._idle: deque[_Connection] = deque()
        self._opening = 0
        """Connections that `open_idle` is about to add."""
        self._keeps = options.max_keepalive_connections > 0
        """Whether idle connections are kept: not after the end."""

    async def post(self, request: bytes, read_timeout: float) -> AsyncHttpReply:
        """Send a request and receive the head of its response.

        Raises:
            HttpConnectionError: there is no connection, or it broke.
            HttpTimeoutError: no byte came within `read_timeout` seconds.
            MalformedResponseError: the response is not HTTP.
        """
        connection = self._take()
        if connection is None and self._idle:  # each has yet to receive the end of a response
            connection = await self._take_at_end(min(read_timeout, self._end_timeout))
        if connection is None:
            connection = await self._connect(read_timeout)
        exchange = connection.begin()
        try:
            connection.transport.write(request)
            while not exchange.has_head:
                if (arrival := connection.arrival(read_timeout)) is not None:
                    await arrival
                connection.check()
        except BaseException:
            connection.close()
            raise
        return AsyncHttpReply(self, connection, exchange, read_timeout)

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        if not self._keeps:
            connection.close()
            return
        now = connection.idle_since = self._clock()
        self._idle.append(connection)
        while len(self._idle) > self._most_idle or self._idle[0].is_too_old(now, self._expiry):
            self._idle.popleft().close()

    def _take(self) -> _Connection | None:
        """The connection that was used last and is alive."""
        now = self._clock()
        for index in range(len(self._idle) - 1, -1, -1):
            connection = self._idle[index]
            too_old = connection.is_too_old(now, self._expiry)
            if connection.is_ending() and not too_old:
                continue
            del self._idle[index]
            if connection.is_usable() and not too_old:
                return connection
            connection.close()
        return None

    async def _take_at_end(self, seconds: float) -> _Connection | None:
        """The connection that was used last, if its last response ends within `seconds`."""
        connection = self._idle.pop()
        try:
            await connection.finish(seconds)
        except BaseException:
            connection.close()
            raise
        if connection.is_usable():
            return connection
        connection.close()
        return None

    async def open_idle(self, count: int) -> None:
        """Open connections until `count` are idle, at most as many as are kept.

        Raises:
            HttpConnectionError: one cannot be opened.
            HttpTimeoutError: a step of it took too long.
        """
        missing = max(min(count, self._most_idle) - len(self._idle) - self._opening, 0)
        self._opening += missing
        try:
            opened = (self._open_one() for _ in range(missing))
            outcomes = await asyncio.gather(*opened, return_exceptions=True)
        finally:
            self._opening -= missing
        for failure in outcomes:
            if failure is not None:
                raise failure

    async def _open_one(self) -> None:
        connection = await self._connect(math.inf)
        connection.begin_idle()
        self.give_back(connection)

    async def _connect(self, seconds: float) -> _Connection:
        """A new connection, in `seconds` for all steps together."""
        connection = _Connection(self._address, self.timer, self.turns)
        try:
            await self._open(connection, seconds)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):
                raise connection_error(error, self._address) from error
            raise
        return connection

    async def _open(self, connection: _Connection, seconds: float) -> None:
        """Connect to the address, through its proxy and over TLS where it has them."""
        address, loop = self._address, self._loop
        context = tls_context(address.ca_bundle) if address.secure else None
        end = loop.time() + seconds
        steps = ConnectSteps(address, self._connect_timeout)
        with self._limited(steps.dns, end):
            found = await resolver.afind(address.first_address)
        with self._limited(steps.connect, end):
            connected = await _connect(loop, found)
            await loop.create_connection(lambda: connection, sock=connected)
        if address.tunnel is not None:
            with self._limited(steps.tunnel, end):
                exchange = connection.begin()
                connection.transport.write(address.tunnel)
                while not exchange.has_head:
                    if (arrival := connection.arrival()) is not None:
                        await arrival
                    connection.check()
            address.check_tunnel(exchange.status)
        if context is not None:
            with self._limited(steps.tls, end):
                await _start_tls(loop, connection, context, address.host)

    @contextmanager
    def _limited(self, step: Step, end: float) -> Iterator[None]:
        """Limits the time of `step`, which is due at `end` at the latest. Raises its error."""
        left = max(end - self._loop.time(), 0.0)
        limit = TaskLimit(self.timer)
        limit.start(min(step.seconds, left))
        try:
            yield
        except asyncio.CancelledError as error:
            if limit.expired():
                raise step.error(left) from error
            raise
        finally:
            limit.stop()

    async def aclose(self) -> None:
        """Close the idle connections; one in use is closed after its response."""
        self._keeps = False
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

    async def next_chunk(self) -> bytes:
        """The next piece of the body, with everything that arrived together; empty at the end."""
        exchange, connection = self._exchange, self._connection
        connection.resume()
        while not exchange.unread:
            if exchange.complete:
                return b""
            if (arrival := connection.arrival(self._read_timeout)) is not None:
                await arrival
            connection.check()
        return exchange.take()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of the body."""
        while chunk := await self.next_chunk():
            yield chunk

    def release(self, *, finished: bool) -> None:
        """Keep the connection for the next request, or close it.

        `finished`: nothing that matters is left of the response, which may yet have to end.
        """
        if finished and self._exchange.keeps_connection:
            self._client.give_back(self._connection)
        else:
            self._connection.close()


class _Connection(asyncio.Protocol):
    """One connection: carries one request at a time."""

    def __init__(self, address: Address, timer: Timer, turns: Turns) -> None:
        self.transport: asyncio.Transport
        self._address = address
        self._loop = timer.loop
        self._timer = timer
        self._turns = turns
        self.due = math.inf
        """When the silence has been too long. It is the connection that waits, not the task."""
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

    def begin_idle(self) -> None:
        """It is open, and carries no request yet."""
        self._exchange = HttpExchange.none_yet()

    def arrival(self, seconds: float = math.inf) -> asyncio.Future[None] | None:
        """Completes when something arrives, or the connection ends; None: that has happened.

        After `seconds` it fails with an `HttpTimeoutError`.
        """
        if self._ended or self._error is not None or self._exchange.unread:
            return None
        waiter = self._waiter = self._loop.create_future()
        timer = self._timer
        self.due = timer.now() + seconds
        timer.add(self)
        return waiter

    def ring(self) -> None:
        """Called by the timer."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(HttpTimeoutError("no response in time"))

    def check(self) -> None:
        """Raises what broke the connection, unless something arrived before."""
        exchange = self._exchange
        if exchange.unread or exchange.complete:
            return
        try:
            if self._error is not None:
                raise self._error
            if self._ended:
                exchange.feed_end()
        except OSError as error:
            raise connection_error(error, self._address) from error

    async def finish(self, seconds: float) -> None:
        """Wait until the last response ends, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.is_ending():
                    self._exchange.take()
                    self.resume()
                    if (arrival := self.arrival()) is not None:
                        await arrival

    def resume(self) -> None:
        """Continue reading, if it was paused."""
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def is_usable(self) -> bool:
        """Whether it is open, and its last response has ended, with nothing after it."""
        return self._is_open() and self._exchange.reusable and not self._has_more()

    def is_ending(self) -> bool:
        """Whether it is open, and its last response has yet to end."""
        return self._is_open() and not self._exchange.complete

    def is_too_old(self, now: float, seconds: float) -> bool:
        """Whether it has been idle for more than `seconds`."""
        return not 0 <= now - self.idle_since <= seconds

    def _is_open(self) -> bool:
        return not self._ended and self._error is None

    def _has_more(self) -> bool:
        """Whether something came, or it was closed, and the event loop had no time to notice."""
        number = self.transport.get_extra_info("socket").fileno()
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([number], [], [], 0)[0])
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it at once."""
        self._ended = True
        self._timer.remove(self)
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
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        self._timer.remove(self)
        if not waiter.done():
            self._turns.wake(waiter)


class _Tls(SSLProtocol):
    """asyncio's TLS, reading less at a time: its buffer takes 256 KiB of each connection."""

    max_size = 8 * 1024


async def _start_tls(
    loop: asyncio.AbstractEventLoop, connection: _Connection, context: ssl.SSLContext, host: str
) -> None:
    """Use TLS from now on, as ``loop.start_tls`` does."""
    transport = connection.transport
    secured = loop.create_future()
    tls = _Tls(loop, connection, context, secured, server_hostname=host)
    transport.pause_reading()
    transport.set_protocol(tls)
    begun = [
        loop.call_soon(tls.connection_made, transport),
        loop.call_soon(transport.resume_reading),
    ]
    try:
        await secured
    except BaseException:
        for each in begun:
            each.cancel()
        raise


async def _connect(loop: asyncio.AbstractEventLoop, found: Sequence[AddressInfo]) -> socket.socket:
    """A socket that is connected to the first of the addresses that answers.

    asyncio's own way to try several can lose a socket when it is cancelled.
    """
    *others, last = found
    for each in others:
        with suppress(OSError):
            async with asyncio.timeout(NEXT_ADDRESS_SECONDS):
                return await _connect_to(loop, each)
    return await _connect_to(loop, last)


async def _connect_to(loop: asyncio.AbstractEventLoop, found: AddressInfo) -> socket.socket:
    family, kind, protocol, _, place = found
    connected = socket.socket(family, kind, protocol)
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, place)
    except BaseException:
        connected.close()
        raise
    set_options(connected)
    return connected
