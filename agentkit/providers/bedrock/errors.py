"""The errors of the service as errors of our tree, and the features that it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentkit import errors as e
from agentkit.providers.bedrock.sessions import explain
from agentkit.providers.errors import retry_after_of

PROVIDER: Final = "aws.bedrock"

_CODES: Final[dict[str, tuple[type[e.ProviderError], int]]] = {
    "throttling": (e.RateLimitError, 429),
    "requestthrottled": (e.RateLimitError, 429),
    "toomanyrequests": (e.RateLimitError, 429),
    "servicequotaexceeded": (e.RateLimitError, 429),
    "modelnotready": (e.OverloadedError, 429),
    "modeltimeout": (e.ProviderTimeoutError, 408),
    "modelerror": (e.ServerError, 424),
    "modelstreamerror": (e.ServerError, 424),
    "internalserver": (e.ServerError, 500),
    "internalservererror": (e.ServerError, 500),
    "internalfailure": (e.ServerError, 500),
    "serviceunavailable": (e.OverloadedError, 503),
    "accessdenied": (e.AuthenticationError, 403),
    "unauthorized": (e.AuthenticationError, 401),
    "resourcenotfound": (e.ModelNotFoundError, 404),
    "validation": (e.InvalidRequestError, 400),
    "conflict": (e.ServerError, 409),
}
"""By code, in lower case and without ``Exception``: calls and streams spell them differently
(``ThrottlingException``, ``throttlingException``)."""

_WRAPPED: Final = r"\A(?:The model returned the following errors: )?"
_TOO_LONG: Final = re.compile(
    r"\A(?:.*: )?\W*(?:Input is too long|The input is too long|prompt is too long|Too many input "
    r"tokens|too many total text bytes|Input length and `?max_tokens`? exceed"
    r"|.*maximum context length)",
    re.IGNORECASE | re.DOTALL,
)
_NEEDS_PROFILE: Final = re.compile(
    r"on-demand throughput isn.t supported|with the ID or ARN of an inference profile",
    re.IGNORECASE,
)
_REFUSED: Final = re.compile(
    _WRAPPED + r"(?:This|The) (?:requested )?model (?:doesn.t|does not) support (?:the )?"
    r"(?P<what>tool use|tools?|toolConfig|documents?|images?|videos?|prompt caching|caching|"
    r"cache points?|cachePoint|additionalModelRequestFields)"
    r"(?: fields?| inputs?| content| blocks?)*(?: for \w+ messages| in streaming mode)?"
    r"(?:[.,;]\s|[.,;]?\Z)",
    re.IGNORECASE,
)
_FEATURES: Final = {
    "tool": "tools",
    "document": "documents",
    "image": "images",
    "video": "video",
    "prompt": "caching",
    "cach": "caching",
    "additional": "additional_fields",
}
"""By the beginning of the word in the message."""
_EXTRA: Final = re.compile(
    r"(?:#(?P<path>[^\s:]*): )?extraneous key \[(?P<key>[^\]]+)\] is not permitted"
    r"|(?P<dotted>[\w.-]+): Extra inputs are not permitted",
    re.IGNORECASE,
)
"""Sentences of recorded responses: the service has no code for an unsupported feature. One that
names a detail (``toolConfig.toolChoice.any``) or a schema is about an invalid request."""


class Refusal(NamedTuple):
    """A feature that a model refuses; for additional fields, which ones (empty: all of them)."""

    feature: str
    fields: tuple[str, ...] = ()


def code_of(exc: BaseException) -> str:
    """The service's code of an error, in lower case and without ``Exception``; or ``""``."""
    response = getattr(exc, "response", None)
    error = response.get("Error") if isinstance(response, Mapping) else None
    code = error.get("Code") if isinstance(error, Mapping) else None
    return "" if not isinstance(code, str) else code.lower().removesuffix("exception")


def message_of(exc: BaseException) -> str:
    """The service's message."""
    response: Any = getattr(exc, "response", None) or {}
    return str(response.get("Error", {}).get("Message", ""))


def needs_profile(exc: BaseException) -> bool:
    """Whether the model can be reached through an inference profile only."""
    return code_of(exc) == "validation" and bool(_NEEDS_PROFILE.search(message_of(exc)))


def refused_feature(exc: BaseException, arguments: Mapping[str, Any]) -> Refusal | None:
    """The feature of `arguments` that the model refuses, if any; never a guardrail."""
    message = message_of(exc)
    if code_of(exc) != "validation" or "guardrail" in message.lower():
        return None
    if found := _REFUSED.match(message):
        what = found["what"].lower()
        return Refusal(next(name for word, name in _FEATURES.items() if what.startswith(word)))
    given = arguments.get("additionalModelRequestFields") or {}
    named = tuple(dict.fromkeys(map(_outermost, _EXTRA.finditer(message))))
    if named and all(name in given for name in named):
        return Refusal("additional_fields", named)
    return None


def _outermost(found: re.Match[str]) -> str:
    if found["dotted"]:
        return found["dotted"].partition(".")[0]
    inside = (found["path"] or "").strip("/")
    return inside.partition("/")[0] or found["key"]


_DAMAGED: Final = {
    *("EventStreamError", "ParserError", "ResponseParserError"),
    *("MalformedResponseError", "MalformedBodyError"),
}
_NATIVE: Final = "agentkit.providers.transport.http"
_VALUE: Final = re.compile(r"(Invalid type for parameter [^\n]*?, )value: .*?, type:", re.DOTALL)
"""The validator quotes the value of the caller, which no message may contain."""


def translate(exc: Exception, *, model: str) -> e.LLMError | None:
    """The error of our tree for one of botocore's or of the native transport; None for any other.

    What the general rules know of the native transport's is left to them.
    """
    known = explain(exc)
    if known is not None:
        known.__cause__ = exc
        return known
    code = code_of(exc)
    if code in _CODES:
        return _of_service(exc, code, model)
    kind = type(exc)
    ancestors = {each.__name__ for each in kind.__mro__}
    if not kind.__module__.startswith(("botocore", "urllib3", _NATIVE)):
        return None
    error: e.LLMError
    if "ParamValidationError" in ancestors:
        error = _of_validator(exc)
    elif ancestors & _DAMAGED:
        error = e.InvalidResponseError(
            f"{model} sent an invalid response: {kind.__name__}", provider=PROVIDER, model=model
        )
    elif "UnsendableHeaderError" in ancestors:
        error = e.AuthenticationError(
            f"the credentials for {model} cannot be sent: {exc}",
            provider=PROVIDER,
            model=model,
            hint="they contain a line break or another character that no header may have",
        )
    elif kind.__module__.startswith(_NATIVE):
        return None
    elif "Timeout" in kind.__name__:
        error = e.ProviderTimeoutError(
            f"{model} did not answer: {kind.__name__}", provider=PROVIDER, model=model
        )
    elif "ClientError" in ancestors:
        return None
    else:
        error = e.NetworkError(
            f"the connection to {model} failed: {kind.__name__}", provider=PROVIDER, model=model
        )
    error.__cause__ = exc
    return error


def _of_validator(exc: Exception) -> e.RequestValidationError:
    report = _VALUE.sub(r"\1type:", str(exc))
    problems = [each.strip() for each in report.splitlines()[1:]] or [report]
    return e.RequestValidationError(
        f"the request does not match the service's schema: {problems[0]}",
        validation_errors=problems,
        hint="nothing was sent; see validation_errors",
    )


def _of_service(exc: Exception, code: str, model: str) -> e.ProviderError:
    kind, status = _CODES[code]
    response: Any = getattr(exc, "response", {})
    if kind is e.InvalidRequestError and _TOO_LONG.match(message_of(exc)):
        kind = e.ContextLengthError
    metadata = response.get("ResponseMetadata") or {}
    error = kind(
        f"{model} failed: {code} ({status})",
        provider=PROVIDER,
        model=model,
        status=metadata.get("HTTPStatusCode") or status,
        request_id=metadata.get("RequestId"),
        retry_after=retry_after_of(exc),
        hint=_HINTS.get(kind),
    )
    error.__cause__ = exc
    return error


_HINTS: Final[dict[type[e.ProviderError], str]] = {
    e.AuthenticationError: "check the account's access to this model in this Region",
    e.ModelNotFoundError: "check the model's id and the Region",
    e.InvalidRequestError: "the request was refused; see __cause__ for the service's message",
    e.ContextLengthError: "shorten the conversation, or add a model with a larger context",
}


def invalid(problem: str, hint: str | None = None) -> e.RequestValidationError:
    """The error for one violation found before anything is sent."""
    return e.RequestValidationError(problem, validation_errors=[problem], hint=hint)
