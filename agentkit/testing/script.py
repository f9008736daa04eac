"""What each step of a script means inside one process: pauses, pieces of an answer, an exception.

`perform` turns a step into a generator of acts that sleeps nowhere itself, so a blocking model, an
async one and `play` can each carry out the same script in their own way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, TypeAlias, Union

from agentkit.testing import faults
from agentkit.types import End, Response, StreamEvent, TextDelta

Piece: TypeAlias = "str | StreamEvent | BaseException | type[BaseException] | tuple[float, Piece]"
Step: TypeAlias = Union[
    "str | Response[Any] | BaseException | type[BaseException] | faults.Fault",
    "Sequence[Piece]",
    "tuple[float, Step]",
    "Callable[[str, dict[str, Any]], Step]",
    "Returns",
]
"""One entry of a script:

* a text or a `Response`: the answer;
* an exception, instance or class: raised;
* a fault of `agentkit.testing.faults`: what a client library makes of it;
* a pair ``(seconds, step)``: the step, so much later;
* a list of texts, stream events, exceptions and pairs: a stream's events, exactly these (an `End`
  only where one stands); joined when no stream was asked for;
* a function of prompt and options that gives one of these;
* `Returns`: a value that may be no answer at all.
"""


@dataclass(frozen=True, slots=True)
class Returns:
    """The model returns (or streams) exactly `value`: None, a dict, whatever."""

    value: object


class ScriptError(AssertionError):
    """A script does not fit what is asked of it; the test is wrong, not the model."""


class HTTPStatusError(Exception):
    """An HTTP error as client libraries raise it.

    Attributes:
        status_code: the HTTP status.
        headers: the answer's headers, `Retry-After` among them.
        code: the provider's name for the error, or None.
    """

    def __init__(self, fault: faults.Status) -> None:
        super().__init__(fault.message or f"HTTP {fault.code}")
        self.status_code = fault.code
        self.code = fault.kind
        waits = (("retry-after", fault.retry_after), ("retry-after-ms", fault.retry_after_ms))
        extra = {name: str(value) for name, value in waits if value is not None}
        self.headers: dict[str, str] = {**dict(fault.headers), **extra}


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing happens for `seconds`; infinity is for good."""

    seconds: float


Act: TypeAlias = "Pause | str | Response[Any] | StreamEvent"


@dataclass(frozen=True, slots=True)
class Stage:
    """How the asker wants the answer.

    `reply` is the answer that a fault without its own spoils; `pieces` splits a text for a
    stream.
    """

    stream: bool
    reply: str | Response[Any]
    pieces: Callable[[str], Sequence[str]]

    def events(self, reply: str | Response[Any] | None) -> tuple[list[str], End]:
        """An answer as the pieces of a stream and its end mark."""
        whole = self.reply if reply is None else reply
        response = Response(whole) if isinstance(whole, str) else whole
        end = End(response.finish_reason, response.usage, response.tool_calls)
        return [piece for piece in self.pieces(response.text) if piece], end


def perform(step: Any, stage: Stage) -> Iterator[Act]:
    """Act out `step`: pauses, then one whole answer, or a stream's events; or its exception.

    Raises:
        ScriptError: `step` is nothing that a script may hold.
    """
    if isinstance(step, BaseException):
        raise step.with_traceback(None)
    if isinstance(step, type) and issubclass(step, BaseException):
        raise step
    if isinstance(step, tuple):
        seconds, later = step
        yield Pause(seconds)
        yield from perform(later, stage)
    else:
        yield from _act(step, stage)


@singledispatch
def _act(step: object, _: Stage) -> Iterator[Act]:
    raise ScriptError(f"not a step of a script: {step!r}")


@_act.register(str)
@_act.register(Response)
def _answer(reply: str | Response[Any] | None, stage: Stage) -> Iterator[Act]:
    if stage.stream:
        pieces, end = stage.events(reply)
        yield from pieces
        yield end
    else:
        yield stage.reply if reply is None else reply


@_act.register
def _events(step: list, stage: Stage) -> Iterator[Act]:  # type: ignore[type-arg]
    text = ""
    for act in _pieces(step):
        if stage.stream or isinstance(act, Pause):
            yield act
        elif isinstance(act, str | TextDelta):
            text += act if isinstance(act, str) else act.text
    if not stage.stream:
        yield text


def _pieces(step: Sequence[Piece]) -> Iterator[Act]:
    for each in step:
        piece: Any = each
        while isinstance(piece, tuple):
            yield Pause(piece[0])
            piece = piece[1]
        if isinstance(piece, type | BaseException):
            raise piece
        yield piece


@_act.register
def _returns(step: Returns, _: Stage) -> Iterator[Act]:
    yield step.value  # type: ignore[misc]


@_act.register
def _status(fault: faults.Status, _: Stage) -> Iterator[Act]:
    raise HTTPStatusError(fault)


@_act.register
def _reset(_: faults.Reset, __: Stage) -> Iterator[Act]:
    raise ConnectionResetError("the connection was reset")


@_act.register
def _disconnect(_: faults.Disconnect, __: Stage) -> Iterator[Act]:
    raise ConnectionAbortedError("the connection was closed without an answer")


@_act.register
def _silence(_: faults.Silence, __: Stage) -> Iterator[Act]:
    yield Pause(math.inf)


@_act.register
def _latency(fault: faults.Latency, stage: Stage) -> Iterator[Act]:
    yield Pause(fault.seconds)
    yield from perform(stage.reply if fault.then is None else fault.then, stage)


@_act.register
def _malformed_body(_: faults.MalformedBody, __: Stage) -> Iterator[Act]:
    raise _unreadable()


@_act.register
def _slow_first_token(fault: faults.SlowFirstToken, stage: Stage) -> Iterator[Act]:
    yield Pause(fault.seconds)
    yield from _answer(fault.reply, stage)


@_act.register
def _slow_chunks(fault: faults.SlowChunks, stage: Stage) -> Iterator[Act]:
    if not stage.stream:
        yield Pause(fault.seconds)
    for act in _answer(fault.reply, stage):
        if stage.stream and isinstance(act, str):
            yield Pause(fault.seconds)
        yield act


@_act.register
def _missing_end(fault: faults.MissingEnd, stage: Stage) -> Iterator[Act]:
    if not stage.stream:
        raise _unreadable()
    yield from stage.events(fault.reply)[0]


@_act.register
def _cut_stream(fault: faults.CutStream, stage: Stage) -> Iterator[Act]:
    yield from _beginning(fault, stage)
    kind = ConnectionResetError if fault.reset else ConnectionAbortedError
    raise kind("the connection was lost within the answer")


@_act.register
def _stalled_stream(fault: faults.StalledStream, stage: Stage) -> Iterator[Act]:
    yield from _beginning(fault, stage)
    yield Pause(math.inf)


@_act.register
def _malformed_chunk(fault: faults.MalformedChunk, stage: Stage) -> Iterator[Act]:
    yield from _beginning(fault, stage)
    raise _unreadable()


@_act.register
def _stream_error(fault: faults.StreamError, stage: Stage) -> Iterator[Act]:
    yield from _beginning(fault, stage)
    raise HTTPStatusError(fault.error)


def _beginning(fault: faults.BrokenStream, stage: Stage) -> Iterator[Act]:
    if stage.stream:
        yield from stage.events(fault.reply)[0][: fault.after]


def _unreadable() -> json.JSONDecodeError:
    return json.JSONDecodeError("the answer breaks off", '{"text": "The qui', 9)
