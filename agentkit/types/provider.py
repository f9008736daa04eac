"""The protocols that others implement: a provider, a store, a signal and a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

from agentkit.types.events import StreamEvent
from agentkit.types.request import Request
from agentkit.types.response import Response

NOT_WITH_PREFILL = frozenset(
    [
        "functions",
        "output_config",
        "output_format",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "text",
        "thinking",
        "tools",
    ]
)
"""Parameters for tools, JSON output or reasoning, which cannot be combined with a prefill."""


class Provider(Protocol):
    """A model that the engine can call.

    Implement at least one of the four methods, and leave out the others: sync callers can use an
    async method, and async callers a sync one. Streams yield `str` or `StreamEvent`. If `end_mark`
    is true, each stream must finish with an `End`, and one that stops earlier was interrupted.

    Optional attributes:

    - `provider`: its name in telemetry (default ``"custom"``)
    - `model_id`, or else `model`: the provider's own name of the model, for telemetry and prices
    - `end_mark` (default true)
    - `capabilities`: any of ``"messages"``, ``"tools"``, ``"prefill"``, ``"vision"``,
      ``"json_schema"`` and ``"json_object"``. Without the last two, a JSON schema is added to the
      prompt.
    - `translate(exc)`: an `LLMError` for one of its exceptions, or None for the general rules
    - `cancel_scope()`: a context manager that is entered around each sync call, and each event
      of a sync stream, and whose `cancel()` ends it from another thread. Without it, a sync call
      from sync code cannot be interrupted.
    - `prepare()`: called once, before the time limit of the first attempt starts and never on an
      event loop, for slow work such as importing an SDK
    - `warm_up(connections)` and `awarm_up(connections)`: open connections ahead of the first call,
      until as many are idle; see `LLMManager.warm_up`
    - `with_key(key)`: the same provider with another API key, for a pool
    - `stream_lists(request)` and `astream_lists(request)`, in the same class as `stream` and
      `astream`: the same stream, faster, with the events that arrived together in one list
    - `close()` and `aclose()`
    """

    def send(self, request: Request) -> Response[Any] | str:
        """Return the response."""
        ...

    async def asend(self, request: Request) -> Response[Any] | str:
        """Like `send`, for asyncio."""
        ...

    def stream(self, request: Request) -> Iterator[str | StreamEvent]:
        """Yield the response piece by piece."""
        ...

    def astream(self, request: Request) -> AsyncIterator[str | StreamEvent]:
        """Like `stream`, for asyncio."""
        ...


class Store(Protocol):
    """Keeps the bytes of a response cache. Both methods may raise: a fault counts as a miss."""

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None if they are absent or expired."""
        ...

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` under `key` for `ttl` seconds."""
        ...


class Signal(Protocol):
    """An event that ends a wait early, such as a breaker that opens or a slot that becomes free."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` when it happens, or now if it has happened already. `wake` must not block."""
        ...

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        ...


Now: TypeAlias = Callable[[], float]
"""A function that returns the time: seconds from an arbitrary start, never going back."""


@runtime_checkable
class Clock(Protocol):
    """The current time, and ways to wait.

    Pass one as `LLMManager(clock=...)`, or a plain function such as `time.monotonic`, for which
    waits are real. In tests use `agentkit.testing.FakeClock`, whose waits return immediately.
    """

    def now(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    def sleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Block the calling thread for `seconds`. Returns True if `until` fired first."""
        ...

    async def asleep(self, seconds: float, until: Signal | None = None) -> bool:
        """Like `sleep`, for asyncio."""
        ...
