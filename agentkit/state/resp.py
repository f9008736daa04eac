"""The protocol of Valkey and Redis, version 2 (RESP): commands as bytes, and bytes as replies.

Source: https://valkey.io/topics/protocol
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from agentkit.types.fleet import Argument

Command: TypeAlias = Sequence[Argument]

MISSING: Final = object()
"""Stands for a reply that has not arrived as a whole."""

_KINDS: Final = {
    "ASK": "AskError",
    "CLUSTERDOWN": "ClusterDownError",
    "LOADING": "BusyLoadingError",
    "MOVED": "MovedError",
    "NOAUTH": "AuthenticationError",
    "NOPERM": "NoPermissionError",
    "NOSCRIPT": "NoScriptError",
    "OOM": "OutOfMemoryError",
    "READONLY": "ReadOnlyError",
    "WRONGPASS": "AuthenticationError",
}
_INTEGER, _BULK, _ARRAY, _TEXT, _ERROR = b":$*+-"


class ReplyError(Exception):
    """An error that the server replied."""

    @property
    def code(self) -> str:
        """Its first word."""
        return str(self).partition(" ")[0]

    @property
    def kind(self) -> str:
        """Its name in counters and logs."""
        code = self.code
        return _KINDS.get(code, code if code.isupper() and code.isalpha() else "ReplyError")


class ProtocolError(ConnectionError):
    """What arrived is not a reply to what was sent: the connection cannot be used any more."""


def pack(command: Command) -> bytes:
    """The bytes of a command."""
    return b"*%d\r\n%b" % (len(command), pack_arguments(command))


def pack_arguments(arguments: Command) -> bytes:
    """The bytes of arguments, without their number in front of them."""
    sized: list[bytes | int] = []
    for each in arguments:
        if isinstance(each, str):
            data = each.encode()
        else:
            data = each if isinstance(each, bytes) else b"%d" % each
        sized += (len(data), data)
    return _format(len(arguments)) % tuple(sized)  # all at once takes half as long as one by one


@lru_cache(maxsize=256)
def _format(count: int) -> bytes:
    return b"$%d\r\n%b\r\n" * count


class Replies:
    """The replies in the bytes that arrive, in whatever pieces."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def take(self) -> Any:
        """The next reply, `MISSING` if it is not complete; an error of the server is returned.

        Raises:
            ProtocolError: the bytes are something else.
        """
        if self._at == len(self._data):  # the usual end
            return MISSING
        try:
            reply, self._at = _parse(self._data, self._at)
        except _IncompleteError:
            return MISSING
        except ValueError as error:
            raise ProtocolError("a reply has no valid length") from error
        return reply


class _IncompleteError(Exception):
    """The rest of a reply has not arrived."""


def _parse(data: bytes, at: int) -> tuple[Any, int]:
    """The reply that begins at a place, and the place after it."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _IncompleteError
    kind, line, after = data[at], data[at + 1 : end], end + 2
    if kind == _INTEGER:
        return int(line), after
    if kind == _BULK:
        return _parse_bulk(data, after, int(line))
    if kind == _ARRAY:
        return _parse_array(data, after, int(line))
    if kind == _TEXT:
        return line, after
    if kind == _ERROR:
        return ReplyError(line.decode("utf-8", "replace")), after
    raise ProtocolError("a reply is of an unknown kind")


def _parse_bulk(data: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    end = at + size
    if len(data) < end + 2:
        raise _IncompleteError
    if data[end : end + 2] != b"\r\n":
        raise ProtocolError("a reply is longer than it says")
    return data[at:end], end + 2


def _parse_array(data: bytes, at: int, count: int) -> tuple[list[Any] | None, int]:
    if count < 0:
        return None, at
    items: list[Any] = []
    for _ in range(count):
        if data[at : at + 1] == b":" and (end := data.find(b"\r\n", at)) > 0:  # most of them
            items.append(int(data[at + 1 : end]))
            at = end + 2
        else:
            item, at = _parse(data, at)
            items.append(item)
    return items, at
