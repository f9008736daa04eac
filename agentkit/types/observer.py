"""Interfaces through which the engine reports its progress.

A manager has one `Observer`. It creates a `CallObserver` for each request, which creates an
`AttemptObserver` for each attempt. The base classes do nothing: override what you need. An
implementation must not raise.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias

from agentkit.types import Request, Response
from agentkit.types.ledger import CacheResult, Entry, Ledger

CallOutcome: TypeAlias = Literal["success", "fallback_success", "cache_hit", "error", "cancelled"]
RetryReason: TypeAlias = Literal["backoff", "retry_after", "next_key"]
FallbackReason: TypeAlias = Literal[
    "circuit_open",
    "retries_exhausted",
    "non_retryable",
    "timeout",
    "rate_limited",
    "content_filter",
    "skipped",
]


class AttemptObserver:
    """Observes one attempt, from just before it is sent until it is settled."""

    __slots__ = ()

    def scope(self) -> AbstractContextManager[object] | None:
        """A context for each step of user or SDK code, so that their spans are nested; or None."""
        return None

    def end(
        self, entry: Entry, response: Response[Any] | None, error: BaseException | None
    ) -> None:
        """The attempt is settled as `entry`."""


class CallObserver:
    """Observes one request."""

    __slots__ = ()

    def attempt(
        self, model: str, provider: str, number: int, index: int, request: Request, model_id: str
    ) -> AttemptObserver:
        """Attempt `number` (from 1) at `model`, the target at `index`, is about to be sent.

        `model_id` is the provider's own name of the model.
        """
        return AttemptObserver()

    def retry(
        self,
        model: str,
        provider: str,
        number: int,
        delay: float,
        error: BaseException,
        reason: RetryReason,
    ) -> None:
        """Attempt `number` at `model` will follow after `delay` seconds."""

    def fallback(self, source: str, to: str, reason: FallbackReason) -> None:
        """The call moves on from `source` to `to`."""

    def skipped(self, entry: Entry) -> None:
        """A target was skipped without sending anything."""

    def breaker_moved(self, model: str, provider: str, previous: str, state: str) -> None:
        """The breaker of `model` changed to `state` during an attempt of this call."""

    def response_cache(self, model: str, result: CacheResult, seconds: float) -> None:
        """The response cache was looked up for `model`. A bypass takes 0 seconds."""

    def waited(self, model: str, seconds: float, acquired: bool) -> None:
        """The call waited `seconds` for a slot of `model`; `acquired` says whether it got one."""

    def end(
        self,
        outcome: CallOutcome,
        ledger: Ledger,
        response: Response[Any] | None,
        error: BaseException | None,
    ) -> None:
        """The request is over. Called exactly once."""


class Observer:
    """Observes one manager."""

    def begin(self, request: Request, models: tuple[str, ...]) -> CallObserver:
        """A request starts; `models` are the names of its route, in order."""
        return CallObserver()

    def breaker_changed(self, breaker: str, previous: str, state: str) -> None:
        """A circuit breaker changed its state: ``closed``, ``open`` or ``half-open``."""
