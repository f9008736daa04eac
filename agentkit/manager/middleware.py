"""The four ready-made middleware classes. Two set the engine's policies, two observe attempts.

The only retry loop and the only limiter are the engine's. `RateLimitMiddleware` and
`RetryMiddleware` configure them for all models of a manager. Around each attempt the order is
always the same: retry, limits, the other middleware in the given order, the provider. So each
attempt counts against the limits, retries included.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any, ClassVar, Literal

from agentkit._fork import fork_safe_lock
from agentkit.engine.middleware import Layer, Middleware
from agentkit.errors import LLMError
from agentkit.policy.limits import RateLimits
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.validation import choice
from agentkit.types import Request, Response

log = logging.getLogger("agentkit.requests")


class RateLimitMiddleware(Middleware):
    """Limits the requests and tokens per minute of each model, or of each API key in a pool.

    Args:
        requests_per_minute: the most requests (default 50; None: no limit).
        input_tokens_per_minute: the most input tokens (default 50,000; None: no limit).
        output_tokens_per_minute: the most output tokens (default 10,000; None: no limit).
        on_limit: ``"wait"`` (default) waits within the deadline; ``"raise"`` tries the next model,
            and raises a `PoolExhaustedError` if there is none.

    Raises:
        ConfigurationError: a limit is below 1, or `on_limit` is unknown.
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
        choice("on_limit", on_limit, ("wait", "raise"))
        self.limits = RateLimits(
            requests_per_minute, input_tokens_per_minute, output_tokens_per_minute
        )
        self.acquire_timeout = 0.0 if on_limit == "raise" else None


class RetryMiddleware(Middleware):
    """Sets the retry policy of the manager's models (see `RetryPolicy`).

    Args:
        max_retries: the most attempts, including the first (default 3).
        base_delay: nominal seconds before the first retry (default 1.0).
        max_delay: the longest wait in seconds (default 60.0).
        exponential_base: factor from one wait to the next (default 2.0).
        jitter: random variation, as a fraction of the wait (default 0.25).
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
    """Logs each attempt to ``agentkit.requests``: sent and answered at DEBUG, failed at WARNING.

    The messages contain lengths, tokens and seconds; with ``content=True``, also the texts, which
    may contain secrets.
    """

    level: ClassVar[Literal["request", "attempt", "policy"]] = "attempt"

    def __init__(self, *, content: bool = False) -> None:
        self._content = content

    def __call__(self, request: Request) -> Layer:
        """Log one attempt."""
        since = time.monotonic()
        log.debug("sending %s", self._shown(request.text))
        try:
            response = yield request
        except Exception as error:
            kind = error.kind if isinstance(error, LLMError) else type(error).__name__
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
    """Counts attempts: requests, successes, failures, tokens and errors by type (see `metrics`)."""

    level: ClassVar[Literal["request", "attempt", "policy"]] = "attempt"

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._seconds = 0.0

    def __call__(self, request: Request) -> Layer:
        """Count one attempt."""
        since = time.monotonic()
        try:
            response = yield request
        except Exception as error:
            kind = error.kind if isinstance(error, LLMError) else type(error).__name__
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
        """The counts so far. ``total_seconds`` is the duration of all successes."""
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
