"""The causes of an exception, and whether this machine is one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def causes_of(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and its causes, outermost first. SDKs and HTTP clients wrap an error several times."""
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):  # one for each address that was tried
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__


def is_shortage(exc: BaseException) -> bool:
    """Whether this machine had no file descriptor or no memory left for a connection."""
    return any(isinstance(each, OSError) and each.errno in _SHORTAGES for each in causes_of(exc))
