"""The protocols that others implement: a provider, a store, a signal and a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

from agentkit.types.events import StreamEvent
from agentkit.types.request import Request
from agentkit.types.response import Response


class Provider(Protocol):
    """What a model offers to the engine. Implement what you have; the engine crosses colours.

    An object needs at least one of the four methods below. Streams yield `str` or `StreamEvent`; a
    provider whose `end_mark` is true must finish each stream with an `End`, and a stream that stops
    without one counts as interrupted.

    Optional attributes: `provider` (its name in telemetry, default ``"custom"``), `model` (the
    provider's own name of the model), `end_mark` (default true), `capabilities` (any of
    ``"messages"``, ``"tools"``, ``"prefill"``, ``"vision"``, ``"json_schema"``, ``"json_object"``:
    without the last two, the JSON schema is added to the prompt), `translate(exc)` (returns an
    `LLMError` for one of its exceptions, or None for the general rules), `with_key(key)` (returns
    the same provider with another API key, for a pool), `close()` and `aclose()`.
    """

    def send(self, request: Request) -> Response[Any] | str:
        """Return the answer, sync."""
        ...

    async def asend(self, request: Request) -> Response[Any] | str:
        """Return the answer, async."""
        ...

    def stream(self, request: Request) -> Iterator[str | StreamEvent]:
        """Yield the answer, sync."""
        ...

    def astream(self, request: Request) -> AsyncIterator[str | StreamEvent]:
        """Stream, async."""
        ...


class Store(Protocol):
    """Where the response cache keeps its bytes. Both methods may raise: a fault is a miss."""

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None when absent or expired."""
        ...

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` under `key` for `ttl` seconds."""
        ...


class Signal(Protocol):
    """Something that can end a wait early: a breaker that opens, a slot that comes free."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once it happens, at once when it already has. `wake` must not block."""
        ...

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        ...


Now: TypeAlias = Callable[[], float]
"""A reading of time: seconds from an arbitrary start, never going back."""


@runtime_checkable
class Clock(Protocol):
    """Time: a reading, and the waits that go with it.

    `LLMManager(clock=...)` takes one, or a plain function such as `time.monotonic`, whose waits are
    real. In tests use `agentkit.testing.FakeClock`, whose waits return at once.
    """

    def now(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    def sleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Wait `seconds`, in the calling thread; True when `until` fired first."""
        ...

    async def asleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Like `sleep`, for asyncio."""
        ...
