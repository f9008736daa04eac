"""Google's Gemini API as a wire protocol: JSON, server-sent chunks and errors."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentkit.testing.faults import Status
from agentkit.testing.wire.protocol import (
    Event,
    HttpResponse,
    RecordedRequest,
    corrupt_sse,
    sse,
    to_json,
)
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
    """The protocol of ``POST /v1/models/<model>:generateContent`` and ``:streamGenerateContent``.

    Every tool call has a thought signature, as with current models.
    """

    name = "google"
    stream_type = "text/event-stream"
    id_header = "x-request-id"

    def matches(self, method: str, path: str) -> bool:
        """Whether this generates content."""
        return method == "POST" and _CALL.fullmatch(path) is not None

    def parse_call(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model and streaming, both from the path."""
        found = _CALL.fullmatch(path)
        if found is None:
            return "", False
        return found["model"], found["method"] == "streamGenerateContent"

    def answer_other(self, method: str, path: str, models: Sequence[str]) -> HttpResponse | None:
        """None: this API has model calls only."""
        return None

    def encode_response(self, request: RecordedRequest, response: Response[Any]) -> HttpResponse:
        """A ``GenerateContentResponse`` object."""
        parts = [*_thoughts(response), *([{"text": response.text}] if response.text else [])]
        parts += [_call(call) for call in response.tool_calls]
        return HttpResponse(200, to_json(_last(request, response, parts)))

    def encode_stream(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """The same object for each piece; the last has the finish reason and the token counts."""
        for thought in _thoughts(response):
            yield Event("opening", sse(_chunk(request, [thought])))
        for piece in pieces:
            yield Event("content", sse(_chunk(request, [{"text": piece}])))
        for call in response.tool_calls:
            yield Event("content", sse(_chunk(request, [_call(call)])))
        yield Event("ending", sse(_last(request, response, [{"text": ""}])))

    def encode_error(self, error: Status) -> HttpResponse:
        """Google's ``{"error": {code, message, status, details}}``.

        `kind` is the status, or the reason of an ``ErrorInfo`` if there is no such status. A number
        of seconds to wait is in a ``RetryInfo``.
        """
        return HttpResponse(error.code, to_json(_error(error)))

    def encode_error_event(self, error: Status) -> bytes:
        """The same object as a chunk."""
        return sse(_error(error))

    def corrupt(self, event: bytes) -> bytes:
        """A chunk of half a JSON object."""
        return corrupt_sse(event)


def signature_of(call: ToolCall) -> str:
    """The thought signature of a call, in base64."""
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
    last = _chunk(request, parts)
    reason = response.finish_reason or "stop"
    last["candidates"][0]["finishReason"] = _FINISH_REASONS.get(reason, reason)
    return {**last, "usageMetadata": _usage(response.usage)}


def _thoughts(response: Response[Any]) -> list[dict[str, Any]]:
    return [{"text": response.reasoning, "thought": True}] if response.reasoning else []


def _call(call: ToolCall) -> dict[str, Any]:
    """The call without an id: the API lets the caller match it by name and order."""
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
    body: dict[str, Any] = {
        "code": error.code,
        "message": error.message or message,
        "status": status,
    }
    return {"error": {**body, "details": details} if details else body}
