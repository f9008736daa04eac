"""Server-sent events as google-genai reads them: nothing but ``data: `` lines.

The HTML standard also has comments, ids, a byte order mark and no blank after the colon. The SDK
takes each of them for a piece of JSON and gives up.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Iterator
from typing import Any


def plain_events(response: Any) -> None:
    """Have an httpx2 response of an event stream give only what the SDK can read."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        iter_bytes, aiter_bytes = response.iter_bytes, response.aiter_bytes
        response.iter_bytes = lambda: _plain(iter_bytes())
        response.aiter_bytes = lambda: _aplain(aiter_bytes())


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    lines = _DataLines()
    for chunk in chunks:
        yield lines.feed(chunk)
    yield lines.end()


async def _aplain(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    lines = _DataLines()
    async for chunk in chunks:
        yield lines.feed(chunk)
    yield lines.end()


class _DataLines:
    """Cuts bytes into lines at CR, LF or CR LF, wherever the packets end."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self._begun = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> bytes:
        """The lines that are complete now."""
        if not chunk:
            return b""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        self._open.append(chunk)
        return self._cut() if b"\n" in chunk or b"\r" in chunk else b""

    def end(self) -> bytes:
        """What is left."""
        self._open.append(b"\n")
        return self._cut()

    def _cut(self) -> bytes:
        lines = b"".join(self._open).splitlines(keepends=True)
        whole = lines[-1].endswith((b"\n", b"\r"))
        self._open = [] if whole else [lines.pop()]
        return b"".join(map(self._read, lines))

    def _read(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r\n")
        if not self._begun:
            self._begun = True
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            return b"\n"
        name, _, value = line.partition(b":")
        return b"data: " + value.removeprefix(b" ") + b"\n" if name == b"data" else b""
