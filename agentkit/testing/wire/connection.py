"""The server's side of one HTTP/1.1 connection: requests, responses, and ways to break it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

Headers = Iterable[tuple[str, str]]

_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # on, and for zero seconds


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Handler = Callable[[HttpRequest, "Connection"], Awaitable[None]]


class Connection(asyncio.Protocol):
    """Reads requests one after the other and passes each to `handler`, in its own task.

    A client that disconnects cancels the task. A request that is not HTTP/1.1 with a Content-Length
    is answered with 400, and the connection is closed.
    """

    def __init__(self, handler: Handler, changed: Callable[[Connection, bool], None]) -> None:
        self._handler = handler
        self._changed = changed
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the server's open connections."""
        self._transport = cast("asyncio.Transport", transport)
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not see it is TCP
        self._changed(self, True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the server's open connections and end the running task."""
        if self._task is not None:
            self._task.cancel()
        self._changed(self, False)

    def data_received(self, data: bytes) -> None:
        """Collect bytes until a request is complete."""
        self._buffer += data
        self._next()

    def _next(self) -> None:
        if self._task is not None or self._transport.is_closing():
            return
        try:
            request = _take_request(self._buffer)
        except ValueError as error:
            self.send(400, str(error).encode(), "text/plain")
            self.close()
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: HttpRequest) -> None:
        await self._handler(request, self)
        self._task = None
        if request.headers.get("connection", "").lower() == "close":
            self.close()
        self._next()

    def send(self, status: int, body: bytes, content_type: str, headers: Headers = ()) -> None:
        """Send a complete response."""
        self.start(status, content_type, [*headers, ("content-length", str(len(body)))], body)

    def start(self, status: int, content_type: str, headers: Headers, body: bytes = b"") -> None:
        """Send the status line, the headers and the beginning of the body."""
        fields = [("content-type", content_type), *headers]
        lines = [f"HTTP/1.1 {status} {_reason_phrase(status)}", *(f"{k}: {v}" for k, v in fields)]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def start_stream(self, content_type: str, headers: Headers = ()) -> None:
        """Send the headers of a response in chunks."""
        self.start(200, content_type, [*headers, ("transfer-encoding", "chunked")])

    def chunk(self, data: bytes) -> None:
        """Send the next chunk of a stream."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        """Send the mark that HTTP requires after the last chunk."""
        self._transport.write(b"0\r\n\r\n")

    def close(self) -> None:
        """Close normally once everything is sent."""
        self._transport.close()

    def reset(self) -> None:
        """Close with a TCP RST: the other side sees a connection reset."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._transport.abort()

    def abort(self) -> None:
        """Close immediately; what is not yet sent is lost."""
        self._transport.abort()


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Error"


def _take_request(buffer: bytearray) -> HttpRequest | None:
    """Remove the first request from `buffer`; None until it is complete.

    Raises:
        ValueError: it is not a request with a known length.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    request_line, *lines = buffer[:end].decode("latin-1").split("\r\n")
    method, path, version = request_line.split(" ")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            msg = f"not a header: {line!r}"
            raise ValueError(msg)
        headers[name.strip().lower()] = value.strip()
    if not version.startswith("HTTP/1.") or "transfer-encoding" in headers:
        msg = "send HTTP/1.1 with a Content-Length"
        raise ValueError(msg)
    start = end + 4
    length = int(headers.get("content-length", "0"))
    if length < 0:
        msg = "a Content-Length cannot be negative"
        raise ValueError(msg)
    if len(buffer) < start + length:
        return None
    body = bytes(buffer[start : start + length])
    del buffer[: start + length]
    return HttpRequest(method, path, headers, body)
