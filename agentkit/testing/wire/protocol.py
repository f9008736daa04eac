"""The interface of a wire protocol: one class and one module for each.

A wire protocol recognises model calls and encodes a `Response` as a JSON body or as the events of a
stream. It knows nothing about sockets, scripts or faults.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agentkit.testing.faults import Status
from agentkit.types import Response


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One model call that the server received.

    Attributes:
        number: its position in order of arrival, from 1.
        provider: the wire protocol: ``"openai"``, ``"openai-responses"``, ``"anthropic"``,
            ``"google"`` or ``"bedrock"``.
        path: the path, with its query.
        headers: names in lower case. Left out of the repr, since they contain the caller's key.
        body: the JSON body.
        model: the requested model; ``""`` if the request names none.
        stream: whether a stream was requested.
    """

    number: int
    provider: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: dict[str, Any]
    model: str
    stream: bool


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One complete HTTP response."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, framed and ready to send.

    `part` is ``"opening"`` before any content, ``"content"`` for a piece of it, and ``"ending"``
    for everything that marks the answer as complete.
    """

    part: Literal["opening", "content", "ending"]
    data: bytes


class WireProtocol(Protocol):
    """One provider's API over HTTP."""

    name: str
    stream_type: str
    """The Content-Type of a stream."""
    id_header: str
    """The response header of the provider's request id."""

    def matches(self, method: str, path: str) -> bool:
        """Whether a request for `path` (without its query) is a model call of this API."""
        ...

    def parse_call(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """The requested model, and whether a stream is requested."""
        ...

    def answer_other(self, method: str, path: str, models: Sequence[str]) -> HttpResponse | None:
        """The answer to a request that is not a model call; None if it is not of this API."""
        ...

    def encode_response(self, request: RecordedRequest, response: Response[Any]) -> HttpResponse:
        """A complete, non-streaming answer."""
        ...

    def encode_stream(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """The events of a stream; `pieces` are the response's text, one content event each."""
        ...

    def encode_error(self, error: Status) -> HttpResponse:
        """The provider's own response for an HTTP error, without the Retry-After headers."""
        ...

    def encode_error_event(self, error: Status) -> bytes:
        """The same error as an event in a stream, framed."""
        ...

    def corrupt(self, event: bytes) -> bytes:
        """`event` in a valid frame, but with content that cannot be parsed."""
        ...


def to_json(value: object) -> bytes:
    """JSON as providers send it: without spaces, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event; without a name the ``event:`` line is left out."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + to_json(data) + b"\n\n"


def corrupt_sse(event: bytes) -> bytes:
    """The same event with the second half of its JSON missing."""
    head, _, data = event.rstrip(b"\n").rpartition(b"data: ")
    return head + b"data: " + data[: len(data) // 2] + b"\n\n"


def halves(text: str) -> tuple[str, str]:
    """A tool call's arguments in two pieces, as a stream sends them."""
    return text[: len(text) // 2], text[len(text) // 2 :]
