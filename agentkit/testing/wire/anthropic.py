"""Anthropic's messages as a wire protocol: JSON, named server-sent events and errors."""

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

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

_ERRORS = {  # status: type, message
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low"),
    403: ("permission_error", "Your API key may not use the specified resource"),
    404: ("not_found_error", "The requested resource could not be found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_CLIENT_ERROR = ("invalid_request_error", "The request could not be served")
_SERVER_ERROR = ("api_error", "Internal server error")


class AnthropicMessages:
    """The protocol of ``POST /v1/messages``."""

    name = "anthropic"
    stream_type = "text/event-stream; charset=utf-8"
    id_header = "request-id"

    def matches(self, method: str, path: str) -> bool:
        """Whether this creates a message."""
        return (method, path) == ("POST", "/v1/messages")

    def parse_call(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        """Model and streaming, both from the body."""
        return str(body.get("model", "")), body.get("stream") is True

    def answer_other(self, method: str, path: str, models: Sequence[str]) -> HttpResponse | None:
        """None: this API has model calls only."""
        return None

    def encode_response(self, request: RecordedRequest, response: Response[Any]) -> HttpResponse:
        """A ``message`` object."""
        thought = {"type": "thinking", "thinking": response.reasoning, "signature": "signed"}
        thoughts = [thought] if response.reasoning else []
        text = [{"type": "text", "text": response.text}] if response.text else []
        calls = [{**_block(call), "input": dict(call.arguments)} for call in response.tool_calls]
        return HttpResponse(200, to_json(_message(request, response, [*thoughts, *text, *calls])))

    def encode_stream(
        self, request: RecordedRequest, response: Response[Any], pieces: Sequence[str]
    ) -> Iterator[Event]:
        """``message_start``, the content blocks, ``message_delta`` and ``message_stop``.

        The start of a block travels with its first piece, its stop with what follows the last one.
        """
        start = {
            **_message(request, response, []),
            "stop_reason": None,
            "usage": {**_usage(response.usage), "output_tokens": 1},
        }
        yield Event("opening", _named("message_start", message=start))
        yield Event("opening", _named("ping"))
        stops: list[bytes] = []
        for index, (block, deltas) in enumerate(_blocks(response, pieces)):
            opening = _named("content_block_start", index=index, content_block=block)
            lead = b"".join([*stops, opening])
            for delta in deltas:
                content = _named("content_block_delta", index=index, delta=delta)
                yield Event("content", lead + content)
                lead = b""
            stops = [_named("content_block_stop", index=index)]
        for stop in stops:
            yield Event("ending", stop)
        reason = {"stop_reason": _stop_reason(response), "stop_sequence": None}
        usage = {"output_tokens": response.usage.output_tokens}
        yield Event("ending", _named("message_delta", delta=reason, usage=usage))
        yield Event("ending", _named("message_stop"))

    def encode_error(self, error: Status) -> HttpResponse:
        """Anthropic's ``{"type": "error", "error": {type, message}}``; `kind` is the type."""
        return HttpResponse(error.code, to_json({"type": "error", **_error(error)}))

    def encode_error_event(self, error: Status) -> bytes:
        """The same object as an ``error`` event."""
        return _named("error", **_error(error))

    def corrupt(self, event: bytes) -> bytes:
        """An event of half a JSON object."""
        return corrupt_sse(event)


def _named(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, event=kind)


def _message(
    request: RecordedRequest, response: Response[Any], content: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": f"msg_{request.number}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": _stop_reason(response),
        "stop_sequence": None,
        "usage": _usage(response.usage),
    }


def _blocks(
    response: Response[Any], pieces: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[dict[str, str]]]]:
    if response.reasoning:
        thought = {"type": "thinking_delta", "thinking": response.reasoning}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [thought]
    if pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        yield {"type": "text", "text": ""}, deltas
    for call in response.tool_calls:
        parts = halves(to_json(dict(call.arguments)).decode())
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        yield {**_block(call), "input": {}}, deltas


def _block(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _stop_reason(response: Response[Any]) -> str:
    reason = response.finish_reason or ("tool_calls" if response.tool_calls else "stop")
    return _STOP_REASONS.get(reason, reason)


def _usage(usage: Usage) -> dict[str, int]:
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return {
        "input_tokens": usage.input_tokens - cached,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


def _error(error: Status) -> dict[str, Any]:
    fallback = _CLIENT_ERROR if error.code < 500 else _SERVER_ERROR
    kind, message = _ERRORS.get(error.code, fallback)
    return {"error": {"type": error.kind or kind, "message": error.message or message}}
