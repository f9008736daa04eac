"""How each fault is acted out on a connection: one function a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, TypeAlias

from agentkit.testing import faults
from agentkit.testing.wire.connection import Connection
from agentkit.testing.wire.protocol import Answer, Event, RecordedRequest, Wire
from agentkit.types import Response, Usage

Reply: TypeAlias = str | Response[Any] | Callable[[dict[str, Any]], str | Response[Any]]
Outcome: TypeAlias = (
    Reply | faults.Fault | Callable[[dict[str, Any]], str | Response[Any] | faults.Fault]
)

_READING_TIME = 0.1  # seconds until a client has surely read what it was sent


@dataclass(frozen=True, slots=True)
class Stage:
    """One request on its connection, and how answers to it are made.

    `reply` is the answer that a fault without its own spoils; `chunks` splits a text into the
    pieces of a stream, which come `chunk_delay` seconds apart.
    """

    wire: Wire
    connection: Connection
    request: RecordedRequest
    reply: Reply
    chunks: Callable[[str], Sequence[str]]
    chunk_delay: float

    def response(self, reply: Reply | None) -> Response[Any]:
        """`reply`, or the usual one, as a response; one token a word where it counts none."""
        chosen = self.reply if reply is None else reply
        if callable(chosen):
            chosen = chosen(self.request.body)
        response = Response(chosen) if isinstance(chosen, str) else chosen
        if response.usage != Usage():
            return response
        body = self.request.body
        said = body.get("messages") or body.get("input") or body.get("contents", "")
        asked = len(str(said).split())
        return replace(response, usage=Usage(asked, len(response.text.split())))

    def whole(self, reply: Reply | None) -> Answer:
        """The answer without streaming."""
        return self.wire.answer(self.request, self.response(reply))

    def events(self, reply: Reply | None) -> list[Event]:
        """The answer as a stream's events."""
        response = self.response(reply)
        pieces = [piece for piece in self.chunks(response.text) if piece]
        return list(self.wire.events(self.request, response, pieces))

    @property
    def id_headers(self) -> tuple[tuple[str, str], ...]:
        """The provider's id of the request."""
        return ((self.wire.id_header, f"req_{self.request.number}"),)

    def send(self, answer: Answer) -> None:
        """Send a whole answer."""
        headers = (*answer.headers, *self.id_headers)
        self.connection.answer(answer.status, answer.body, answer.content_type, headers)

    def send_half(self, answer: Answer) -> None:
        """Send the headers of a whole answer and half of its body."""
        length = ("content-length", str(len(answer.body)))
        headers = (*answer.headers, *self.id_headers, length)
        half = answer.body[: len(answer.body) // 2]
        self.connection.start(answer.status, answer.content_type, headers, half)

    def start_stream(self) -> None:
        """Send the headers of a stream."""
        self.connection.start_stream(self.wire.stream_type, self.id_headers)

    async def play(self, events: Iterable[Event], delay: float | None = None) -> None:
        """Send events, `delay` seconds (None: the usual ones) before each piece of content."""
        delay = self.chunk_delay if delay is None else delay
        for event in events:
            if delay and event.part == "content":
                await asyncio.sleep(delay)
            self.connection.chunk(event.data)

    async def wait_for_good(self) -> None:
        """Wait until the connection or the server closes, which cancels this."""
        await asyncio.get_running_loop().create_future()


@singledispatch
async def act(outcome: object, stage: Stage) -> None:
    """Answer the request on `stage` as `outcome` says."""
    msg = f"{stage.wire.name}: neither a reply nor a fault: {outcome!r}"
    raise TypeError(msg)


@act.register(str)
@act.register(Response)
async def _reply(reply: str | Response[Any], stage: Stage) -> None:
    if not stage.request.stream:
        stage.send(stage.whole(reply))
        return
    events = stage.events(reply)
    stage.start_stream()
    await stage.play(events)
    stage.connection.end_stream()


@act.register
async def _status(fault: faults.Status, stage: Stage) -> None:
    answer = stage.wire.error(fault)
    waits = (("retry-after", fault.retry_after), ("retry-after-ms", fault.retry_after_ms))
    extra = tuple((name, str(value)) for name, value in waits if value is not None)
    stage.send(replace(answer, headers=(*answer.headers, *extra, *fault.headers)))


@act.register
async def _reset(_: faults.Reset, stage: Stage) -> None:
    stage.connection.reset()


@act.register
async def _disconnect(_: faults.Disconnect, stage: Stage) -> None:
    stage.connection.close()


@act.register
async def _silence(_: faults.Silence, stage: Stage) -> None:
    await stage.wait_for_good()


@act.register
async def _latency(fault: faults.Latency, stage: Stage) -> None:
    await asyncio.sleep(fault.seconds)
    await act(stage.response(None) if fault.then is None else fault.then, stage)


@act.register(faults.MalformedBody)
async def _malformed_body(fault: faults.MalformedBody | faults.StreamFault, stage: Stage) -> None:
    answer = stage.whole(fault.reply)
    stage.send(replace(answer, body=answer.body[: len(answer.body) // 2]))


@act.register
async def _slow_first_token(fault: faults.SlowFirstToken, stage: Stage) -> None:
    if stage.request.stream:
        events = stage.events(fault.reply)
        stage.start_stream()
        await asyncio.sleep(fault.seconds)
        await stage.play(events)
        stage.connection.end_stream()
    else:
        await _late(fault.seconds, fault, stage)


@act.register
async def _slow_chunks(fault: faults.SlowChunks, stage: Stage) -> None:
    if stage.request.stream:
        events = stage.events(fault.reply)
        stage.start_stream()
        await stage.play(events, fault.seconds)
        stage.connection.end_stream()
    else:
        await _late(fault.seconds, fault, stage)


@act.register
async def _missing_end(fault: faults.MissingEnd, stage: Stage) -> None:
    if stage.request.stream:
        events = stage.events(fault.reply)
        stage.start_stream()
        await stage.play(event for event in events if event.part != "ending")
        stage.connection.end_stream()
    else:
        await _malformed_body(fault, stage)


@act.register
async def _cut_stream(fault: faults.CutStream, stage: Stage) -> None:
    await _beginning(fault, stage)
    if fault.reset:
        # A reset throws away what the other side has not read yet.
        await asyncio.sleep(_READING_TIME)
        stage.connection.reset()
    else:
        stage.connection.close()


@act.register
async def _stalled_stream(fault: faults.StalledStream, stage: Stage) -> None:
    await _beginning(fault, stage)
    await stage.wait_for_good()


@act.register
async def _malformed_chunk(fault: faults.MalformedChunk, stage: Stage) -> None:
    if stage.request.stream:
        events = stage.events(fault.reply)
        struck = min(_content_end(events, fault.after), len(events) - 1)
        events[struck] = replace(events[struck], data=stage.wire.broken(events[struck].data))
        stage.start_stream()
        await stage.play(events)
        stage.connection.end_stream()
    else:
        await _malformed_body(fault, stage)


@act.register
async def _stream_error(fault: faults.StreamError, stage: Stage) -> None:
    if stage.request.stream:
        await _beginning(fault, stage)
        stage.connection.chunk(stage.wire.error_event(fault.error))
        stage.connection.end_stream()
    else:
        stage.send(replace(stage.wire.error(fault.error), status=200))


async def _beginning(fault: faults.BrokenStream, stage: Stage) -> None:
    """Send what comes before the fault strikes."""
    if stage.request.stream:
        events = stage.events(fault.reply)
        stage.start_stream()
        await stage.play(events[: _content_end(events, fault.after)])
    else:
        stage.send_half(stage.whole(fault.reply))


def _content_end(events: Sequence[Event], after: int) -> int:
    """The index behind the opening and the first `after` content events."""
    opening = sum(event.part == "opening" for event in events)
    content = sum(event.part == "content" for event in events)
    return opening + min(after, content)


async def _late(seconds: float, fault: faults.StreamFault, stage: Stage) -> None:
    await asyncio.sleep(seconds)
    stage.send(stage.whole(fault.reply))
