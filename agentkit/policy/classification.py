"""What an error means: for the breaker, for another try here, for the next model.

Decided by type and status, never by message text. One row of `_TABLE` a kind of fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeAlias

from agentkit import errors as e
from agentkit.types.observer import FallbackReason


class Blame(Enum):
    """What the breaker is told."""

    FAILURE = "failure"
    CONSECUTIVE = "consecutive"
    """Counts for the consecutive rule, not for the rate."""
    NEUTRAL = "neutral"


class Again(Enum):
    """Whether the same model is asked again."""

    YES = "yes"
    IF_LAST = "if no other model is left"
    NO = "no"
    AT_ONCE = "with another key, without waiting"


class Onward(Enum):
    """Whether the next model is asked."""

    YES = "yes"
    LARGER_CONTEXT = "only with a larger or unknown context"
    OTHER_PROVIDER = "only of another provider"
    RAISE = "no"


class Verdict(NamedTuple):
    """One row of the error table."""

    blame: Blame
    again: Again
    onward: Onward
    reason: FallbackReason
    log_traceback: bool = False


RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool | None]
)

_TRANSIENT = Verdict(Blame.FAILURE, Again.YES, Onward.YES, "retries_exhausted")
_SILENT = Verdict(Blame.FAILURE, Again.IF_LAST, Onward.YES, "timeout")
_THROTTLED = Verdict(Blame.CONSECUTIVE, Again.YES, Onward.YES, "rate_limited")
_THROTTLED_UNTIL = Verdict(Blame.NEUTRAL, Again.YES, Onward.YES, "rate_limited")
_LOCKED_OUT = Verdict(Blame.FAILURE, Again.NO, Onward.YES, "non_retryable")
_CALLERS_FAULT = Verdict(Blame.NEUTRAL, Again.NO, Onward.RAISE, "non_retryable")
_TOO_LONG = Verdict(Blame.NEUTRAL, Again.NO, Onward.LARGER_CONTEXT, "non_retryable")
_REFUSED = Verdict(Blame.NEUTRAL, Again.NO, Onward.RAISE, "content_filter")
_BUG = Verdict(Blame.FAILURE, Again.NO, Onward.YES, "non_retryable", log_traceback=True)
_DECLINED = Verdict(Blame.NEUTRAL, Again.NO, Onward.YES, "non_retryable")
_REJECTED = Verdict(Blame.NEUTRAL, Again.YES, Onward.YES, "retries_exhausted")
_NO_WORKER = Verdict(Blame.NEUTRAL, Again.NO, Onward.YES, "skipped")

_TABLE: tuple[tuple[type[e.LLMError], Verdict], ...] = (
    (e.ProviderTimeoutError, _SILENT),
    (e.RateLimitError, _THROTTLED),
    (e.AuthenticationError, _LOCKED_OUT),
    (e.ModelNotFoundError, _LOCKED_OUT),
    (e.ContextLengthError, _TOO_LONG),
    (e.InvalidRequestError, _CALLERS_FAULT),
    (e.ContentFilterError, _REFUSED),
    (e.StructuredOutputError, _REJECTED),
    (e.PoolExhaustedError, _NO_WORKER),
    (e.CircuitOpenError, _DECLINED),
    (e.BudgetExceededError, _DECLINED),
    (e.ConfigurationError, _DECLINED),
    (e.DeadlineExceededError, _SILENT),
    (e.LLMError, _TRANSIENT),
)

_MALFORMED = (json.JSONDecodeError, UnicodeError)
_BUGS = (TypeError, AttributeError, NameError, ImportError, AssertionError, NotImplementedError)
_DECLINES = (ValueError, KeyError, PermissionError)


def judge(error: e.LLMError, retry_on: RetryOn | None = None) -> Verdict:
    """The row for `error`; for a wrapped foreign exception (`ProviderError` with a cause), its row.

    `retry_on` overrides the table: exception types, or ``f(exc) -> True`` (a failure, ask again),
    ``False`` (neutral, next model) or ``None`` (the table). It sees the original exception.
    """
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else None
    if retry_on is not None:
        override = _overridden(cause or error, retry_on)
        if override is not None:
            return override
    if isinstance(error, e.RateLimitError) and error.retry_after is not None:
        return _THROTTLED_UNTIL
    if type(error) is e.ProviderError and cause is not None:
        return _of_foreign(cause)
    return next(verdict for kind, verdict in _TABLE if isinstance(error, kind))


def _overridden(original: Exception, retry_on: RetryOn) -> Verdict | None:
    if isinstance(retry_on, tuple | type):
        return _TRANSIENT if isinstance(original, retry_on) else None
    answer = retry_on(original)
    if answer is None:
        return None
    return _TRANSIENT if answer else _DECLINED


def _of_foreign(cause: Exception) -> Verdict:
    if isinstance(cause, _MALFORMED) or _is_pydantic_error(cause):
        return _TRANSIENT
    if isinstance(cause, _BUGS):
        return _BUG
    if isinstance(cause, _DECLINES):
        return _DECLINED
    return _TRANSIENT


def _is_pydantic_error(cause: Exception) -> bool:
    kind = type(cause)
    return kind.__name__ == "ValidationError" and kind.__module__.split(".")[0].startswith(
        "pydantic"
    )
