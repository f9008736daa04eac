"""Faults of a provider, as plain values.

A fault says what happens; `WireServer` performs it on a real socket. The lower-case names are the
same classes, so that a script reads as a list of events::

    server.script(faults.status(503), faults.status(429, retry_after=2), "Paris.")

Times are in seconds. `after` counts content events: pieces of text, or of a tool call's
arguments. `reply` is the answer that the fault affects; None means the answer that would be sent
without it. Faults of streams also have a meaning for non-streaming requests; each class says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from agentkit.types import Response


@dataclass(frozen=True)
class Fault:
    """The base class of all faults."""

    def __post_init__(self) -> None:
        """Check that times and counts are finite and not negative.

        Raises:
            ValueError: `seconds` or `after` is negative or not finite.
        """
        for name in ("seconds", "after"):
            value = getattr(self, name, 0)
            if not 0 <= value < math.inf:
                msg = f"{name} must be zero or more and finite, not {value!r}"
                raise ValueError(msg)


@dataclass(frozen=True)
class Status(Fault):
    """An HTTP error, or a redirect, with the provider's own error body.

    Attributes:
        code: the HTTP status, 300 to 599.
        retry_after: the ``Retry-After`` header: seconds, or a string sent as it is, such as an
            HTTP date. None: no header.
        retry_after_ms: the ``retry-after-ms`` header, in milliseconds. None: no header.
        message: the message in the body; None: the default of the status.
        kind: the provider's name for the error (``"context_length_exceeded"``); None: the
            default of the status.
        headers: further response headers, as pairs.
    """

    code: int
    retry_after: float | str | None = field(default=None, kw_only=True)
    retry_after_ms: int | None = field(default=None, kw_only=True)
    message: str | None = field(default=None, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)
    headers: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Check that the status is an error or a redirect.

        Raises:
            ValueError: `code` is not between 300 and 599.
        """
        if not 300 <= self.code <= 599:
            msg = f"an error's status is 300 to 599, not {self.code}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset (TCP RST) once the request has been read; nothing is answered."""


@dataclass(frozen=True)
class Disconnect(Fault):
    """The connection is closed normally once the request has been read, without an answer.

    For a refused connection, use the address of a closed `WireServer`.
    """


@dataclass(frozen=True)
class Silence(Fault):
    """Nothing is ever answered, and the connection stays open until either side closes it."""


@dataclass(frozen=True)
class MalformedBody(Fault):
    """Status 200, and a JSON body without its second half, at its declared length.

    A streaming request gets the same body instead of a stream.
    """

    reply: str | Response[object] | None = None


@dataclass(frozen=True)
class Latency(Fault):
    """Nothing is sent for `seconds`, then `then` happens; None: the default answer."""

    seconds: float
    then: str | Response[object] | Fault | None = None


@dataclass(frozen=True)
class StreamFault(Fault):
    """The base class of faults within an answer with status 200."""

    reply: str | Response[object] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class SlowFirstToken(StreamFault):
    """The headers are sent immediately, the first event `seconds` later, the rest as usual.

    Without streaming: the complete answer is sent after `seconds`.
    """

    seconds: float


@dataclass(frozen=True)
class SlowChunks(StreamFault):
    """`seconds` pass before each content event.

    Without streaming: the complete answer is sent after `seconds`.
    """

    seconds: float


@dataclass(frozen=True)
class Trickle(StreamFault):
    """The answer is sent one byte every `seconds`: the connection is never silent.

    Without streaming: the same.
    """

    seconds: float


@dataclass(frozen=True)
class MissingEnd(StreamFault):
    """All content is sent and the stream ends normally, but no event says that it is complete.

    There is no finish reason, no usage and no end mark.

    Without streaming: as `MalformedBody`.
    """


@dataclass(frozen=True)
class BrokenStream(StreamFault):
    """The base class of faults that happen after `after` content events.

    If there are fewer, the fault happens after the last one and before any end mark.
    """

    after: int = 1


@dataclass(frozen=True)
class CutStream(BrokenStream):
    """The connection is closed after `after` content events; with `reset`, by a TCP RST.

    Without streaming: the same, halfway through the body.
    """

    reset: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class StalledStream(BrokenStream):
    """After `after` content events nothing more is sent, and the connection stays open.

    Without streaming: the same, halfway through the body.
    """


@dataclass(frozen=True)
class MalformedChunk(BrokenStream):
    """The content event after the first `after` ones cannot be parsed; the rest is sent.

    A client that skips it has a gap in the text. Without streaming: as `MalformedBody`.
    """


@dataclass(frozen=True)
class StreamError(BrokenStream):
    """After `after` content events the provider reports an error in the stream and ends it.

    Without streaming: status 200 with the provider's error body.

    Attributes:
        status: the HTTP status that the error would have had, 400 to 599.
        message: as in `Status`.
        kind: as in `Status`.
    """

    status: int = field(default=503, kw_only=True)
    message: str | None = field(default=None, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the error as `Status` does.

        Raises:
            ValueError: a field is out of its range.
        """
        super().__post_init__()
        _ = self.error

    @property
    def error(self) -> Status:
        """The same error as an HTTP status."""
        return Status(self.status, message=self.message, kind=self.kind)


status = Status
reset = Reset
disconnect = Disconnect
silence = Silence
malformed_body = MalformedBody
latency = Latency
slow_first_token = SlowFirstToken
slow_chunks = SlowChunks
trickle = Trickle
missing_end = MissingEnd
cut_stream = CutStream
stalled_stream = StalledStream
malformed_chunk = MalformedChunk
stream_error = StreamError
