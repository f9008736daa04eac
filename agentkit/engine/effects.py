"""The effects: the operations that a flow may ask its driver to perform.

A flow is a generator that yields an `Effect`. The driver performs it and sends back the result, or
throws the exception that was raised. The result is typed: ``woken = yield from Sleep(1.0)`` is a
bool.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from agentkit.policy.target import Endpoint, Target
from agentkit.types import Request, Response, Signal, StreamEvent
from agentkit.types.fleet import Question

T = TypeVar("T")
R = TypeVar("R")

Scope: TypeAlias = Callable[[], AbstractContextManager[object] | None]


class Effect(Generic[T]):
    """An operation for the driver, with a result of type `T`."""

    __slots__ = ()

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        result: T = yield self
        return result


Flow: TypeAlias = Generator[Effect[Any], Any, R]


class TimedOut(Exception):  # noqa: N818 - internal; callers never see it
    """Thrown into the flow when the time limit of a `Send`, `Open` or `Pull` has passed."""


class Source(Protocol):
    """An open stream. Only the driver that opened it uses it."""


class Running(Protocol):
    """A flow that a driver runs beside another one."""

    def alive(self) -> bool:
        """Whether it still runs; false also if its event loop is gone, so that it can never end."""
        ...

    def cancel(self) -> None:
        """Stop it soon. Safe to call from any thread."""
        ...


class Turn(Protocol):
    """An attempt that may have to wait for a worker thread."""

    def longest_wait(self) -> float:
        """Seconds that it may wait."""
        ...

    def begin_after(self, seconds: float) -> float:
        """Start its clock: it waited `seconds`. Returns the seconds from then to the deadline."""
        ...


@dataclass(slots=True, eq=False)
class Prepare(Effect[None]):
    """Call `prepare`, which may be slow, such as an SDK's import. Its exceptions are ignored."""

    prepare: Callable[[], None]


@dataclass(slots=True, eq=False)
class Send(Effect[Any]):
    """Call the model. The result is what the model returned, unchanged.

    `timeout` is in seconds. If `cuttable`, the model has a time limit of its own, and a sync call
    runs on a worker thread so that it can be abandoned.
    """

    target: Target
    endpoint: Endpoint
    request: Request
    timeout: float | None
    cuttable: bool
    scope: Scope
    turn: Turn


@dataclass(slots=True, eq=False)
class Open(Effect[Source]):
    """Open a stream. The result is a handle for `Pull` and `Close`."""

    target: Target
    endpoint: Endpoint
    request: Request
    cuttable: bool
    scope: Scope
    turn: Turn


@dataclass(slots=True, eq=False)
class Pull(Effect["str | StreamEvent | list[StreamEvent] | None"]):
    """Get what comes next from a source within `timeout` seconds, or None at its end.

    That is an event, or a list of events that arrived together.
    """

    source: Source
    timeout: float | None


@dataclass(slots=True, eq=False)
class Close(Effect[None]):
    """Close a source. Errors while closing are ignored."""

    source: Source


@dataclass(slots=True, eq=False)
class Sleep(Effect[bool]):
    """Wait for `seconds`. The result is True if `until` fired first."""

    seconds: float
    until: Signal | None = None


@dataclass(slots=True, eq=False)
class Load(Effect["Response[Any] | None"]):
    """Look up a response in the cache. Only a `durable` key is looked up in the store."""

    key: str
    durable: bool


@dataclass(slots=True, eq=False)
class Store(Effect[None]):
    """Put a complete response into the cache."""

    key: str
    response: Response[Any]
    durable: bool


@dataclass(slots=True, eq=False)
class Consult(Effect[Any]):
    """Ask the state that the processes of a fleet share. None: decide alone."""

    question: Question


@dataclass(slots=True, eq=False)
class Launch(Effect[Running]):
    """Run `flow` beside this one: as a task under asyncio, otherwise on a worker thread.

    `leads` is the key of the shared call that the flow leads, so that nothing in it waits for the
    shared call itself.
    """

    flow: Flow[None]
    leads: str


@dataclass(slots=True, eq=False)
class Emit(Effect[None]):
    """Pass events that arrived together to the consumer of a stream."""

    events: Sequence[StreamEvent]
