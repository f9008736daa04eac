"""What the engine tells the outside while a call runs.

One `Observer` a manager; it opens one `CallObserver` a request and that one `AttemptObserver` an
attempt. The base classes do nothing: override what you need. The engine trusts implementations
not to raise; `agentkit.telemetry` guards its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias

from agentkit.types import Request, Response
from agentkit.types.ledger import CacheResult, Entry, Ledger

CallOutcome: TypeAlias = Literal["success", "fallback_success", "cache_hit", "error", "cancelled"]
RetryReason: TypeAlias = Literal["backoff", "retry_after", "next_key"]
FallbackReason: TypeAlias = Literal[
    "circuit_open", "retries_exhausted", "non_retryable", "timeout", "rate_limited",
    "content_filter", "skipped",
]  # fmt: skip


class AttemptObserver:
    """Watches one attempt, from just before it is sent until it is settled."""

    def scope(self) -> AbstractContextManager[object] | None:
        """Entered around each step of user or SDK code, so that their spans nest; None: nothing."""
        return None

    def end(
        self, entry: Entry, response: Response[Any] | None, error: BaseException | None
    ) -> None:
        """The attempt is settled as `entry`."""


class CallObserver:
    """Watches one request."""

    def attempt(
        self, model: str, provider: str, number: int, index: int, request: Request
    ) -> AttemptObserver:
        """Attempt `number` (from 1) at `model`, the route's `index`-th target, is about to go."""
        return AttemptObserver()

    def retry(self, model: str, provider: str, number: int, delay: float, error: BaseException,
              reason: RetryReason) -> None:  # fmt: skip
        """Attempt `number` at `model` will follow after `delay` seconds."""

    def fallback(self, source: str, to: str, reason: FallbackReason) -> None:
        """The call moves on from `source` to `to`."""

    def skipped(self, entry: Entry) -> None:
        """A target was passed over without sending anything."""

    def breaker_moved(self, model: str, provider: str, previous: str, state: str) -> None:
        """The breaker of `model` left `previous` while an attempt of this call was under way."""

    def response_cache(self, model: str, result: CacheResult, seconds: float) -> None:
        """The response cache was asked for `model` (bypass and off take no time)."""

    def waited(self, model: str, seconds: float, acquired: bool) -> None:
        """The call waited `seconds` for a slot of `model`."""

    def end(
        self,
        outcome: CallOutcome,
        ledger: Ledger,
        response: Response[Any] | None,
        error: BaseException | None,
    ) -> None:
        """The request is over; called exactly once."""


class Observer:
    """Watches one manager."""

    def begin(self, request: Request, models: tuple[str, ...]) -> CallObserver:
        """A request starts; `models` is its route in order."""
        return CallObserver()

    def breaker_changed(self, breaker: str, previous: str, state: str) -> None:
        """A circuit breaker moved: states are ``closed``, ``open``, ``half-open``."""
