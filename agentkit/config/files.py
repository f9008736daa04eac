"""Reads small files, which may be pipes; none of them can make the program wait forever."""

from __future__ import annotations

import os
import selectors
from pathlib import Path
from typing import Final

PATIENCE: Final = 10.0
"""Seconds without data after which a pipe counts as one without a writer."""

_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its writer
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of `path`, but at most `limit` bytes and one more.

    Raises:
        OSError: it cannot be read, or is a pipe without a writer.
        ValueError: the path contains a zero byte.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        content = b""
        while len(content) <= limit:
            part = _read(descriptor, limit + 1 - len(content))
            if not part:
                break
            content += part
    finally:
        os.close(descriptor)
    if not content and Path(path).is_fifo():
        raise _no_writer()
    return content


def _read(descriptor: int, size: int) -> bytes:
    """The next bytes; none at the end."""
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:  # a pipe with a writer that has written nothing yet
            with selectors.DefaultSelector() as selector:  # `select` refuses descriptors over 1023
                selector.register(descriptor, selectors.EVENT_READ)
                if not selector.select(PATIENCE):
                    raise _no_writer() from None


def _no_writer() -> OSError:
    return OSError(None, "a pipe without a writer")
