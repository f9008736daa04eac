"""The closed set of things a flow may ask the world to do.

A flow is a generator. It yields an `Effect`, and the driver sends the result back or throws what
happened instead. ``answer = yield from Sleep(1.0)`` is typed: each effect knows its result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from agentkit.policy.target import Endpoint, Target
from agentkit.types import Request, Response, Signal, StreamEvent

T = TypeVar("T")
R = TypeVar("R")

Scope: TypeAlias = Callable[[], AbstractContextManager[object] | None]


class Effect(Generic[T]):
    """Something to be done by a driver, with a result of type `T`."""

    __slots__ = ()

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        result: T = yield self
        return result


Flow: TypeAlias = Generator[Effect[Any], Any, R]


class TimedOut(Exception):  # noqa: N818 - a driver's answer, never shown to a caller
    """The driver's answer to `Send`, `Open` and `Pull` when their time limit ran out."""


class Source(Protocol):
    """An opened stream. Only the driver that opened it touches it."""


class Running(Protocol):
    """A flow that a driver runs on the side."""

    def alive(self) -> bool:
        """False when it ended, or can never end because its event loop is gone."""
        ...

    def cancel(self) -> None:
        """Stop it soon; may be called from any thread."""
        ...


@dataclass(slots=True, eq=False)
class Send(Effect[Any]):
    """Call the model; the result is what it returned, raw.

    `timeout` is in seconds; `cuttable` says that the model has a limit of its own, for which a
    blocking call gives up its caller's thread.
    """

    target: Target
    endpoint: Endpoint
    request: Request
    timeout: float | None
    cuttable: bool
    scope: Scope


@dataclass(slots=True, eq=False)
class Open(Effect[Source]):
    """Open a stream; the result is a handle for `Pull` and `Close`."""

    target: Target
    endpoint: Endpoint
    request: Request
    cuttable: bool
    scope: Scope


@dataclass(slots=True, eq=False)
class Pull(Effect["str | StreamEvent | None"]):
    """The next event of a source within `timeout` seconds; None when it is at its end."""

    source: Source
    timeout: float | None


@dataclass(slots=True, eq=False)
class Close(Effect[None]):
    """Release a source; faults while closing are dropped."""

    source: Source


@dataclass(slots=True, eq=False)
class Sleep(Effect[bool]):
    """Wait `seconds`; True when `until` fired first."""

    seconds: float
    until: Signal | None = None


@dataclass(slots=True, eq=False)
class Load(Effect["Response[Any] | None"]):
    """Ask the response cache; `durable` keys may be on disk."""

    key: str
    durable: bool


@dataclass(slots=True, eq=False)
class Store(Effect[None]):
    """Put a complete answer into the response cache."""

    key: str
    response: Response[Any]
    durable: bool


@dataclass(slots=True, eq=False)
class Launch(Effect[Running]):
    """Run `flow` beside the one that asks: as a task under asyncio, else on a worker thread.

    `leads` names the shared call that the flow leads, so that nothing inside waits for it.
    """

    flow: Flow[None]
    leads: str


@dataclass(slots=True, eq=False)
class Emit(Effect[None]):
    """Hand an event to the consumer of a stream; only the stream drivers know it."""

    event: StreamEvent
