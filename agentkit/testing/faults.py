"""Faults of a provider, as plain values.

A fault says what happens; who acts it out decides how: `WireServer` does it on a real socket. The
lower-case names are the same classes, so that a script reads as a list of events::

    server.script(faults.status(503), faults.status(429, retry_after=2), "Paris.")

Times are in seconds. `after` counts content events: pieces of text, or of a tool call's
arguments. `reply` is the answer that the fault spoils; None stands for the answer that would have
come without it. A fault of streams has a meaning for a caller who did not ask for a stream, too;
each class says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from agentkit.types import Response


@dataclass(frozen=True)
class Fault:
    """The root of all faults."""

    def __post_init__(self) -> None:
        """Refuse a negative or endless time or count.

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
    """An HTTP error with the provider's own error body.

    Attributes:
        code: the HTTP status, 400 to 599.
        retry_after: the ``Retry-After`` header: seconds, or a text sent as it is, such as an HTTP
            date. None sends none.
        retry_after_ms: the ``retry-after-ms`` header, in milliseconds. None sends none.
        message: the message in the body; None takes the usual one of the status.
        kind: the provider's name for the error (``"context_length_exceeded"``); None takes the
            usual one of the status.
        headers: further response headers, as pairs.
    """

    code: int
    retry_after: float | str | None = field(default=None, kw_only=True)
    retry_after_ms: int | None = field(default=None, kw_only=True)
    message: str | None = field(default=None, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)
    headers: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Refuse a status that is no error.

        Raises:
            ValueError: `code` is not between 400 and 599.
        """
        if not 400 <= self.code <= 599:
            msg = f"an error's status is 400 to 599, not {self.code}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset (TCP RST) once the request has been read; nothing is answered."""


@dataclass(frozen=True)
class Disconnect(Fault):
    """The connection is closed in good order once the request has been read, without an answer.

    A refused connection is another matter: the address of a closed `WireServer` gives that.
    """


@dataclass(frozen=True)
class Silence(Fault):
    """Nothing is ever answered, and the connection stays open until either side leaves."""


@dataclass(frozen=True)
class MalformedBody(Fault):
    """Status 200, and a JSON body that breaks off half way, at its declared length.

    To a caller who asked for a stream, the same body comes instead of one.
    """

    reply: str | Response[object] | None = None


@dataclass(frozen=True)
class Latency(Fault):
    """Nothing is sent for `seconds`, then `then` happens; None stands for the usual answer."""

    seconds: float
    then: str | Response[object] | Fault | None = None


@dataclass(frozen=True)
class StreamFault(Fault):
    """The root of the faults that happen within an answer with status 200."""

    reply: str | Response[object] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class SlowFirstToken(StreamFault):
    """The headers come at once, the first event `seconds` later, the rest as usual.

    Without streaming: the whole answer comes after `seconds`.
    """

    seconds: float


@dataclass(frozen=True)
class SlowChunks(StreamFault):
    """Before each content event `seconds` pass: a stream that drips.

    Without streaming: the whole answer comes after `seconds`.
    """

    seconds: float


@dataclass(frozen=True)
class MissingEnd(StreamFault):
    """All content comes and the stream ends in good order, but no event says that it is complete:
    no finish reason, no usage, no end mark.

    Without streaming: as `MalformedBody`.
    """


@dataclass(frozen=True)
class BrokenStream(StreamFault):
    """The root of the faults that strike after `after` content events.

    If fewer come, the fault strikes after the last one and before any end mark.
    """

    after: int = 1


@dataclass(frozen=True)
class CutStream(BrokenStream):
    """The connection is closed after `after` content events; with `reset`, by a TCP RST.

    Without streaming: the same, half way through the body.
    """

    reset: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class StalledStream(BrokenStream):
    """After `after` content events nothing more comes, and the connection stays open.

    Without streaming: the same, half way through the body.
    """


@dataclass(frozen=True)
class MalformedChunk(BrokenStream):
    """The content event that follows the first `after` ones cannot be parsed; the rest comes.

    Whoever skips it has a hole in the text. Without streaming: as `MalformedBody`.
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
missing_end = MissingEnd
cut_stream = CutStream
stalled_stream = StalledStream
malformed_chunk = MalformedChunk
stream_error = StreamError
