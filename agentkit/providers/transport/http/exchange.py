"""The response of an HTTP/1.1 exchange without I/O, as its bytes arrive.

httptools parses; it binds llhttp, the parser of Node.js. What is added here is what a client of
JSON APIs needs to be safe: limits, and whether the connection can be used again.
"""

from __future__ import annotations

from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from agentkit.providers.transport.http.failures import (
    IncompleteResponseError,
    MalformedResponseError,
)

LARGEST_HEAD = 256 * 1024
"""Bytes of a response beside its body, after which it is given up. Each byte of the body allows for
another `_FRAMING`, since a chunk of one byte takes six."""
_FRAMING = 16
_MOST_INTERIM = 16
"""Responses of the kind ``100 Continue`` before the actual one."""
MOST_UNREAD = 1024 * 1024
"""Bytes of a body that arrived and were not read, after which reading stops for a while."""


class HttpExchange:
    """A response that arrives. `feed` it with bytes, and with the end of the connection."""

    __slots__ = (
        "_body",
        "_framing_left",
        "_interim",
        "_parser",
        "complete",
        "has_head",
        "headers",
        "keeps_connection",
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
        self.keeps_connection = False
        """Whether the connection can carry another request when the body has ended."""
        self.unread = 0
        """Bytes of the body that `take` would return."""
        self._body: list[bytes] = []
        self._framing_left = LARGEST_HEAD
        self._interim = 0
        self._parser: Any = HttpResponseParser(self)

    @classmethod
    def none_yet(cls) -> HttpExchange:
        """The exchange of a new connection, which has carried no request."""
        exchange = cls()
        exchange.complete = exchange.keeps_connection = True
        return exchange

    @property
    def reusable(self) -> bool:
        """Whether the response is complete, and the connection can carry another request."""
        return self.complete and self.keeps_connection

    def feed(self, data: bytes) -> None:
        """Parse what arrived.

        Raises:
            MalformedResponseError: it is not HTTP/1.1, or there is too much beside its body.
            BaseException: Ctrl-C arrived meanwhile.
        """
        if self.complete:  # not asked for
            self.keeps_connection = False
            return
        self._framing_left -= len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.keeps_connection = False
            interrupt = error.__context__  # the parser replaces what is raised in its callbacks
            if interrupt is not None and not isinstance(interrupt, Exception):
                raise interrupt from None
            if not self._has_ended():
                raise MalformedResponseError(type(error).__name__) from error
        if self._has_ended():
            self._parser = None  # it refers to this object: a cycle for the garbage collector
        if self._framing_left < 0:
            raise MalformedResponseError(f"more than {LARGEST_HEAD} bytes of headers")

    def feed_end(self) -> None:
        """The connection was closed, which ends a body without a length.

        Raises:
            IncompleteResponseError: the response has not ended.
        """
        if self.complete:
            self.keeps_connection = False
            return
        names = self.headers.keys()
        if not self.has_head or names & {"content-length", "transfer-encoding"}:
            raise IncompleteResponseError("the connection was closed within a response")
        self.complete, self._parser = True, None

    def _has_ended(self) -> bool:
        """Whether the response ended within what was fed last."""
        return self.complete

    def take(self) -> bytes:
        """What has arrived of the body since the last time."""
        body, self._body, self.unread = self._body, [], 0
        return body[0] if len(body) == 1 else b"".join(body)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self.has_head:  # a trailer, which has no say
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self.complete:  # those of another response
            return
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self.has_head = True
            self.keeps_connection = bool(self._parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if self.complete:  # the body of another response
            return
        if not self.has_head:  # no caller would take it
            raise MalformedResponseError("an interim response has a body")
        self._body.append(data)
        self.unread += len(data)
        self._framing_left += len(data) * (1 + _FRAMING)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self.complete:  # another response follows, which was not asked for
            self.keeps_connection = False

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.complete:
            return
        if self.has_head:
            self.complete = True
            return
        self._interim += 1
        self.headers = {}
        if self._interim > _MOST_INTERIM:
            raise MalformedResponseError(f"more than {_MOST_INTERIM} interim responses")
