"""The largest size of a response after decompression: a small one can unpack to gigabytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from agentkit.errors import InvalidResponseError

LARGEST = 64 * 1024 * 1024


def limit_size(response: Any) -> None:
    """Have an httpx or httpx2 response raise `InvalidResponseError` above `LARGEST` bytes.

    A response that cannot be read to its end is closed, because the SDKs leave it open if its
    status is an error.
    """
    iter_bytes, aiter_bytes = response.iter_bytes, response.aiter_bytes
    response.iter_bytes = lambda *args, **kwargs: _limited(response, iter_bytes(*args, **kwargs))
    response.aiter_bytes = lambda *args, **kwargs: _alimited(response, aiter_bytes(*args, **kwargs))


async def alimit_size(response: Any) -> None:
    """Like `limit_size`, as a hook of an async client."""
    limit_size(response)


def _limited(response: Any, chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    try:
        for chunk in chunks:
            size = checked(size + len(chunk))
            yield chunk
    except Exception:
        response.close()
        raise


async def _alimited(response: Any, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    try:
        async for chunk in chunks:
            size = checked(size + len(chunk))
            yield chunk
    except Exception:
        await response.aclose()
        raise


def checked(size: int) -> int:
    """`size` in bytes. Raises `InvalidResponseError` above `LARGEST`."""
    if size > LARGEST:
        raise InvalidResponseError(f"the response has more than {LARGEST} bytes")
    return size
