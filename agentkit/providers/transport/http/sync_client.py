"""HTTP for threads: blocking sockets around an `HttpExchange`."""

from __future__ import annotations

import math
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from agentkit._fork import fork_safe_lock
from agentkit.providers.transport.connection import CancelScope, current_scope
from agentkit.providers.transport.http.address import (
    END_SECONDS,
    NEXT_ADDRESS_SECONDS,
    Address,
    set_options,
    tls_context,
)
from agentkit.providers.transport.http.exchange import HttpExchange
from agentkit.providers.transport.http.failures import connection_error
from agentkit.providers.transport.http.limits import ConnectSteps, Step
from agentkit.providers.transport.http.resolver import AddressInfo, resolver
from agentkit.providers.transport.options import ConnectionOptions

_MOST_AT_ONCE = 65_536
_NO_TIME = 0.001
_MOST_OPENING = 16
"""Connections that `open_idle` opens at a time."""


class SyncHttpClient:
    """The connections to one address; safe to use from many threads.

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
        self._idle: deque[_Connection] = deque()
        self._lock = fork_safe_lock()  # for `open_idle` alone
        self._opening = 0
        """Connections that `open_idle` is about to add."""
        self._closed = False
        # not `__del__`: in a reference cycle, the sockets could be collected before this object
        weakref.finalize(self, _close_all, self._idle).atexit = False

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
            connection = self._take(min(read_timeout, self._end_timeout))
            if connection is None:
                connection = _Connection()
                connection.connect(self._address, self._connect_timeout, read_timeout, scope=scope)
            elif scope is not None:
                scope.use(connection)
            connection.socket.settimeout(read_timeout)
            connection.exchange = exchange = HttpExchange()
            with suppress(BrokenPipeError, ConnectionResetError):
                # A server may refuse a request before it has read all of it.
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

    def open_idle(self, count: int) -> None:
        """Open connections until `count` are idle, at most as many as are kept.

        Raises:
            HttpConnectionError: one cannot be opened.
            HttpTimeoutError: a step of it took too long.
        """
        with self._lock:
            missing = min(count, self._most_idle) - len(self._idle) - self._opening
            if missing <= 0:
                return
            self._opening += missing
        try:
            with ThreadPoolExecutor(min(missing, _MOST_OPENING), "agentkit-connect") as threads:
                for opened in [threads.submit(self._open_one) for _ in range(missing)]:
                    opened.result()
        finally:
            with self._lock:
                self._opening -= missing

    def _open_one(self) -> None:
        connection = _Connection()
        try:
            connection.connect(self._address, self._connect_timeout, math.inf, scope=None)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):
                raise connection_error(error, self._address) from error
            raise
        connection.exchange = HttpExchange.none_yet()
        self.give_back(connection)

    def receive(self, connection: _Connection) -> None:
        """Wait for the next bytes of a response."""
        try:
            connection.receive()
        except OSError as error:
            raise connection_error(error, self._address) from error

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        now = connection.idle_since = self._clock()
        self._idle.append(connection)
        with suppress(IndexError):  # another thread may take them meanwhile
            while len(self._idle) > self._most_idle or self._idle[0].is_too_old(now, self._expiry):
                self._idle.popleft().close()
        if self._closed:
            self.close()

    def _take(self, end_timeout: float) -> _Connection | None:
        """The connection that was used last and proves to be alive.

        If each has yet to receive the end of a response, `end_timeout` are the seconds to wait.
        """
        now = self._clock()
        ending: deque[_Connection] = deque()
        usable = None
        with suppress(IndexError):  # there are no more
            while usable is None:
                connection = self._idle.pop()
                if not connection.is_too_old(now, self._expiry) and connection.is_usable():
                    usable = connection
                elif connection.is_ending() and not connection.is_too_old(now, self._expiry):
                    ending.appendleft(connection)
                else:
                    connection.close()
        if usable is None and ending:
            last = ending.pop()
            if last.is_usable(end_timeout):
                usable = last
            else:
                last.close()
        self._idle.extend(ending)
        return usable

    def close(self) -> None:
        """Close the idle connections; one in use is closed after its response."""
        self._closed = True
        _close_all(self._idle)


def _close_all(connections: deque[_Connection]) -> None:
    with suppress(IndexError):  # another thread may take them meanwhile
        while True:
            connections.pop().close()


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
        if finished and self._exchange.keeps_connection:
            self._client.give_back(connection)
        else:
            connection.close()


class _Connection:
    """One connection: carries one request at a time."""

    __slots__ = ("exchange", "idle_since", "scope", "socket")

    def __init__(self) -> None:
        self.scope: CancelScope | None = None
        self.exchange = HttpExchange()
        self.idle_since = 0.0
        self.socket: socket.socket

    def connect(
        self, address: Address, step_timeout: float, seconds: float, *, scope: CancelScope | None
    ) -> None:
        """Connect to `address`, through its proxy and over TLS where it has them.

        `step_timeout` limits each step, `seconds` all of them together. From its first packet on,
        `scope` can cancel it.
        """
        context = tls_context(address.ca_bundle) if address.secure else None
        end = time.monotonic() + seconds
        steps = ConnectSteps(address, step_timeout)
        with _limited(steps.dns, end) as due:
            found = resolver.find(address.first_address, _left(due))
        with _limited(steps.connect, end) as due:
            self._connect_to(found, due, scope)
        set_options(self.socket)
        if address.tunnel is not None:
            with _limited(steps.tunnel, end) as due:
                self._open_tunnel(address, due)
        if context is not None:
            with _limited(steps.tls, end) as due:
                self._start_tls(context, address.host, due=due, scope=scope)

    def _connect_to(
        self, found: Sequence[AddressInfo], due: float, scope: CancelScope | None
    ) -> None:
        """Connect to the first of the addresses that answers."""
        for index, (family, kind, protocol, _, where) in enumerate(found, 1):
            self.socket = socket.socket(family, kind, protocol)
            if scope is not None:
                scope.use(self)
            left = _left(due)
            self.socket.settimeout(left if index == len(found) else min(left, NEXT_ADDRESS_SECONDS))
            try:
                self.socket.connect(where)
            except OSError:
                self.close()
                if index == len(found):
                    raise
            else:
                break
        if scope is not None:
            scope.check()  # it may have come before there was anything to shut down

    def _open_tunnel(self, address: Address, due: float) -> None:
        self.socket.sendall(address.tunnel or b"")
        while not self.exchange.has_head:
            self.socket.settimeout(_left(due))
            self.receive()
        address.check_tunnel(self.exchange.status)

    def _start_tls(
        self, context: ssl.SSLContext, host: str, *, due: float, scope: CancelScope | None
    ) -> None:
        self.socket.settimeout(_left(due))
        secured = context.wrap_socket(
            self.socket, server_hostname=host, do_handshake_on_connect=False
        )
        self.socket = secured
        if scope is not None:
            scope.use(self)
        secured.do_handshake()

    def is_too_old(self, now: float, seconds: float) -> bool:
        """Whether it has been idle for more than `seconds`."""
        return not 0 <= now - self.idle_since <= seconds

    def receive(self) -> None:
        """Wait for the next bytes, and parse them."""
        data = self.socket.recv(_MOST_AT_ONCE)
        if data:
            self.exchange.feed(data)
        else:
            self.exchange.feed_end()

    def is_usable(self, seconds: float = 0.0) -> bool:
        """Whether it is open, and its last response ends in `seconds`, with nothing after it."""
        due = time.monotonic() + seconds
        try:
            while self.exchange.keeps_connection:
                left = 0.0 if self.exchange.complete else max(due - time.monotonic(), 0.0)
                self.socket.settimeout(left)
                self.receive()
                self.exchange.take()
        except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
            return self.exchange.reusable
        except Exception:  # noqa: BLE001 - the rest of the response was not as expected
            self.close()
        return False

    def is_ending(self) -> bool:
        """Whether it is open, and its last response has yet to end."""
        return not self.exchange.complete and self.socket.fileno() != -1

    def close(self) -> None:
        """Close it."""
        with suppress(OSError, AttributeError):  # AttributeError: it never had one
            self.socket.close()


@contextmanager
def _limited(step: Step, end: float) -> Iterator[float]:
    """By when `step` is due, at `end` at the latest. Raises its error if it took too long."""
    now = time.monotonic()
    try:
        yield min(now + step.seconds, end)
    except TimeoutError as error:
        raise step.error(end - now) from error


def _left(due: float) -> float:
    """The seconds until `due`; a socket takes none for "without waiting"."""
    return max(due - time.monotonic(), _NO_TIME)
