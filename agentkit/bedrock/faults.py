"""What the errors of the service mean, by their codes, and which feature a refusal is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agentkit import errors as e
from agentkit.bedrock.sessions import explain

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
"""By code in lower case without ``Exception``: errors of the call and of a stream are spelled
differently (``ThrottlingException``, ``throttlingException``)."""

_TOO_LONG: Final = re.compile(
    r"\A(?:.*: )?(?:Input is too long|The input is too long|prompt is too long|Too many input "
    r"tokens|Input length and `?max_tokens`? exceed|.*maximum context length)",
    re.IGNORECASE | re.DOTALL,
)
_NEEDS_PROFILE: Final = re.compile(
    r"on-demand throughput isn.t supported|with the ID or ARN of an inference profile",
    re.IGNORECASE,
)
_FEATURES: Final = (
    ("tools", r"(?:support|supports) (?:the )?tool(?: use|s|Config|Choice)|tool use (?:in|is not)"),
    ("caching", r"(?:support|supports) (?:prompt )?cach|cachePoint|cache point"),
    ("documents", r"(?:support|supports) (?:the )?document|document\S* (?:is|are) not supported"),
    ("images", r"(?:support|supports) (?:the )?image|image\S* (?:is|are) not supported"),
    ("video", r"(?:support|supports) (?:the )?video|video\S* (?:is|are) not supported"),
    (
        "additional_fields",
        r"additionalModelRequestFields|extraneous key \[|Malformed input request",
    ),
)
_UNSUPPORTED: Final = re.compile(
    r"doesn.t support|does not support|not supported|isn.t supported|unsupported|not permitted"
    r"|extraneous|Malformed input request",
    re.IGNORECASE,
)


def code_of(exc: BaseException) -> str:
    """The service's own code of an error, in lower case without ``Exception``; or ``""``."""
    response = getattr(exc, "response", None)
    error = response.get("Error") if isinstance(response, Mapping) else None
    code = error.get("Code") if isinstance(error, Mapping) else None
    return "" if not isinstance(code, str) else code.lower().removesuffix("exception")


def message_of(exc: BaseException) -> str:
    """The service's own words."""
    response: Any = getattr(exc, "response", None) or {}
    return str(response.get("Error", {}).get("Message", ""))


def needs_profile(exc: BaseException) -> bool:
    """Whether the model is reached through an inference profile only."""
    return code_of(exc) == "validation" and bool(_NEEDS_PROFILE.search(message_of(exc)))


def unsupported_feature(exc: BaseException) -> str | None:
    """The feature of a request that the model refuses, or None. Guardrails are never among them."""
    message = message_of(exc)
    if code_of(exc) != "validation" or "guardrail" in message.lower():
        return None
    if not _UNSUPPORTED.search(message):
        return None
    for feature, words in _FEATURES:
        if re.search(words, message, re.IGNORECASE):
            return feature
    return None


def translate(exc: Exception, *, model: str) -> e.LLMError | None:
    """An error of our tree for one of botocore's; None for what it did not raise."""
    known = explain(exc)
    if known is not None:
        known.__cause__ = exc
        return known
    code = code_of(exc)
    if code in _CODES:
        return _of_service(exc, code, model)
    kind = type(exc)
    if not kind.__module__.startswith(("botocore", "urllib3")):
        return None
    error: e.LLMError
    if kind.__name__ == "ParamValidationError":
        problems = str(exc).splitlines()[1:] or [str(exc)]
        error = e.RequestValidationError(
            f"the request does not match the service's model: {problems[0].strip()}",
            validation_errors=[each.strip() for each in problems],
            hint="nothing was sent; see validation_errors",
        )
    elif "Timeout" in kind.__name__:
        error = e.ProviderTimeoutError(
            f"{model} gave no answer: {kind.__name__}", provider=PROVIDER, model=model
        )
    elif kind.__name__ in ("EventStreamError", "ChecksumMismatch", "InvalidHeadersLength"):
        error = e.InvalidResponseError(
            f"{model} sent a damaged stream", provider=PROVIDER, model=model
        )
    elif code or kind.__name__ == "ClientError":
        return None
    else:
        error = e.NetworkError(
            f"{model} could not be reached: {kind.__name__}", provider=PROVIDER, model=model
        )
    error.__cause__ = exc
    return error


def _of_service(exc: Exception, code: str, model: str) -> e.ProviderError:
    kind, status = _CODES[code]
    response: Any = getattr(exc, "response", {})
    if kind is e.InvalidRequestError and _TOO_LONG.match(message_of(exc)):
        kind = e.ContextLengthError
    metadata = response.get("ResponseMetadata") or {}
    after = (metadata.get("HTTPHeaders") or {}).get("retry-after", "")
    error = kind(
        f"{model} failed: {code} ({status})",
        provider=PROVIDER,
        model=model,
        status=metadata.get("HTTPStatusCode") or status,
        request_id=metadata.get("RequestId"),
        retry_after=float(after) if str(after).isdecimal() else None,
        hint=_HINTS.get(kind),
    )
    error.__cause__ = exc
    return error


_HINTS: Final[dict[type[e.ProviderError], str]] = {
    e.AuthenticationError: "check the account's access to this model in this Region",
    e.ModelNotFoundError: "check the model's id and the Region",
    e.InvalidRequestError: "the request itself was refused; see __cause__ for the service's words",
    e.ContextLengthError: "shorten the conversation, or add a model with a larger context",
}
