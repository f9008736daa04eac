"""OpenAI's chat completions as a wire protocol: JSON, server-sent chunks, ``[DONE]`` and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentkit.testing.faults import Status
from agentkit.testing.wire.protocol import (
    Event,
    HttpResponse,
    RecordedRequest,
    corrupt_sse,
    halves,
    sse,
    to_json,
)
from agentkit.types import Response, ToolCall, Usage

_PATHS = frozenset({"/v1/chat/completions", "/openai/v1/chat/completions"})
_GROQ_PATH = "/openai/"
"""How the paths of Groq begin."""
_CREATED = 1_700_000_000  # a fixed time, so that answers can be compared

_ERRORS = {  # status: type, code, message
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Not allowed."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    503: ("server_error", "service_unavailable", "The engine is currently overloaded."),
}
_CLIENT_ERROR = ("invalid_request_error", None, "The request could not be served.")
_SERVER_ERROR = ("server_error", None, "The server had an error while processing your request.")


class OpenAIChat:
    """The protocol of ``POST /v1/chat/completions`` and ``GET /v1/models``.

    Groq's path (``/openai/v1/chat/completions``) is served, too.
    """

    name = "openai"
    stream_type = "text/event-stream; charset=utf-8"
    id_header = "x-request-id"

    def matches(self, method: str, path: str) -> bool:
        """Whether this is a chat completion."""
        return method == "POST" and path in _PATHS

    def parse_call(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model and streaming, both from the body."""
        return str(body.get("model", "")), body.get("stream") is True

    def answer_other(self, method: str, path: str, models: Sequence[str]) -> HttpResponse | None:
        """The list of models."""
        if (method, path) != ("GET", "/v1/models"):
            return None
        data = [
            {"id": name, "object": "model", "created": _CREATED, "owned_by": "agentkit"}
            for name in models
        ]
        return HttpResponse(200, to_json({"object": "list", "data": data}))

    def encode_response(self, request: RecordedRequest, response: Response[Any]) -> HttpResponse:
        """A ``chat.completion`` object."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": response.text or None if response.tool_calls else response.text,
            "refusal": None,
        }
        if response.reasoning:
            message["reasoning_content"] = response.reasoning
        if response.tool_calls:
            message["tool_calls"] = [_call(call) for call in response.tool_calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(response),
        }
        completion = {
            **_frame(request, "chat.completion"),
            "choices": [choice],
            "usage": _usage(response.usage),
        }
        return HttpResponse(200, to_json(completion))

    def encode_stream(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """``chat.completion.chunk`` objects; a usage chunk only if the request asks for it.

        Groq's last chunk has the usage in any case.
        """
        wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
        is_groq = request.path.startswith(_GROQ_PATH)
        no_usage: dict[str, Any] = {"usage": None} if wants_usage else {}
        frame = {**_frame(request, "chat.completion.chunk"), **no_usage}

        def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return sse({**frame, "choices": [choice], **more})

        yield Event("opening", chunk({"role": "assistant", "content": "", "refusal": None}))
        if response.reasoning:
            yield Event("opening", chunk({"reasoning_content": response.reasoning}))
        for piece in pieces:
            yield Event("content", chunk({"content": piece}))
        for index, call in enumerate(response.tool_calls):
            start = _call(call)
            first, second = halves(start["function"]["arguments"])
            start["function"]["arguments"] = first
            yield Event("content", chunk({"tool_calls": [{"index": index, **start}]}))
            rest = {"index": index, "function": {"arguments": second}}
            yield Event("content", chunk({"tool_calls": [rest]}))
        own = {"id": f"req_{request.number}", "usage": _usage(response.usage)}
        more = {"x_groq": own} if is_groq else {}
        yield Event("ending", chunk({}, _finish(response), **more))
        if wants_usage:
            usage = {**frame, "choices": [], "usage": _usage(response.usage)}
            yield Event("ending", sse(usage))
        yield Event("ending", b"data: [DONE]\n\n")

    def encode_error(self, error: Status) -> HttpResponse:
        """OpenAI's ``{"error": {message, type, param, code}}``; `kind` is the code."""
        return HttpResponse(error.code, to_json(error_body(error)))

    def encode_error_event(self, error: Status) -> bytes:
        """The same object as a chunk."""
        return sse(error_body(error))

    def corrupt(self, event: bytes) -> bytes:
        """A chunk of half a JSON object."""
        return corrupt_sse(event)


def _frame(request: RecordedRequest, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request.number}",
        "object": kind,
        "created": _CREATED,
        "model": request.model,
        "system_fingerprint": None,
    }


def _finish(response: Response[Any]) -> str:
    return response.finish_reason or ("tool_calls" if response.tool_calls else "stop")


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": to_json(dict(call.arguments)).decode()}
    return {"id": call.id, "type": "function", "function": function}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def error_body(error: Status) -> dict[str, Any]:
    """OpenAI's error object for an HTTP error."""
    fallback = _CLIENT_ERROR if error.code < 500 else _SERVER_ERROR
    kind, code, message = _ERRORS.get(error.code, fallback)
    return {
        "error": {
            "message": error.message or message,
            "type": kind,
            "param": None,
            "code": error.kind or code,
        }
    }
