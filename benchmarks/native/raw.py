"""HTTP clients alone, without retries, limits, errors or telemetry: what a call costs at least.

All read JSON with the same types and split events alike. `Libraries` uses aiohttp and urllib3, and
`Floor` a protocol of asyncio and blocking sockets around the parser that the native transport has.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

from httptools import HttpResponseParser

from agentkit.providers.openai.chunk_record import ChunkRecord
from agentkit.providers.transport.http.body import EventParser
from agentkit.providers.transport.http.record import parse, typed_parser

_DONE = b"[DONE]"
_parse_chunk = typed_parser(ChunkRecord)


class _Texts:
    """Reads the texts of a stream."""

    def __init__(self) -> None:
        self._parser = EventParser()

    def feed(self, data: bytes) -> list[str]:
        """The texts in the events that `data` completes."""
        events = [_parse_chunk(each) for each in self._parser.feed(data) if each != _DONE]
        return [text for each in events if (text := each.choices[0].delta.content)]


def _text_of(body: bytes) -> str:
    return str(parse(body)["choices"][0]["message"]["content"])


def _context(url: str) -> ssl.SSLContext | None:
    if not url.startswith("https:"):
        return None
    return ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


class Libraries:
    """aiohttp for asyncio, urllib3 for threads."""

    def __init__(self, url: str, prompt: str) -> None:
        import urllib3

        self._url = f"{url}/chat/completions"
        self._asked = [{"role": "user", "content": prompt}]
        self._headers = {"Authorization": "Bearer none", "Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(maxsize=16, ssl_context=_context(url), retries=False)
        self._session: Any = None

    def call(self, model: str) -> str:
        reply = self._pool.request("POST", self._url, body=self._body(model), headers=self._headers)
        return _text_of(reply.data)

    def stream(self, model: str) -> Iterator[str]:
        texts = _Texts()
        body = self._body(model, stream=True)
        reply = self._pool.request(
            "POST", self._url, body=body, headers=self._headers, preload_content=False
        )
        for data in reply.stream(65_536):
            yield from texts.feed(data)
        reply.release_conn()

    async def acall(self, model: str) -> str:
        async with self._post(self._body(model)) as reply:
            return _text_of(await reply.read())

    async def astream(self, model: str) -> AsyncIterator[str]:
        texts = _Texts()
        async with self._post(self._body(model, stream=True)) as reply:
            async for data in reply.content.iter_any():
                for text in texts.feed(data):
                    yield text

    def _post(self, body: bytes) -> Any:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(limit=0, ssl=_context(self._url) or True)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._session.post(self._url, data=body)

    def _body(self, model: str, **more: Any) -> bytes:
        return json.dumps({"model": model, "messages": self._asked, **more}).encode()


class Floor:
    """A parser around sockets, which trusts the server."""

    def __init__(self, url: str, prompt: str) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "", parts.port or 0)
        self._path = parts.path
        self._context = _context(url)
        self._asked = [{"role": "user", "content": prompt}]
        self._idle: list[_Connection] = []
        self._of_thread = threading.local()

    def call(self, model: str) -> str:
        return _text_of(b"".join(self._receive(self._request(model))))

    def stream(self, model: str) -> Iterator[str]:
        texts = _Texts()
        for data in self._receive(self._request(model, stream=True)):
            yield from texts.feed(data)

    async def acall(self, model: str) -> str:
        connection = await self._connection()
        connection.send(self._request(model))
        while not connection.ended:
            await connection.wait()
        self._idle.append(connection)
        return _text_of(connection.take())

    async def astream(self, model: str) -> AsyncIterator[str]:
        texts = _Texts()
        connection = await self._connection()
        connection.send(self._request(model, stream=True))
        while True:
            for text in texts.feed(connection.take()):
                yield text
            if connection.ended:
                break
            await connection.wait()
        self._idle.append(connection)

    def _request(self, model: str, **more: Any) -> bytes:
        body = json.dumps({"model": model, "messages": self._asked, **more}).encode()
        head = (
            f"POST {self._path}/chat/completions HTTP/1.1\r\nHost: {self._place[0]}\r\n"
            f"Authorization: Bearer none\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _connection(self) -> _Connection:
        if self._idle:
            return self._idle.pop()
        loop = asyncio.get_running_loop()
        host = None if self._context is None else self._place[0]
        _, connection = await loop.create_connection(
            _Connection, *self._place, ssl=self._context, server_hostname=host
        )
        return connection

    def _receive(self, request: bytes) -> Iterator[bytes]:
        connected = getattr(self._of_thread, "socket", None)
        if connected is None:
            connected = socket.create_connection(self._place)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connected = self._context.wrap_socket(connected, server_hostname=self._place[0])
            self._of_thread.socket = connected
        connected.sendall(request)
        received = _Response()
        while not received.ended:
            received.feed(connected.recv(65_536))
            yield received.take()


class _Response:
    """A response that arrives."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.ended = False
        self._body: list[bytes] = []
        self._parser: Any = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def take(self) -> bytes:
        body, self._body = self._body, []
        return b"".join(body)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.ended = True


class _Connection(_Response, asyncio.Protocol):
    """A connection of asyncio, and the response that it carries."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.feed(data)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)

    def send(self, request: bytes) -> None:
        self.begin()
        self._transport.write(request)

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
