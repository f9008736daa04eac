"""The body of a response: decompressed, limited in size, and split into events."""

from __future__ import annotations

import codecs
import zlib
from typing import TYPE_CHECKING, Any

from agentkit.providers.transport import size_limit

if TYPE_CHECKING:
    from agentkit.providers.transport.http.asyncio_client import AsyncHttpReply
    from agentkit.providers.transport.http.sync_client import SyncHttpReply

ACCEPTED_ENCODINGS = "gzip, deflate"


class MalformedBodyError(ValueError):
    """A body that is not what its headers say."""


class BodyDecoder:
    """Decompresses a body piece by piece.

    Raises:
        InvalidResponseError: it has more than 64 MB.
        MalformedBodyError: it is not compressed as `encoding` says.
    """

    __slots__ = ("_decompressor", "_size")

    def __init__(self, encoding: str | None) -> None:
        self._size = 0
        self._decompressor: Any = None
        encoding = encoding and encoding.strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        elif encoding == "deflate":
            self._decompressor = _Deflate()
        elif encoding not in (None, "", "identity"):
            self._decompressor = _Unknown(encoding)

    def feed(self, data: bytes) -> bytes:
        """What `data` decompresses to."""
        if self._decompressor is not None:
            try:
                data = self._decompressor.decompress(data, size_limit.LARGEST + 1 - self._size)
            except zlib.error as error:
                raise MalformedBodyError(str(error)) from error
        self._size = size_limit.checked(self._size + len(data))
        return data


def read_body(reply: SyncHttpReply) -> bytes:
    """The complete body of `reply`, decompressed. The connection is released.

    Raises what `BodyDecoder` raises, and what receiving raises.
    """
    finished = False
    try:
        decoder = BodyDecoder(reply.headers.get("content-encoding"))
        data = b"".join([decoder.feed(chunk) for chunk in reply.chunks()])
        finished = True
    finally:
        reply.release(finished=finished)
    return data


async def aread_body(reply: AsyncHttpReply) -> bytes:
    """Like `read_body`, for asyncio."""
    finished = False
    try:
        decoder = BodyDecoder(reply.headers.get("content-encoding"))
        data = b"".join([decoder.feed(chunk) async for chunk in reply.chunks()])
        finished = True
    finally:
        reply.release(finished=finished)
    return data


class _Unknown:
    """A compression that was not asked for."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def decompress(self, data: bytes, most: int) -> bytes:
        raise MalformedBodyError(f"the body is compressed by {self._encoding}")


class _Deflate:
    """``deflate`` with the header of zlib, or without it, as some servers send it."""

    def __init__(self) -> None:
        self._zlib: Any = None

    def decompress(self, data: bytes, most: int) -> bytes:
        if self._zlib is None and data:
            headed = data[0] & 0x0F == 8 and data[0] >> 4 <= 7
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)
        return b"" if self._zlib is None else self._zlib.decompress(data, most)


class EventParser:
    """Splits an event stream into the data of its events.

    Lines end with LF, CR LF or CR, wherever the packets end. Comments, names and ids are left out;
    so is a byte order mark at the start. See
    https://html.spec.whatwg.org/multipage/server-sent-events.html.
    """

    __slots__ = ("_after_cr", "_at_line_start", "_incomplete", "_started")

    def __init__(self) -> None:
        self._incomplete: list[bytes] = []
        self._started = False
        self._after_cr = False
        """Whether a line has just ended with a CR, whose LF may follow."""
        self._at_line_start = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes.

        Each byte is looked at once: an event may have any number of lines and packets.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not chunk:
            return []
        self._incomplete.append(chunk)
        starts_blank = self._at_line_start and chunk.startswith(b"\n")
        self._at_line_start = chunk.endswith(b"\n")
        if not starts_blank and b"\n\n" not in chunk:
            return []
        text = b"".join(self._incomplete)
        if not self._started:
            self._started = True
            text = text.removeprefix(codecs.BOM_UTF8)
        *events, rest = text.split(b"\n\n")
        self._incomplete = [rest]
        found = [_data(event) for event in events]
        return [each for each in found if each]


def _data(event: bytes) -> bytes:
    """The data of one event; empty if it has none."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = (line for line in event.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
