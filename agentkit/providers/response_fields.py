"""Fields of responses that several providers share: tool calls, token counts, quotas, refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from agentkit.errors import ContentFilterError, ContextLengthError, InvalidResponseError
from agentkit.types import Quota, ToolCall, Usage

_QUOTA_HEADERS = {
    "anthropic-ratelimit-requests-limit": "requests_per_minute",
    "x-ratelimit-limit-requests": "requests_per_minute",
    "anthropic-ratelimit-input-tokens-limit": "input_tokens_per_minute",
    "anthropic-ratelimit-output-tokens-limit": "output_tokens_per_minute",
    "x-ratelimit-limit-tokens": "tokens_per_minute",
}


class ReportedError(Exception):
    """An error that the provider reported inside a response with status 200."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"the response is an error: {error.get('code') or error.get('type')}")
        self.code = error.get("code")
        self.body = {"error": dict(error)}


def refusal(model: str, usage: Usage | None = None) -> ContentFilterError:
    """The error of a model, or its provider, that declined to answer by policy."""
    error = ContentFilterError(f"{model} declined to answer")
    error.usage = usage
    return error


def check_content(
    model: str,
    finish_reason: str | None,
    *,
    answered: bool,
    reasoned: bool,
    usage: Usage | None = None,
) -> None:
    """Check that a response has content.

    `answered`: it has text, a tool call, or content of another kind. `reasoned`: it has reasoning,
    which is enough unless the token limit ended the response.

    Raises:
        InvalidResponseError: it has no content.
    """
    cut = finish_reason == "length"
    if answered or (reasoned and not cut):
        return
    if cut:
        error = InvalidResponseError(
            f"{model} reached the limit of its tokens before it answered",
            hint="raise max_tokens; reasoning counts towards it",
        )
        error.at_token_limit, error.retryable = True, False
    else:
        error = InvalidResponseError(f"{model} answered without content")
    error.usage = usage
    raise error


def prompt_too_long(model: str, *, request_id: str | None = None) -> ContextLengthError:
    """The error of a prompt that does not fit into the context window."""
    return ContextLengthError(
        f"the prompt does not fit into the context window of {model}",
        status=400,
        request_id=request_id,
        hint="shorten the prompt or add a fallback with a larger context_window",
    )


def tool_call(call_id: str | None, name: str | None, arguments: Any) -> ToolCall:
    """A tool call; one without an id gets one, since the result must refer to it.

    Raises:
        InvalidResponseError: it has no name, or its arguments are not a JSON object.
    """
    if not name:
        raise InvalidResponseError("the model called a tool without naming it")
    return ToolCall(call_id or f"call_{uuid4().hex}", name, json_arguments(arguments, name))


def json_arguments(text: Any, tool: str) -> dict[str, Any]:
    """The arguments of a tool call; an empty text means none.

    Raises:
        InvalidResponseError: they are not a JSON object.
    """
    if isinstance(text, Mapping):
        return dict(text)
    if text is None or text == "":
        return {}
    try:
        arguments = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidResponseError(
            f"the model called {tool} with arguments that are not a JSON object"
        )
    return arguments


def token_count(value: Any) -> int:
    """A token count as the provider sent it; a missing, negative or broken one counts as 0.

    Some servers send whole numbers as ``12.0`` or ``"12"``, which most SDKs convert.
    """
    if type(value) is int:
        return max(0, value)
    if isinstance(value, float) and value.is_integer():
        return max(int(value), 0)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    return 0


def quota_from_headers(headers: Mapping[str, str], *, daily_requests: bool = False) -> Quota | None:
    """The rate limits in a response's headers; None if there are none.

    `daily_requests`: the provider's ``x-ratelimit-limit-requests`` counts a day (Groq), not a
    minute, and is left out.
    """
    limits: dict[str, int] = {}
    for header, name in _QUOTA_HEADERS.items():
        value = headers.get(header)
        if value is None or name in limits:
            continue
        if daily_requests and header == "x-ratelimit-limit-requests":
            continue
        if value.isdecimal() and int(value) > 0:
            limits[name] = int(value)
    return Quota(**limits) if limits else None
