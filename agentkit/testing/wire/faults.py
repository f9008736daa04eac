"""The performance of each fault on a connection: one function for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, TypeAlias

from agentkit.testing import faults
from agentkit.testing.wire.connection import Connection
from agentkit.testing.wire.protocol import Event, HttpResponse, RecordedRequest, WireProtocol
from agentkit.types import Response, Usage

Reply: TypeAlias = str | Response[Any] | Callable[[dict[str, Any]], str | Response[Any]]
Outcome: TypeAlias = (
    Reply | faults.Fault | Callable[[dict[str, Any]], str | Response[Any] | faults.Fault]
)

_READING_TIME = 0.1  # seconds that a client needs at most to read what it was sent


@dataclass(frozen=True, slots=True)
class Responder:
    """Answers one request on its connection.

    `reply` is the default answer; `chunks` splits text into the pieces of a stream, which are
    sent `chunk_delay` seconds apart.
    """

    protocol: WireProtocol
    connection: Connection
    request: RecordedRequest
    reply: Reply
    chunks: Callable[[str], Sequence[str]]
    chunk_delay: float

    def response(self, reply: Reply | None) -> Response[Any]:
        """`reply`, or the default, as a response; without token counts, a word is one token."""
        chosen = self.reply if reply is None else reply
        if callable(chosen):
            chosen = chosen(self.request.body)
        response = Response(chosen) if isinstance(chosen, str) else chosen
        if response.usage != Usage():
            return response
        body = self.request.body
        prompt = body.get("messages") or body.get("input") or body.get("contents", "")
        usage = Usage(len(str(prompt).split()), len(response.text.split()))
        return replace(response, usage=usage)

    def complete(self, reply: Reply | None) -> HttpResponse:
        """The complete, non-streaming answer."""
        return self.protocol.encode_response(self.request, self.response(reply))

    def events(self, reply: Reply | None) -> list[Event]:
        """The answer as the events of a stream."""
        response = self.response(reply)
        pieces = [piece for piece in self.chunks(response.text) if piece]
        return list(self.protocol.encode_stream(self.request, response, pieces))

    @property
    def id_headers(self) -> tuple[tuple[str, str], ...]:
        """The header with the provider's id of the request."""
        return ((self.protocol.id_header, f"req_{self.request.number}"),)

    def send(self, response: HttpResponse) -> None:
        """Send a complete response."""
        headers = (*response.headers, *self.id_headers)
        self.connection.send(response.status, response.body, response.content_type, headers)

    def send_half(self, response: HttpResponse) -> None:
        """Send the headers of a complete response and half of its body."""
        length = ("content-length", str(len(response.body)))
        headers = (*response.headers, *self.id_headers, length)
        half = response.body[: len(response.body) // 2]
        self.connection.start(response.status, response.content_type, headers, half)

    def start_stream(self) -> None:
        """Send the headers of a stream."""
        self.connection.start_stream(self.protocol.stream_type, self.id_headers)

    async def send_events(self, events: Iterable[Event], delay: float | None = None) -> None:
        """Send events, and wait `delay` seconds (None: `chunk_delay`) before each content event."""
        delay = self.chunk_delay if delay is None else delay
        for event in events:
            if delay and event.part == "content":
                await asyncio.sleep(delay)
            self.connection.chunk(event.data)

    async def wait_forever(self) -> None:
        """Wait until the connection or the server is closed, which cancels this."""
        await asyncio.get_running_loop().create_future()


@singledispatch
async def perform(outcome: object, to: Responder) -> None:
    """Answer a request as `outcome` says."""
    msg = f"{to.protocol.name}: neither a reply nor a fault: {outcome!r}"
    raise TypeError(msg)


@perform.register(str)
@perform.register(Response)
async def _reply(reply: str | Response[Any], to: Responder) -> None:
    if not to.request.stream:
        to.send(to.complete(reply))
        return
    events = to.events(reply)
    to.start_stream()
    await to.send_events(events)
    to.connection.end_stream()


@perform.register
async def _status(fault: faults.Status, to: Responder) -> None:
    response = to.protocol.encode_error(fault)
    waits = (("retry-after", fault.retry_after), ("retry-after-ms", fault.retry_after_ms))
    extra = tuple((name, str(value)) for name, value in waits if value is not None)
    to.send(replace(response, headers=(*response.headers, *extra, *fault.headers)))


@perform.register
async def _reset(_: faults.Reset, to: Responder) -> None:
    to.connection.reset()


@perform.register
async def _disconnect(_: faults.Disconnect, to: Responder) -> None:
    to.connection.close()


@perform.register
async def _silence(_: faults.Silence, to: Responder) -> None:
    await to.wait_forever()


@perform.register
async def _latency(fault: faults.Latency, to: Responder) -> None:
    await asyncio.sleep(fault.seconds)
    await perform(to.response(None) if fault.then is None else fault.then, to)


@perform.register(faults.MalformedBody)
async def _malformed_body(fault: faults.MalformedBody | faults.StreamFault, to: Responder) -> None:
    response = to.complete(fault.reply)
    to.send(replace(response, body=response.body[: len(response.body) // 2]))


@perform.register
async def _slow_first_token(fault: faults.SlowFirstToken, to: Responder) -> None:
    if to.request.stream:
        events = to.events(fault.reply)
        to.start_stream()
        await asyncio.sleep(fault.seconds)
        await to.send_events(events)
        to.connection.end_stream()
    else:
        await _send_late(fault.seconds, fault, to)


@perform.register
async def _slow_chunks(fault: faults.SlowChunks, to: Responder) -> None:
    if to.request.stream:
        events = to.events(fault.reply)
        to.start_stream()
        await to.send_events(events, fault.seconds)
        to.connection.end_stream()
    else:
        await _send_late(fault.seconds, fault, to)


@perform.register
async def _trickle(fault: faults.Trickle, to: Responder) -> None:
    if to.request.stream:
        kind, data = to.protocol.stream_type, b"".join(e.data for e in to.events(fault.reply))
    else:
        response = to.complete(fault.reply)
        kind, data = response.content_type, response.body
    to.connection.start_stream(kind, to.id_headers)
    for byte in data:
        await asyncio.sleep(fault.seconds)
        to.connection.chunk(bytes((byte,)))
    to.connection.end_stream()


@perform.register
async def _missing_end(fault: faults.MissingEnd, to: Responder) -> None:
    if to.request.stream:
        events = to.events(fault.reply)
        to.start_stream()
        await to.send_events(event for event in events if event.part != "ending")
        to.connection.end_stream()
    else:
        await _malformed_body(fault, to)


@perform.register
async def _cut_stream(fault: faults.CutStream, to: Responder) -> None:
    await _send_beginning(fault, to)
    if fault.reset:
        # A reset discards what the other side has not read yet.
        await asyncio.sleep(_READING_TIME)
        to.connection.reset()
    else:
        to.connection.close()


@perform.register
async def _stalled_stream(fault: faults.StalledStream, to: Responder) -> None:
    await _send_beginning(fault, to)
    await to.wait_forever()


@perform.register
async def _malformed_chunk(fault: faults.MalformedChunk, to: Responder) -> None:
    if to.request.stream:
        events = to.events(fault.reply)
        corrupted = min(_content_end(events, fault.after), len(events) - 1)
        events[corrupted] = replace(
            events[corrupted], data=to.protocol.corrupt(events[corrupted].data)
        )
        to.start_stream()
        await to.send_events(events)
        to.connection.end_stream()
    else:
        await _malformed_body(fault, to)


@perform.register
async def _stream_error(fault: faults.StreamError, to: Responder) -> None:
    if to.request.stream:
        await _send_beginning(fault, to)
        to.connection.chunk(to.protocol.encode_error_event(fault.error))
        to.connection.end_stream()
    else:
        to.send(replace(to.protocol.encode_error(fault.error), status=200))


async def _send_beginning(fault: faults.BrokenStream, to: Responder) -> None:
    """Send what comes before the fault."""
    if to.request.stream:
        events = to.events(fault.reply)
        to.start_stream()
        await to.send_events(events[: _content_end(events, fault.after)])
    else:
        to.send_half(to.complete(fault.reply))


def _content_end(events: Sequence[Event], after: int) -> int:
    """The index after the opening and the first `after` content events."""
    opening = sum(event.part == "opening" for event in events)
    content = sum(event.part == "content" for event in events)
    return opening + min(after, content)


async def _send_late(seconds: float, fault: faults.StreamFault, to: Responder) -> None:
    await asyncio.sleep(seconds)
    to.send(to.complete(fault.reply))
