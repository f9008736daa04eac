"""Server-sent events as the SDKs fail to read them: a byte order mark swallows the first event."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Iterator
from typing import Any

_MARK = codecs.BOM_UTF8


def forget_mark(response: Any) -> None:
    """Have an httpx or httpx2 response of an event stream leave out a byte order mark.

    The HTML standard has every stream begin with an optional one. The SDKs take it for a part of
    the first line, and drop the event whose line that is without a word.
    """
    iter_bytes, aiter_bytes = response.iter_bytes, response.aiter_bytes
    response.iter_bytes = lambda: _unmarked(iter_bytes())
    response.aiter_bytes = lambda: _aunmarked(aiter_bytes())


def _unmarked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if not _MARK.startswith(head):
            break
    yield head.removeprefix(_MARK)
    yield from chunks


async def _aunmarked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    head = b""
    async for chunk in chunks:
        head += chunk
        if not _MARK.startswith(head):
            break
    yield head.removeprefix(_MARK)
    async for chunk in chunks:
        yield chunk
