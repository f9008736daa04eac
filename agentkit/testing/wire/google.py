"""Google's Gemini API on the wire: JSON, server-sent chunks and errors."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentkit.testing.faults import Status
from agentkit.testing.wire.protocol import Answer, Event, RecordedRequest, break_sse, dump, sse
from agentkit.types import Response, ToolCall, Usage

_CALL = re.compile(
    r"/v1(?:alpha|beta)?/(?:models|tunedModels)/(?P<model>[^:/]+)"
    r":(?P<method>generateContent|streamGenerateContent)"
)
_FINISH_REASONS = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}

_ERRORS = {  # status: Google's name for it, message
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "The model is not found for this API version."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    500: ("INTERNAL", "An internal error has occurred."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "The request timed out."),
}
_CLIENT_ERROR = ("INVALID_ARGUMENT", "The request could not be served.")
_SERVER_ERROR = ("INTERNAL", "An internal error has occurred.")
_STATUSES = frozenset(status for status, _ in _ERRORS.values())
_RPC = "type.googleapis.com/google.rpc"


class GoogleGenerate:
    """The wire of ``POST /v1/models/<model>:generateContent`` and ``:streamGenerateContent``.

    Every call of a tool carries a thought signature, as those of current models do.
    """

    name = "google"
    stream_type = "text/event-stream"
    id_header = "x-request-id"

    def reads(self, method: str, path: str) -> bool:
        """Whether this generates content."""
        return method == "POST" and _CALL.fullmatch(path) is not None

    def asked(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model and streaming, both from the path."""
        found = _CALL.fullmatch(path)
        if found is None:
            return "", False
        return found["model"], found["method"] == "streamGenerateContent"

    def aside(self, method: str, path: str, models: Sequence[str]) -> Answer | None:
        """Nothing besides model calls."""
        return None

    def answer(self, request: RecordedRequest, response: Response[Any]) -> Answer:
        """A ``GenerateContentResponse`` object."""
        parts = [*_thoughts(response), *([{"text": response.text}] if response.text else [])]
        parts += [_call(call) for call in response.tool_calls]
        return Answer(200, dump(_last(request, response, parts)))

    def events(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """The same object a piece; the last one has the finish reason and the token counts."""
        for thought in _thoughts(response):
            yield Event("opening", sse(_chunk(request, [thought])))
        for piece in pieces:
            yield Event("content", sse(_chunk(request, [{"text": piece}])))
        for call in response.tool_calls:
            yield Event("content", sse(_chunk(request, [_call(call)])))
        yield Event("ending", sse(_last(request, response, [{"text": ""}])))

    def error(self, error: Status) -> Answer:
        """Google's ``{"error": {code, message, status, details}}``.

        `kind` is the status, or the reason of an ``ErrorInfo`` where no status is called so. A
        number of seconds to wait stands in a ``RetryInfo``.
        """
        return Answer(error.code, dump(_error(error)))

    def error_event(self, error: Status) -> bytes:
        """The same object as a chunk."""
        return sse(_error(error))

    def broken(self, event: bytes) -> bytes:
        """A chunk of half a JSON object."""
        return break_sse(event)


def signature_of(call: ToolCall) -> str:
    """The thought signature that travels with a call, in base64."""
    return base64.b64encode(f"thoughts before {call.name}".encode()).decode("ascii")


def _chunk(request: RecordedRequest, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}],
        "modelVersion": request.model,
        "responseId": f"response-{request.number}",
    }


def _last(
    request: RecordedRequest, response: Response[Any], parts: list[dict[str, Any]]
) -> dict[str, Any]:
    whole = _chunk(request, parts)
    reason = response.finish_reason or "stop"
    whole["candidates"][0]["finishReason"] = _FINISH_REASONS.get(reason, reason)
    return {**whole, "usageMetadata": _usage(response.usage)}


def _thoughts(response: Response[Any]) -> list[dict[str, Any]]:
    return [{"text": response.reasoning, "thought": True}] if response.reasoning else []


def _call(call: ToolCall) -> dict[str, Any]:
    """The call without its id: the API leaves it to the caller to match by name and order."""
    function = {"name": call.name, "args": dict(call.arguments)}
    return {"functionCall": function, "thoughtSignature": signature_of(call)}


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "totalTokenCount": usage.total_tokens,
    }


def _error(error: Status) -> dict[str, Any]:
    fallback = _CLIENT_ERROR if error.code < 500 else _SERVER_ERROR
    status, message = _ERRORS.get(error.code, fallback)
    details: list[dict[str, Any]] = []
    if error.kind in _STATUSES:
        status = error.kind
    elif error.kind is not None:
        details.append({"@type": f"{_RPC}.ErrorInfo", "reason": error.kind})
    if isinstance(error.retry_after, int | float):
        details.append({"@type": f"{_RPC}.RetryInfo", "retryDelay": f"{error.retry_after}s"})
    told = {"code": error.code, "message": error.message or message, "status": status}
    return {"error": {**told, "details": details} if details else told}
