"""The steps of a script, and the actions each consists of: pauses, an answer, an exception.

`actions_of` turns a step into a generator of actions that never sleeps itself, so that a sync
model, an async model and `play` can each carry out the same script in their own way.
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

* text or a `Response`: the answer;
* an exception, instance or class: it is raised;
* a fault of `agentkit.testing.faults`: the exception that a client library raises for it;
* a pair ``(seconds, step)``: the step, after that many seconds;
* a list of texts, stream events, exceptions and pairs: exactly these events of a stream (with an
  `End` only if the list contains one); joined if no stream is requested;
* a function that takes prompt and options and returns one of these;
* `Returns`: any value, even one that is not an answer.
"""


@dataclass(frozen=True, slots=True)
class Returns:
    """The model returns (or streams) exactly `value`: None, a dict, anything."""

    value: object


class ScriptError(AssertionError):
    """The script does not match the calls: an error of the test, not of the model."""


class HTTPStatusError(Exception):
    """An HTTP error as client libraries raise it.

    Attributes:
        status_code: the HTTP status.
        headers: the response headers, including `Retry-After`.
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
    """Nothing happens for `seconds`, which may be infinite."""

    seconds: float


Action: TypeAlias = "Pause | str | Response[Any] | StreamEvent"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer is delivered: complete, or as a stream.

    `reply` is the answer of faults without their own; `split` divides an answer into chunks.
    """

    stream: bool
    reply: str | Response[Any]
    split: Callable[[str], Sequence[str]]

    def events(self, reply: str | Response[Any] | None) -> tuple[list[str], End]:
        """An answer as the chunks of a stream and its end mark."""
        answer = self.reply if reply is None else reply
        response = Response(answer) if isinstance(answer, str) else answer
        end = End(response.finish_reason, response.usage, response.tool_calls, state=response.state)
        return [chunk for chunk in self.split(response.text) if chunk], end


def actions_of(step: Any, delivery: Delivery) -> Iterator[Action]:
    """The actions of `step`: pauses, then a complete answer or the events of a stream.

    Raises the exception that the step stands for.

    Raises:
        ScriptError: `step` is not a step.
    """
    if isinstance(step, BaseException):
        raise step.with_traceback(None)
    if isinstance(step, type) and issubclass(step, BaseException):
        raise step
    if isinstance(step, tuple):
        seconds, later = step
        yield Pause(seconds)
        yield from actions_of(later, delivery)
    else:
        yield from _actions(step, delivery)


@singledispatch
def _actions(step: object, _: Delivery) -> Iterator[Action]:
    raise ScriptError(f"not a step of a script: {step!r}")


@_actions.register(str)
@_actions.register(Response)
def _answer(reply: str | Response[Any] | None, delivery: Delivery) -> Iterator[Action]:
    if delivery.stream:
        chunks, end = delivery.events(reply)
        yield from chunks
        yield end
    else:
        yield delivery.reply if reply is None else reply


@_actions.register
def _events(step: list, delivery: Delivery) -> Iterator[Action]:  # type: ignore[type-arg]
    text = ""
    for action in _pieces(step):
        if delivery.stream or isinstance(action, Pause):
            yield action
        elif isinstance(action, str | TextDelta):
            text += action if isinstance(action, str) else action.text
    if not delivery.stream:
        yield text


def _pieces(step: Sequence[Piece]) -> Iterator[Action]:
    for each in step:
        piece: Any = each
        while isinstance(piece, tuple):
            yield Pause(piece[0])
            piece = piece[1]
        if isinstance(piece, type | BaseException):
            raise piece
        yield piece


@_actions.register
def _returns(step: Returns, _: Delivery) -> Iterator[Action]:
    yield step.value  # type: ignore[misc]


@_actions.register
def _status(fault: faults.Status, _: Delivery) -> Iterator[Action]:
    raise HTTPStatusError(fault)


@_actions.register
def _reset(_: faults.Reset, __: Delivery) -> Iterator[Action]:
    raise ConnectionResetError("the connection was reset")


@_actions.register
def _disconnect(_: faults.Disconnect, __: Delivery) -> Iterator[Action]:
    raise ConnectionAbortedError("the connection was closed without an answer")


@_actions.register
def _silence(_: faults.Silence, __: Delivery) -> Iterator[Action]:
    yield Pause(math.inf)


@_actions.register
def _latency(fault: faults.Latency, delivery: Delivery) -> Iterator[Action]:
    yield Pause(fault.seconds)
    yield from actions_of(delivery.reply if fault.then is None else fault.then, delivery)


@_actions.register
def _malformed_body(_: faults.MalformedBody, __: Delivery) -> Iterator[Action]:
    raise _unreadable()


@_actions.register
def _slow_first_token(fault: faults.SlowFirstToken, delivery: Delivery) -> Iterator[Action]:
    yield Pause(fault.seconds)
    yield from _answer(fault.reply, delivery)


@_actions.register
def _trickle(fault: faults.Trickle, delivery: Delivery) -> Iterator[Action]:
    """Pauses in proportion to the length of each piece, without what surrounds it on the wire."""
    for action in _answer(fault.reply, delivery):
        if isinstance(action, str):
            yield Pause(fault.seconds * len(action.encode()))
        yield action


@_actions.register
def _slow_chunks(fault: faults.SlowChunks, delivery: Delivery) -> Iterator[Action]:
    if not delivery.stream:
        yield Pause(fault.seconds)
    for action in _answer(fault.reply, delivery):
        if delivery.stream and isinstance(action, str):
            yield Pause(fault.seconds)
        yield action


@_actions.register
def _missing_end(fault: faults.MissingEnd, delivery: Delivery) -> Iterator[Action]:
    if not delivery.stream:
        raise _unreadable()
    yield from delivery.events(fault.reply)[0]


@_actions.register
def _cut_stream(fault: faults.CutStream, delivery: Delivery) -> Iterator[Action]:
    yield from _beginning(fault, delivery)
    kind = ConnectionResetError if fault.reset else ConnectionAbortedError
    raise kind("the connection was lost during the answer")


@_actions.register
def _stalled_stream(fault: faults.StalledStream, delivery: Delivery) -> Iterator[Action]:
    yield from _beginning(fault, delivery)
    yield Pause(math.inf)


@_actions.register
def _malformed_chunk(fault: faults.MalformedChunk, delivery: Delivery) -> Iterator[Action]:
    yield from _beginning(fault, delivery)
    raise _unreadable()


@_actions.register
def _stream_error(fault: faults.StreamError, delivery: Delivery) -> Iterator[Action]:
    yield from _beginning(fault, delivery)
    raise HTTPStatusError(fault.error)


def _beginning(fault: faults.BrokenStream, delivery: Delivery) -> Iterator[Action]:
    if delivery.stream:
        yield from delivery.events(fault.reply)[0][: fault.after]


def _unreadable() -> json.JSONDecodeError:
    return json.JSONDecodeError("the answer is incomplete", '{"text": "The qui', 9)
