"""One HTTP/1.1 exchange without I/O: the bytes of a request, and a response as its bytes arrive.

httptools parses; it binds llhttp, the parser of Node.js. What is added here is what a client of
JSON APIs needs to be safe: limits, and whether the connection can be used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from httptools import HttpParserError, HttpResponseParser

from agentkit.providers.transport.http.failures import (
    IncompleteResponseError,
    MalformedResponseError,
)

LARGEST_HEAD = 256 * 1024
"""Bytes of a status line and headers, after which they are given up."""
_MOST_INTERIM = 16
"""Responses of the kind ``100 Continue`` before the actual one."""
MOST_UNREAD = 1024 * 1024
"""Bytes of a body that arrived and were not read, after which reading stops for a while."""


def request_head(target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """The head of a POST up to the value of its ``Content-Length``, which comes last.

    Raises:
        ValueError: a header would break out of its line, or is not Latin-1.
    """
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}"]
    for name, value in headers.items():
        line = f"{name}: {value}"
        if "\r" in line or "\n" in line:
            raise ValueError(f"the header {name!r} contains a line break")
        lines.append(line)
    lines.append("Content-Length: ")
    return "\r\n".join(lines).encode("latin-1")


class HttpExchange:
    """A response that arrives. `feed` it with bytes, and with the end of the connection."""

    __slots__ = (
        "_body",
        "_head_size",
        "_interim",
        "_parser",
        "_reusable",
        "complete",
        "has_head",
        "headers",
        "status",
        "unread",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """With names in lower case; the values of a name that comes twice are joined by commas."""
        self.has_head = False
        self.complete = False
        """Whether the body has ended."""
        self.unread = 0
        """Bytes of the body that `take` would return."""
        self._body: list[bytes] = []
        self._head_size = 0
        self._interim = 0
        self._reusable = False
        self._parser: Any = HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        """Whether the response is complete, and the connection can carry another request."""
        return self.complete and self._reusable

    def feed(self, data: bytes) -> None:
        """Parse what arrived.

        Raises:
            MalformedResponseError: it is not HTTP/1.1, or its head is too large.
        """
        if self.complete:  # not asked for
            self._reusable = False
            return
        if not self.has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._reusable = False
            if not self._has_ended():
                raise MalformedResponseError(type(error).__name__) from error
        if not self.has_head and self._head_size > LARGEST_HEAD:
            raise MalformedResponseError(f"a head of more than {LARGEST_HEAD} bytes")

    def feed_end(self) -> None:
        """The connection was closed, which ends a body without a length.

        Raises:
            IncompleteResponseError: the response has not ended.
        """
        if self.complete:
            return
        names = self.headers.keys()
        if not self.has_head or names & {"content-length", "transfer-encoding"}:
            raise IncompleteResponseError("the connection was closed within a response")
        self.complete = True

    def _has_ended(self) -> bool:
        """Whether the response ended within what was fed last."""
        return self.complete

    def take(self) -> bytes:
        """What has arrived of the body since the last time."""
        body, self._body, self.unread = self._body, [], 0
        return body[0] if len(body) == 1 else b"".join(body)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self.complete:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.status = self._parser.get_status_code()
        self.has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._body.append(data)
        self.unread += len(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self.complete:  # another response follows, which was not asked for
            self._reusable = False

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.complete:
            return
        if self.has_head:
            self.complete = True
            self._reusable = bool(self._parser.should_keep_alive())
            return
        self._interim += 1
        self.headers = {}
        if self._interim > _MOST_INTERIM:
            raise MalformedResponseError(f"more than {_MOST_INTERIM} interim responses")
