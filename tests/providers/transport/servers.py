"""Servers that speak bytes, one function for each, and clients that ask them in either way."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from agentkit.providers.registry import provider_for
from agentkit.providers.transport.http.address import address_of
from agentkit.providers.transport.http.asyncio_client import AsyncHttpClient
from agentkit.providers.transport.http.request_head import request_head
from agentkit.providers.transport.http.sync_client import SyncHttpClient
from agentkit.types import Request
from tests.helpers import until

KEY = "made-up-key"
PATIENCE = 20.0
"""Seconds after which a test that hangs gives up."""
ANSWER = b'{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}'
CHUNK = b'data: {"choices": [{"delta": {"content": "Paris"}}]}\n\n'
LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
either_way = pytest.mark.parametrize("way", ["sync", "async"])
complete_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])


class Link:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection

    def request(self) -> bytes | None:
        """The next request; None if the client is gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (more := self.connection.recv(65_536))
            if not more:
                return None
        head, _, body = data.partition(b"\r\n\r\n")
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        length = next((int(v) for n, _, v in lines if n.lower() == b"content-length"), 0)
        while len(body) < length:
            body += self.connection.recv(65_536)
        return head + b"\r\n\r\n" + body

    def send(self, *pieces: bytes) -> None:
        """Send each piece in a packet of its own."""
        for piece in pieces:
            self.connection.sendall(piece)

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Use TLS from now on."""
        self.connection = context.wrap_socket(self.connection, server_side=True)

    def wait(self) -> None:
        """Wait until the client is gone."""
        while self.connection.recv(65_536):
            pass


class Server:
    """Calls `talk` for each connection, in a thread of its own, and closes it then."""

    def __init__(self, talk: Callable[[Link], object]) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.accepted = 0
        self.open = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self.open += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        link = Link(connection)
        with suppress(OSError):  # the client may leave whenever it likes
            self._talk(link)
        link.connection.close()
        with self._lock:
            self.open -= 1

    def wait_until_all_left(self) -> None:
        """Wait until no connection is open."""
        until(lambda: self.open == 0)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)


@contextmanager
def serving(talk: Callable[[Link], object]) -> Iterator[Server]:
    """A running server; the clients leave before it ends."""
    server = Server(talk)
    try:
        yield server
    finally:
        server.close()


def answering(*pieces: bytes) -> Callable[[Link], None]:
    """Answers every request of a connection with the same pieces."""

    def talk(link: Link) -> None:
        while link.request() is not None:
            link.send(*pieces)

    return talk


def answering_once(*pieces: bytes) -> Callable[[Link], None]:
    """Answers the first request of a connection, and closes it."""

    def talk(link: Link) -> None:
        if link.request() is not None:
            link.send(*pieces)

    return talk


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A complete response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> list[bytes]:
    """A response in chunks, with its head and its end in packets of their own."""
    head = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
    )
    return [head, *(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks), b"0\r\n\r\n"]


class Caller:
    """Sends requests over one client; the loop of an async one runs for each call."""

    def __init__(self, way: str, url: str, **options: Any) -> None:
        self._way = way
        self._address = address_of(url)
        self._runner = asyncio.Runner()
        head = request_head(self._address.path or "/", self._address.authority, {})
        self._request = head + b"2\r\n\r\n{}"
        self._client: Any
        if way == "sync":
            self._client = SyncHttpClient(self._address, **options)
        else:

            async def make() -> AsyncHttpClient:
                return AsyncHttpClient(self._address, **options)

            self._client = self._runner.run(make())

    def post(self, read_timeout: float = PATIENCE, *, last: bytes | None = None) -> bytes:
        """The body of a response, or what there is of it when it ends with `last`."""
        if self._way == "async":
            return self._runner.run(self._apost(read_timeout, last))
        reply = self._client.post(self._request, read_timeout)
        body, finished = b"", False
        try:
            for chunk in reply.chunks():
                body += chunk
                if last is not None and body.endswith(last):
                    break
            finished = True
        finally:
            reply.release(finished=finished)
        return body

    async def _apost(self, read_timeout: float, last: bytes | None) -> bytes:
        reply = await self._client.post(self._request, read_timeout)
        body, finished = b"", False
        try:
            async for chunk in reply.chunks():
                body += chunk
                if last is not None and body.endswith(last):
                    break
            finished = True
        finally:
            reply.release(finished=finished)
        return body

    def open_idle(self, count: int) -> None:
        """Open connections ahead."""
        if self._way == "async":
            self._runner.run(self._client.open_idle(count))
        else:
            self._client.open_idle(count)

    def close(self) -> None:
        if self._way == "sync":
            self._client.close()
        else:
            self._runner.run(self._client.aclose())
        self._runner.close()


@contextmanager
def calling(way: str, url: str, **options: Any) -> Iterator[Caller]:
    """A `Caller`, closed at the end."""
    caller = Caller(way, url, **options)
    try:
        yield caller
    finally:
        caller.close()


def native(url: str, **settings: Any) -> Any:
    """An adapter that asks `url` over the native transport, with `KEY`."""
    return provider_for("openai:m", api_key=KEY, base_url=url, transport="native", **settings)


class Asker:
    """Asks an adapter, sync or async; the loop of an async one runs only for each call."""

    def __init__(self, way: str, adapter: Any) -> None:
        self._way = way
        self.adapter = adapter
        self._runner = asyncio.Runner()

    def ask(self, *, stream: bool = False, timeout: float | None = PATIENCE, **params: Any) -> str:
        """The text of an answer."""
        request = Request(prompt="capital?", timeout=timeout, params=params)
        if self._way == "async":
            return self._runner.run(self._ask(request, stream=stream))
        if not stream:
            return str(self.adapter.send(request).text)
        return "".join(getattr(each, "text", "") for each in self.adapter.stream(request))

    async def _ask(self, request: Request, *, stream: bool) -> str:
        if not stream:
            return str((await self.adapter.asend(request)).text)
        events = [each async for each in self.adapter.astream(request)]
        return "".join(getattr(each, "text", "") for each in events)

    def error(self, **options: Any) -> Exception:
        """The error that a question ends with, as the engine sees it."""
        from agentkit.providers.errors import translate

        try:
            answer = self.ask(**options)
        except Exception as error:
            return translate(self.adapter.translate(error) or error, provider="p", model="m")
        pytest.fail(f"it answered {answer!r}")

    def aclose(self) -> None:
        """Close the adapter as users of this way do."""
        if self._way == "async":
            self._runner.run(self.adapter.aclose())
        else:
            self.adapter.close()

    def close(self) -> None:
        self.aclose()
        self._runner.close()


@contextmanager
def asking(way: str, adapter: Any) -> Iterator[Asker]:
    """An `Asker`, closed at the end with its adapter."""
    asker = Asker(way, adapter)
    try:
        yield asker
    finally:
        asker.close()
