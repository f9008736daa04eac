"""The four ready-made middleware classes. Two set the engine's policies, two watch attempts.

There is one retry loop and one limiter, the engine's: `RateLimitMiddleware` and `RetryMiddleware`
only say how they work for the models of a manager. Around each attempt the order is always the
same: limits, retry, then the other middleware in the order given, then the provider; a retried
attempt takes from the limits again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any, ClassVar, Literal

from agentkit._fork import fork_safe_lock
from agentkit.engine.middleware import Layer, Middleware
from agentkit.errors import ConfigurationError, LLMError
from agentkit.policy.limits import RateLimits
from agentkit.policy.retry import RetryPolicy
from agentkit.types import Request, Response

log = logging.getLogger("agentkit.requests")


class RateLimitMiddleware(Middleware):
    """The manager's models keep within these limits a minute, each key (or model) on its own.

    Args:
        requests_per_minute: default 50; None: no limit of that kind.
        input_tokens_per_minute: default 50,000.
        output_tokens_per_minute: default 10,000.
        on_limit: ``"wait"`` in line within the deadline (default), or ``"raise"`` a
            `PoolExhaustedError` at once where no other model is left.

    Raises:
        ConfigurationError: a limit below one, or an unknown `on_limit`.
    """

    level: ClassVar[Literal["request", "attempt", "policy"]] = "policy"

    def __init__(
        self,
        requests_per_minute: int | None = 50,
        input_tokens_per_minute: int | None = 50_000,
        output_tokens_per_minute: int | None = 10_000,
        *,
        on_limit: Literal["wait", "raise"] = "wait",
    ) -> None:
        if on_limit not in ("wait", "raise"):
            raise ConfigurationError(f"on_limit is {on_limit!r}", hint="use 'wait' or 'raise'")
        self.limits = RateLimits(
            requests_per_minute, input_tokens_per_minute, output_tokens_per_minute
        )
        self.acquire_timeout = 0.0 if on_limit == "raise" else None


class RetryMiddleware(Middleware):
    """The manager's models are asked again by this schedule.

    Args:
        max_retries: attempts in all (default 3).
        base_delay: nominal seconds before the first retry (default 1.0).
        max_delay: cap of a wait in seconds (default 60.0).
        exponential_base: growth from retry to retry (default 2.0).
        jitter: fraction of the nominal wait (default 0.25).
    """

    level: ClassVar[Literal["request", "attempt", "policy"]] = "policy"

    def __init__(
        self,
        max_retries: int = 3,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        exponential_base: float = 2.0,
        jitter: float = 0.25,
    ) -> None:
        self.policy = RetryPolicy(max_retries, base_delay, exponential_base, max_delay, jitter)


class LoggingMiddleware(Middleware):
    """Logs each attempt to ``agentkit.requests``: sent, answered (DEBUG), failed (WARNING).

    Sizes, tokens and seconds only; with ``content=True`` the texts, too, which may hold secrets.
    """

    level: ClassVar[Literal["request", "attempt", "policy"]] = "attempt"

    def __init__(self, *, content: bool = False) -> None:
        self._content = content

    def __call__(self, request: Request) -> Layer:
        """One attempt."""
        since = time.monotonic()
        log.debug("sending %s", self._shown(request.text))
        try:
            response = yield request
        except Exception as error:
            kind = error.error_type if isinstance(error, LLMError) else type(error).__name__
            log.warning("failed after %.3f s: %s", time.monotonic() - since, kind)
            raise
        log.debug(
            "%s answered after %.3f s with %s (%d input, %d output tokens)",
            response.model,
            time.monotonic() - since,
            self._shown(response.text),
            response.usage.input_tokens,
            response.usage.output_tokens,
        )
        return response

    def _shown(self, text: str) -> str:
        return repr(text) if self._content else f"{len(text)} characters"


class MetricsMiddleware(Middleware):
    """Counts attempts: `metrics` has requests, successes, failures, tokens and errors by type."""

    level: ClassVar[Literal["request", "attempt", "policy"]] = "attempt"

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._seconds = 0.0

    def __call__(self, request: Request) -> Layer:
        """One attempt."""
        since = time.monotonic()
        try:
            response = yield request
        except Exception as error:
            kind = error.error_type if isinstance(error, LLMError) else type(error).__name__
            with self._lock:
                self._counts["failed_requests"] += 1
                self._errors[kind] += 1
            raise
        self._succeeded(response, time.monotonic() - since)
        return response

    def _succeeded(self, response: Response[Any], seconds: float) -> None:
        with self._lock:
            self._counts["successful_requests"] += 1
            self._counts["input_tokens"] += response.usage.input_tokens
            self._counts["output_tokens"] += response.usage.output_tokens
            self._seconds += seconds

    @property
    def metrics(self) -> dict[str, Any]:
        """The counts so far; `total_seconds` is what the successes took."""
        with self._lock:
            done, failed = self._counts["successful_requests"], self._counts["failed_requests"]
            return {
                "total_requests": done + failed,
                "successful_requests": done,
                "failed_requests": failed,
                "input_tokens": self._counts["input_tokens"],
                "output_tokens": self._counts["output_tokens"],
                "total_seconds": self._seconds,
                "errors_by_type": dict(self._errors),
            }
