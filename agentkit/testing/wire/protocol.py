"""What a provider's wire protocol has to tell `WireServer`: one `Wire` a protocol, one module each.

A wire turns bytes into a `RecordedRequest` and a `Response` into the bytes of a JSON answer or of
a stream's events. It knows nothing of sockets, scripts or faults.
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
    """One model call as the server received it.

    Attributes:
        number: its place in order of arrival, from 1.
        provider: whose protocol it spoke: ``"openai"``, ``"openai-responses"``, ``"anthropic"``,
            ``"google"`` or ``"bedrock"``.
        path: the path, with its query.
        headers: names in lower case. Left out of the repr, since they hold the caller's key.
        body: the JSON body.
        model: the model asked for; ``""`` when none was named.
        stream: whether a stream was asked for.
    """

    number: int
    provider: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: dict[str, Any]
    model: str
    stream: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, framed and ready to send.

    `part` is ``"opening"`` for what comes before any content, ``"content"`` for a piece of it,
    ``"ending"`` for all that says the answer is complete.
    """

    part: Literal["opening", "content", "ending"]
    data: bytes


class Wire(Protocol):
    """One provider's protocol over HTTP."""

    name: str
    stream_type: str
    """The Content-Type of a stream."""
    id_header: str
    """The response header that carries the provider's id of the request."""

    def reads(self, method: str, path: str) -> bool:
        """Whether a request for `path` (without its query) is a model call of this protocol."""
        ...

    def asked(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """The model asked for, and whether a stream was."""
        ...

    def aside(self, method: str, path: str, models: Sequence[str]) -> Answer | None:
        """The answer to a request that is no model call; None when it is not this protocol's."""
        ...

    def answer(self, request: RecordedRequest, response: Response[Any]) -> Answer:
        """The answer to a request without streaming."""
        ...

    def events(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """The stream's events; `pieces` are the response's text, one content event each."""
        ...

    def error(self, error: Status) -> Answer:
        """The provider's own answer for an HTTP error, without the Retry-After headers."""
        ...

    def error_event(self, error: Status) -> bytes:
        """The same error as an event in a stream, framed."""
        ...

    def broken(self, event: bytes) -> bytes:
        """`event` framed as before but with content that no client can parse."""
        ...


def dump(value: object) -> bytes:
    """JSON as providers send it: without blanks, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event; without a name the ``event:`` line is left out."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + dump(data) + b"\n\n"


def break_sse(event: bytes) -> bytes:
    """The same event with its JSON broken off half way."""
    head, _, data = event.rstrip(b"\n").rpartition(b"data: ")
    return head + b"data: " + data[: len(data) // 2] + b"\n\n"


def halves(text: str) -> tuple[str, str]:
    """A tool call's arguments as two pieces, as they come in a stream."""
    return text[: len(text) // 2], text[len(text) // 2 :]
