"""Repairs of server-sent events that the vendors' SDKs misread.

The HTML standard allows a byte order mark at the start of a stream, comments, ids, and no space
after a colon. Each filter passes on only what its SDK can read.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol


class _Filter(Protocol):
    """Bytes in, bytes out."""

    def feed(self, chunk: bytes) -> bytes: ...

    def end(self) -> bytes: ...


def remove_byte_order_mark(response: Any) -> None:
    """Have an httpx or httpx2 response leave out a byte order mark at its start.

    The SDKs of OpenAI, Groq and Anthropic read it as part of the first line, and silently drop the
    event of that line.
    """
    _install(response, _WithoutMark)


def keep_data_lines(response: Any) -> None:
    """Have an httpx2 response of an event stream give ``data: `` lines only.

    google-genai reads everything else as a piece of JSON, and fails.
    """
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        _install(response, _DataLines)


def _install(response: Any, make: Callable[[], _Filter]) -> None:
    iter_bytes, aiter_bytes = response.iter_bytes, response.aiter_bytes
    response.iter_bytes = lambda: _filtered(iter_bytes(), make())
    response.aiter_bytes = lambda: _afiltered(aiter_bytes(), make())


def _filtered(chunks: Iterator[bytes], through: _Filter) -> Iterator[bytes]:
    for chunk in chunks:
        yield through.feed(chunk)
    yield through.end()


async def _afiltered(chunks: AsyncIterator[bytes], through: _Filter) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield through.feed(chunk)
    yield through.end()


class _WithoutMark:
    """Everything but a byte order mark at the start, wherever the packets end."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        """What may be a part of the mark; None once that is decided."""

    def feed(self, chunk: bytes) -> bytes:
        if self._head is None:
            return chunk
        self._head += chunk
        return b"" if codecs.BOM_UTF8.startswith(self._head) else self.end()

    def end(self) -> bytes:
        head, self._head = self._head, None
        return b"" if head is None else head.removeprefix(codecs.BOM_UTF8)


class _DataLines:
    """The data lines, with lines ended by CR, LF or CR LF, wherever the packets end."""

    def __init__(self) -> None:
        self._incomplete: list[bytes] = []
        self._started = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> bytes:
        if not chunk:
            return b""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        self._incomplete.append(chunk)
        return self._take_lines() if b"\n" in chunk or b"\r" in chunk else b""

    def end(self) -> bytes:
        self._incomplete.append(b"\n")
        return self._take_lines()

    def _take_lines(self) -> bytes:
        lines = b"".join(self._incomplete).splitlines(keepends=True)
        complete = lines[-1].endswith((b"\n", b"\r"))
        self._incomplete = [] if complete else [lines.pop()]
        return b"".join(map(self._rewrite, lines))

    def _rewrite(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r\n")
        if not self._started:
            self._started = True
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            return b"\n"
        name, _, value = line.partition(b":")
        return b"data: " + value.removeprefix(b" ") + b"\n" if name == b"data" else b""
