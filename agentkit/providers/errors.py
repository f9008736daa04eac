"""Mapping of the exceptions of SDKs and functions into the error tree, by type and status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from agentkit import errors as e
from agentkit.policy.causes import is_shortage
from agentkit.providers.reason import network_place, network_reason, printable

_TIMEOUTS = frozenset(
    {
        ("openai", "APITimeoutError"),
        ("anthropic", "APITimeoutError"),
        ("groq", "APITimeoutError"),
        ("httpx", "TimeoutException"),
        ("httpx2", "TimeoutException"),
        ("httpcore", "TimeoutException"),
        ("requests", "Timeout"),
        ("aiohttp", "ServerTimeoutError"),
        ("urllib3", "TimeoutError"),
        ("botocore", "ReadTimeoutError"),
        ("botocore", "ConnectTimeoutError"),
    }
)
"""Exceptions by their top-level module and name, so that no library is imported."""
_CONNECTION_ERRORS = frozenset(
    {
        ("openai", "APIConnectionError"),
        ("anthropic", "APIConnectionError"),
        ("groq", "APIConnectionError"),
        ("httpx", "TransportError"),
        ("httpx2", "TransportError"),
        ("httpcore", "NetworkError"),
        ("requests", "ConnectionError"),
        ("aiohttp", "ClientConnectionError"),
        ("urllib3", "ProtocolError"),
        ("botocore", "HTTPClientError"),
    }
)

_CLIENTS = frozenset(
    {module for module, _ in _TIMEOUTS | _CONNECTION_ERRORS}
    | {"boto3", "cohere", "google", "grpc", "http", "mistralai", "urllib", "websockets"}
)
"""Packages whose exceptions may have parts of a request or a response in their text."""
_OWN = "agentkit."
_BODIES = ("body", "raw_response", "request", "response")
"""Attributes of the exceptions of any other client."""

_BY_STATUS: dict[int, type[e.ProviderError]] = {
    401: e.AuthenticationError,
    402: e.AuthenticationError,
    403: e.AuthenticationError,
    404: e.ModelNotFoundError,
    408: e.ProviderTimeoutError,
    409: e.ServerError,
    424: e.ServerError,
    425: e.ServerError,
    429: e.RateLimitError,
    529: e.OverloadedError,
}
_BY_CODE: dict[str, type[e.ProviderError]] = {
    "context_length_exceeded": e.ContextLengthError,
    "exceed_context_size_error": e.ContextLengthError,
    "content_filter": e.ContentFilterError,
    "content_policy_violation": e.ContentFilterError,
    "overloaded_error": e.OverloadedError,
}
_BY_ERROR_TYPE: dict[str, type[e.ProviderError]] = {
    "api_error": e.ServerError,
    "server_error": e.ServerError,
    "timeout_error": e.ProviderTimeoutError,
    "rate_limit_error": e.RateLimitError,
    "rate_limit_exceeded": e.RateLimitError,
    "authentication_error": e.AuthenticationError,
    "billing_error": e.AuthenticationError,
    "permission_error": e.AuthenticationError,
    "not_found_error": e.ModelNotFoundError,
    "invalid_request_error": e.InvalidRequestError,
    "request_too_large": e.InvalidRequestError,
}
"""For errors inside a stream with status 200: the vendors' own types."""
_EMPTY_ACCOUNT = frozenset({"insufficient_quota", "credit_balance_exhausted"})
"""Codes of a 429 that no wait ends, since the account has no credit left."""
_BILLING = frozenset({"billing_hard_limit_reached", "billing_not_active", "billing_error"})
"""Codes that say the same with any status; OpenAI sends the first with a 400."""
_NO_CREDIT_MESSAGE = "credit balance is too low"
"""What the message of Anthropic's 400 contains, which has no code of its own."""
_LIMITS_PER_MINUTE = ("#token-limit", "allocated quota", "per minute")
"""What messages with one of these codes contain if the provider means a limit per minute."""
_STATUS_ATTRIBUTES = ("status_code", "status", "code")


def translate(exc: Exception, *, provider: str, model: str, with_text: bool = False) -> e.LLMError:
    """`exc` as an error of the tree, with `exc` as its cause; an `LLMError` stays as it is.

    By status if it has one (`status_of`), else by type; an unknown exception becomes
    `ProviderError`. The message names the type and the status. It has the reason and the address of
    a failed connection, and what a content filter says of itself, but nothing else of a body.
    `with_text` adds the exception's own text, without secrets and shortened, unless the client of
    an API raised it.
    """
    if isinstance(exc, e.LLMError):
        if isinstance(exc, e.ProviderError):
            exc.provider = exc.provider or provider
            exc.model = exc.model or model
        return exc
    status = status_of(exc)
    empty = _account_is_empty(exc, status)
    kind = e.AuthenticationError if empty else _kind(exc, status)
    label = type(exc).__name__ + (f" {status}" if status else "")
    text = _own_text(exc) if with_text else ""
    error = kind(
        f"{model} failed: {label}{text or _explanation(exc, kind)}",
        provider=provider,
        model=model,
        status=status,
        request_id=_request_id(exc),
        hint=_BILLING_HINT if empty else _hint(kind, exc),
        retry_after=retry_after_of(exc),
    )
    if kind is e.ProviderError and error.retry_after is not None:
        error = e.RateLimitError(
            error.message, provider=provider, model=model, retry_after=error.retry_after
        )
    if isinstance(error, e.InvalidResponseError):
        error.retryable = False  # a redirect leads to the same place each time
    error.__cause__ = exc
    return error


def _explanation(exc: Exception, kind: type[e.ProviderError]) -> str:
    """What a message says after the type and the status, or nothing."""
    place = reason = ""
    if _is_own_timeout(exc):
        reason = printable(str(exc))
    elif kind is e.NetworkError:
        place, reason = network_place(exc), network_reason(exc)
    elif kind is e.ContentFilterError:
        text = _error_body(exc).get("message")
        reason = printable(text) if isinstance(text, str) else ""
    return (f" at {place}" if place else "") + (f" ({reason})" if reason else "")


def _is_own_timeout(exc: Exception) -> bool:
    """Whether it is of the native transport, and says which of its limits passed."""
    return type(exc).__name__ == "HttpTimeoutError" and type(exc).__module__.startswith(_OWN)


def _own_text(exc: Exception) -> str:
    """The text of an exception, with a colon; empty if a client raised it."""
    packages = {kind.__module__.partition(".")[0] for kind in type(exc).__mro__}
    if packages & _CLIENTS or any(hasattr(exc, name) for name in _BODIES):
        return ""
    try:
        text = printable(str(exc))
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the exception it belongs to
        return ""
    return f": {text}" if text else ""


_HINTS: dict[type[e.ProviderError], str] = {
    e.NetworkError: "check the address (base_url) and whether its server runs",
    e.AuthenticationError: "check the key, its permissions and the account's balance",
    e.ModelNotFoundError: "check the model's id and whether the account may use it",
    e.InvalidResponseError: "the provider redirects the request; check the address (base_url)",
    e.InvalidRequestError: "the provider rejected the request; see __cause__ for its message",
    e.ContextLengthError: "shorten the prompt or add a fallback with a larger context_window",
}
_SHORTAGE_HINT = (
    "this machine can open no more connections: set max_concurrency=, or raise its limit of open "
    "files (ulimit -n)"
)
_BILLING_HINT = "the account has no credit left; check its billing"


def _hint(kind: type[e.ProviderError], exc: Exception) -> str | None:
    return _SHORTAGE_HINT if kind is e.NetworkError and is_shortage(exc) else _HINTS.get(kind)


def _account_is_empty(exc: Exception, status: int | None) -> bool:
    codes = _codes(exc)
    if status == 402 or not _BILLING.isdisjoint(codes):
        return True
    message = str(_error_body(exc).get("message") or "").lower()
    if status == 400 and _NO_CREDIT_MESSAGE in message and "invalid_request_error" in codes:
        return True
    if status not in (None, 429) or _EMPTY_ACCOUNT.isdisjoint(codes):
        return False
    return retry_after_of(exc) is None and not any(each in message for each in _LIMITS_PER_MINUTE)


def _kind(exc: Exception, status: int | None) -> type[e.ProviderError]:
    codes = _codes(exc)
    known = next((_BY_CODE[code] for code in codes if code in _BY_CODE), None)
    if known is not None:
        return known
    if status is not None:
        if status < 400:
            return e.InvalidResponseError
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        return e.ServerError if status >= 500 else e.InvalidRequestError
    known = next((_BY_ERROR_TYPE[code] for code in codes if code in _BY_ERROR_TYPE), None)
    if known is not None:
        return known
    names = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(exc).__mro__}
    if isinstance(exc, TimeoutError) or names & _TIMEOUTS:
        return e.ProviderTimeoutError
    if isinstance(exc, ConnectionError) or names & _CONNECTION_ERRORS:
        return e.NetworkError
    return e.ProviderError


def status_of(exc: BaseException) -> int | None:
    """The HTTP status of an error or a redirect (300–599) of an exception, or None.

    Searched in `status_code`, `status` and `code` (integers only), `response.status_code`, and
    botocore's `response["ResponseMetadata"]["HTTPStatusCode"]`.
    """
    for name in _STATUS_ATTRIBUTES:
        if _is_status(value := getattr(exc, name, None)):
            return value
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping):
        metadata = response.get("ResponseMetadata")
        value = metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None
    else:
        value = getattr(response, "status_code", None)
    return value if _is_status(value) else None


def _is_status(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 300 <= value <= 599


def retry_after_of(exc: BaseException) -> float | None:
    """The seconds of a Retry-After: a header in seconds, in ms or as a date, or an attribute."""
    value = getattr(exc, "retry_after", None)
    if value is not None:
        return _seconds(value)
    headers = _headers(exc)
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    header = headers.get("retry-after")
    if header is None:
        return None
    seconds = _seconds(header)
    return seconds if seconds is not None else _until(header, headers.get("date"))


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if seconds >= 0.0 else None  # never for NaN


def _until(header: str, sent: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(header)
        now = parsedate_to_datetime(sent) if sent else datetime.now(UTC)
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _headers(exc: BaseException) -> Mapping[str, str]:
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping):
        metadata = response.get("ResponseMetadata")
        headers = metadata.get("HTTPHeaders") if isinstance(metadata, Mapping) else None
    else:
        headers = getattr(response, "headers", None) or getattr(exc, "headers", None)
    if not isinstance(headers, Mapping):
        return {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _codes(exc: BaseException) -> list[str]:
    """The vendor's own code and type of the error, the code first.

    From the exception, from its body, or from the error object in that body.
    """
    inner = _error_body(exc)
    codes = (getattr(exc, "code", None), inner.get("code"), inner.get("type"))
    return [code for code in codes if isinstance(code, str)]


def refusal_of_400(exc: BaseException) -> str:
    """The codes and the message in the body of a 400; empty for anything else."""
    if status_of(exc) != 400:
        return ""
    return " ".join((*_codes(exc), str(_error_body(exc).get("message") or "")))


def message_of_400(exc: BaseException) -> str:
    """The message in the body of a 400; empty for anything else."""
    return str(_error_body(exc).get("message") or "") if status_of(exc) == 400 else ""


def _error_body(exc: BaseException) -> Mapping[str, Any]:
    """The error object in the body of an exception, or that body."""
    body = getattr(exc, "body", None)
    if body is None:
        body = getattr(exc, "details", None)  # of Google's SDK
    body = body if isinstance(body, Mapping) else {}
    inner = body.get("error")
    return inner if isinstance(inner, Mapping) else body


def _request_id(exc: BaseException) -> str | None:
    request_id = getattr(exc, "request_id", None)
    return request_id if isinstance(request_id, str) else None
