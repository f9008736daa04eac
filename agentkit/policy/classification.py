"""The meaning of an error for the breaker, for a retry, and for the fallback.

The type and the status of an error decide, or the number that the system gave it, never the text
of its message. `_TABLE` has one row for
each kind of error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeAlias

from agentkit import errors as e
from agentkit.policy.causes import is_shortage
from agentkit.types.observer import FallbackReason

log = logging.getLogger("agentkit.policy")


class Blame(Enum):
    """How the circuit breaker counts the error."""

    FAILURE = "failure"
    CONSECUTIVE = "consecutive"
    """Counts as a consecutive failure, but not in the failure rate."""
    NEUTRAL = "neutral"


class Retry(Enum):
    """Whether the same target is tried again."""

    IMMEDIATELY = "with another key"
    AFTER_DELAY = "after a delay"
    IF_LAST_TARGET = "if no other target is left"
    NEVER = "never"


class Fallback(Enum):
    """Which targets may be tried next."""

    NEXT = "the next one"
    LARGER_CONTEXT = "only one with a larger or unknown context"
    OTHER_PROVIDER = "only one of another provider"
    NEVER = "none: the error ends the request"


class Classification(NamedTuple):
    """One row of the error table."""

    blame: Blame
    retry: Retry
    fallback: Fallback
    reason: FallbackReason
    log_traceback: bool = False

    def fallback_under(self, *, on_invalid: bool, on_content_filter: bool) -> Fallback:
        """The fallback after this error under the options of a manager."""
        if self.fallback is not Fallback.NEVER:
            return self.fallback
        if self.reason == "content_filter":
            return Fallback.NEXT if on_content_filter else Fallback.NEVER
        return Fallback.OTHER_PROVIDER if on_invalid else Fallback.NEVER


RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool | None]
)

_TRANSIENT = Classification(Blame.FAILURE, Retry.AFTER_DELAY, Fallback.NEXT, "retries_exhausted")
_TIMED_OUT = Classification(Blame.FAILURE, Retry.IF_LAST_TARGET, Fallback.NEXT, "timeout")
_RATE_LIMITED = Classification(Blame.CONSECUTIVE, Retry.AFTER_DELAY, Fallback.NEXT, "rate_limited")
_RATE_LIMITED_UNTIL = Classification(
    Blame.NEUTRAL, Retry.AFTER_DELAY, Fallback.NEXT, "rate_limited"
)
_ACCESS_DENIED = Classification(Blame.FAILURE, Retry.NEVER, Fallback.NEXT, "non_retryable")
_REDIRECTED = _ACCESS_DENIED
_INVALID_REQUEST = Classification(Blame.NEUTRAL, Retry.NEVER, Fallback.NEVER, "non_retryable")
_CONTEXT_TOO_LONG = Classification(
    Blame.NEUTRAL, Retry.NEVER, Fallback.LARGER_CONTEXT, "non_retryable"
)
_CONTENT_FILTERED = Classification(Blame.NEUTRAL, Retry.NEVER, Fallback.NEVER, "content_filter")
_BUG = Classification(
    Blame.FAILURE, Retry.NEVER, Fallback.NEXT, "non_retryable", log_traceback=True
)
_NEUTRAL_FALLBACK = Classification(Blame.NEUTRAL, Retry.NEVER, Fallback.NEXT, "non_retryable")
_INVALID_OUTPUT = Classification(
    Blame.NEUTRAL, Retry.AFTER_DELAY, Fallback.NEXT, "retries_exhausted"
)
_NO_SOCKET = Classification(Blame.NEUTRAL, Retry.AFTER_DELAY, Fallback.NEXT, "retries_exhausted")
"""The fault is of this machine, and passes when other calls end."""
_NO_CAPACITY = Classification(Blame.NEUTRAL, Retry.NEVER, Fallback.NEXT, "skipped")

_TABLE: tuple[tuple[type[e.LLMError], Classification], ...] = (
    (e.ProviderTimeoutError, _TIMED_OUT),
    (e.RateLimitError, _RATE_LIMITED),
    (e.AuthenticationError, _ACCESS_DENIED),
    (e.ModelNotFoundError, _ACCESS_DENIED),
    (e.ContextLengthError, _CONTEXT_TOO_LONG),
    (e.InvalidRequestError, _INVALID_REQUEST),
    (e.ContentFilterError, _CONTENT_FILTERED),
    (e.StructuredOutputError, _INVALID_OUTPUT),
    (e.PoolExhaustedError, _NO_CAPACITY),
    (e.CircuitOpenError, _NEUTRAL_FALLBACK),
    (e.BudgetExceededError, _NEUTRAL_FALLBACK),
    (e.ConfigurationError, _NEUTRAL_FALLBACK),
    (e.DeadlineExceededError, _TIMED_OUT),
    (e.LLMError, _TRANSIENT),
)

_MALFORMED = (json.JSONDecodeError, UnicodeError)
_BUGS = (TypeError, AttributeError, NameError, ImportError, AssertionError, NotImplementedError)
_NEUTRAL = (ValueError, KeyError, PermissionError)


def classify(error: e.LLMError, retry_on: RetryOn | None = None) -> Classification:
    """The row of the table for `error`, or for the foreign exception that it wraps.

    `retry_on` overrides the table. It is one or more exception types, or a function of the original
    exception that returns True (a failure, retried), False (neutral, next target) or None (use the
    table).
    """
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else None
    if retry_on is not None:
        override = _override(cause or error, retry_on)
        if override is not None:
            return override
    if isinstance(error, e.RateLimitError) and error.retry_after is not None:
        return _RATE_LIMITED_UNTIL
    if isinstance(error, e.InvalidResponseError) and 300 <= (error.status or 0) < 400:
        return _REDIRECTED
    if isinstance(error, e.InvalidResponseError) and error.at_token_limit:
        return _NEUTRAL_FALLBACK
    if isinstance(error, e.NetworkError) and is_shortage(error):
        return _NO_SOCKET
    if type(error) is e.ProviderError and cause is not None:
        return _classify_foreign(cause)
    return next(row for kind, row in _TABLE if isinstance(error, kind))


def _override(original: Exception, retry_on: RetryOn) -> Classification | None:
    if isinstance(retry_on, tuple | type):
        return _TRANSIENT if isinstance(original, retry_on) else None
    try:
        answer = retry_on(original)
    except Exception:
        log.exception(
            "retry_on raised an exception for %s; using the error table", type(original).__name__
        )
        return None
    if answer is None:
        return None
    return _TRANSIENT if answer else _NEUTRAL_FALLBACK


def _classify_foreign(cause: Exception) -> Classification:
    if isinstance(cause, _MALFORMED) or _is_pydantic_error(cause):
        return _TRANSIENT
    if isinstance(cause, _BUGS):
        return _BUG
    if isinstance(cause, _NEUTRAL):
        return _NEUTRAL_FALLBACK
    return _TRANSIENT


def _is_pydantic_error(cause: Exception) -> bool:
    kind = type(cause)
    return kind.__name__ == "ValidationError" and kind.__module__.split(".")[0].startswith(
        "pydantic"
    )
