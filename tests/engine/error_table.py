"""The error table as data: what a fault means for the breaker, this model and the next one."""

from __future__ import annotations

import errno
import json
import math
import socket
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from agentkit import errors as e
from agentkit.policy.classification import Blame, Fallback, Retry
from agentkit.testing import Returns, Step, faults, overloaded, rate_limited

FAILURE, CONSECUTIVE, NEUTRAL = Blame.FAILURE, Blame.CONSECUTIVE, Blame.NEUTRAL
YES, IF_LAST, NO = Retry.AFTER_DELAY, Retry.IF_LAST_TARGET, Retry.NEVER
NEXT, RAISE, LARGER = Fallback.NEXT, Fallback.NEVER, Fallback.LARGER_CONTEXT


class Row(NamedTuple):
    """One fault, and what it must mean."""

    name: str
    step: Step
    blame: Blame
    retry: Retry
    fallback: Fallback
    error: type[e.LLMError]


class Carrying(Exception):
    """A foreign exception with attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("carries a status")
        self.__dict__.update(attributes)


class Declined(ValueError):
    """A foreign exception that says both: its type declines, its status is the server's fault."""

    status_code = 503


class Answer:
    """A client library's response object."""

    def __init__(self, status_code: int, **headers: str) -> None:
        self.status_code = status_code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def botocore(status: int) -> Carrying:
    return Carrying(response={"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {}})


def invalid() -> ValidationError:
    try:
        TypeAdapter(int).validate_python("x")
    except ValidationError as error:
        return error
    raise AssertionError


def no_socket() -> ConnectionError:
    """As an HTTP client wraps it."""
    error = ConnectionError("cannot connect")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


NOT_JSON = json.JSONDecodeError("cut", "{", 1)
NOT_TEXT = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "cut")
NO_ANSWERS: tuple[object, ...] = (None, 42, b"bytes", {})

TRANSIENT = [
    Row("refused", ConnectionRefusedError, FAILURE, YES, NEXT, e.NetworkError),
    Row("no file descriptor", no_socket(), NEUTRAL, YES, NEXT, e.NetworkError),
    Row("reset", faults.reset(), FAILURE, YES, NEXT, e.NetworkError),
    Row("disconnect", faults.disconnect(), FAILURE, YES, NEXT, e.NetworkError),
    *(
        Row(f"status {code}", faults.status(code), FAILURE, YES, NEXT, e.ServerError)
        for code in (409, 424, 425, 500, 502, 503, 504, 599)
    ),
    Row("overloaded", overloaded(), FAILURE, YES, NEXT, e.OverloadedError),
    Row("malformed body", faults.malformed_body(), FAILURE, YES, NEXT, e.ProviderError),
    *(
        Row(f"returns {value!r}", Returns(value), FAILURE, YES, NEXT, e.InvalidResponseError)
        for value in NO_ANSWERS
    ),
    Row("JSONDecodeError", NOT_JSON, FAILURE, YES, NEXT, e.ProviderError),
    Row("UnicodeDecodeError", NOT_TEXT, FAILURE, YES, NEXT, e.ProviderError),
    Row("pydantic.ValidationError", invalid(), FAILURE, YES, NEXT, e.ProviderError),
    Row(
        "RuntimeError",
        RuntimeError("timeout, 401"),
        FAILURE,
        YES,
        NEXT,
        e.ProviderError,
    ),
    Row("OSError", OSError("disk"), FAILURE, YES, NEXT, e.ProviderError),
    Row("unresolved name", socket.gaierror(), FAILURE, YES, NEXT, e.ProviderError),
    Row("StopIteration", StopIteration(), FAILURE, YES, NEXT, e.ProviderError),
    Row("our own", e.ServerError("ours"), FAILURE, YES, NEXT, e.ServerError),
]
_AT_TOKEN_LIMIT = e.InvalidResponseError("nothing but reasoning")
_AT_TOKEN_LIMIT.at_token_limit = True
SILENT = [
    Row("TimeoutError", TimeoutError(), FAILURE, IF_LAST, NEXT, e.ProviderTimeoutError),
    Row("status 408", faults.status(408), FAILURE, IF_LAST, NEXT, e.ProviderTimeoutError),
    Row("silence", faults.silence(), FAILURE, IF_LAST, NEXT, e.ProviderTimeoutError),
    Row("too slow", (math.inf, "late"), FAILURE, IF_LAST, NEXT, e.ProviderTimeoutError),
]
THROTTLED = [
    Row("no text", _AT_TOKEN_LIMIT, NEUTRAL, NO, NEXT, e.InvalidResponseError),
    Row("307", faults.status(307), FAILURE, NO, NEXT, e.InvalidResponseError),
    Row("429", rate_limited(), CONSECUTIVE, YES, NEXT, e.RateLimitError),
    Row("429 for 2 s", rate_limited(retry_after=2), NEUTRAL, YES, NEXT, e.RateLimitError),
    Row("429 for 60 s", rate_limited(retry_after=60), NEUTRAL, NO, NEXT, e.RateLimitError),
    Row(
        "429 in ms", faults.status(429, retry_after_ms=1500), NEUTRAL, YES, NEXT, e.RateLimitError
    ),
    Row(
        "Retry-After alone", Carrying(headers={"Retry-After": "2"}),
        NEUTRAL, YES, NEXT, e.RateLimitError,
    ),
]  # fmt: skip
LOCKED_OUT = [
    *(
        Row(f"status {code}", faults.status(code), FAILURE, NO, NEXT, e.AuthenticationError)
        for code in (401, 402, 403)
    ),
    Row("status 404", faults.status(404), FAILURE, NO, NEXT, e.ModelNotFoundError),
]
CALLERS_FAULT = [
    *(
        Row(f"status {code}", faults.status(code), NEUTRAL, NO, RAISE, e.InvalidRequestError)
        for code in (400, 405, 413, 418, 422)
    ),
    Row(
        "content filter", faults.status(400, kind="content_filter"),
        NEUTRAL, NO, RAISE, e.ContentFilterError,
    ),
]  # fmt: skip
TOO_LONG = [
    Row(
        "context too long", faults.status(400, kind="context_length_exceeded"),
        NEUTRAL, NO, LARGER, e.ContextLengthError,
    ),
]  # fmt: skip
OF_CALLABLES = [
    *(
        Row(kind.__name__, kind("a bug"), FAILURE, NO, NEXT, e.ProviderError)
        for kind in (
            TypeError, AttributeError, NameError, ImportError, AssertionError, NotImplementedError,
        )
    ),
    *(
        Row(kind.__name__, kind("declined"), NEUTRAL, NO, NEXT, e.ProviderError)
        for kind in (ValueError, KeyError, PermissionError)
    ),
]  # fmt: skip
CARRYING = [
    Row("status_code", Carrying(status_code=503), FAILURE, YES, NEXT, e.ServerError),
    Row(".status", Carrying(status=401), FAILURE, NO, NEXT, e.AuthenticationError),
    Row(".code", Carrying(code=422), NEUTRAL, NO, RAISE, e.InvalidRequestError),
    Row(".response", Carrying(response=Answer(404)), FAILURE, NO, NEXT, e.ModelNotFoundError),
    Row("botocore", botocore(503), FAILURE, YES, NEXT, e.ServerError),
    Row("botocore 429", botocore(429), CONSECUTIVE, YES, NEXT, e.RateLimitError),
    Row("a ValueError's status", Declined(), FAILURE, YES, NEXT, e.ServerError),
    Row(
        ".response with Retry-After", Carrying(response=Answer(429, retry_after="2")),
        NEUTRAL, YES, NEXT, e.RateLimitError,
    ),
    Row("a code that is not a status", Carrying(code=7), FAILURE, YES, NEXT, e.ProviderError),
    Row("a code that is a word", Carrying(code="503"), FAILURE, YES, NEXT, e.ProviderError),
]  # fmt: skip

TABLE = [
    *TRANSIENT, *SILENT, *THROTTLED, *LOCKED_OUT, *CALLERS_FAULT, *TOO_LONG, *OF_CALLABLES,
    *CARRYING,
]  # fmt: skip
